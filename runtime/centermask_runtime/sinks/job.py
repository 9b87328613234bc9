# SPDX-License-Identifier: Apache-2.0
"""A job over many images that can be stopped and gone on with: what was done, by which model, and with what options.

In the hidden folder `.centermask` of its output a job keeps job.json, its terms, and done.jsonl, a line per image with
all that was found in it. When the job goes on, files of images that are done stay as they are, and files of all frames
are written anew from those lines. An image whose file was changed since is not done.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import UsageError, shown
from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import write_whole, writing_error
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.output_folder import LOCK
from centermask_runtime.sinks.sink import FileSink, Sink
from centermask_runtime.sources.source import Frame
from centermask_runtime.spec import ModelSpec

FOLDER, TERMS, DONE = ".centermask", "job.json", "done.jsonl"
NO_IMAGE = np.zeros((1, 1, 3), np.uint8)


class Job:
    """What is known of a job in a folder, which somebody has locked.

    terms: what its results depend on, in words and numbers; a job goes on only on the same terms.
    """

    def __init__(self, folder: str | Path, terms: Mapping[str, Any]) -> None:
        """Raises UsageError where the folder's job has other terms, or where it has results of no job."""
        self.folder, self.terms = Path(folder), json.loads(json.dumps(dict(terms)))
        self._terms_file, self._done_file = (self.folder / FOLDER / name for name in (TERMS, DONE))
        self.is_finished = False
        if self._terms_file.is_file():
            self._compare()
        else:
            self._begin()
        self._places: dict[str, tuple[int, list[int]]] = {}  # of a frame's name: its line, and its file as it was
        self._read()

    def done(self, files: Mapping[str, Path]) -> frozenset[str]:
        """Which of these frames, each with its file, are done."""
        return frozenset(
            name for name, path in files.items() if name in self._places and self._places[name][1] == _stamp(path)
        )

    def finish(self) -> None:
        """Notes that all was done."""
        self._write_terms(is_finished=True)

    def results(self, names: frozenset[str], spec: ModelSpec) -> Iterator[tuple[Frame, Instances]]:
        """What was found in each of these frames, which have no picture; in the order in which it was found."""
        with self._done_file.open("rb") as file:
            for name, (place, _) in sorted(self._places.items(), key=lambda entry: entry[1][0]):
                if name in names:
                    file.seek(place)
                    entry = json.loads(file.readline())
                    yield Frame(NO_IMAGE, name, entry["index"], None), _unpacked(entry, spec)

    def sink(self, names: frozenset[str], spec: ModelSpec, sinks: list[Sink]) -> JobSink:
        """The sink that comes last, after those of files of all frames, which get what was done before."""
        return JobSink(self._done_file, self.results(names, spec), sinks)

    def _compare(self) -> None:
        try:
            written = json.loads(self._terms_file.read_text())
            before = written["terms"]
            self.is_finished = bool(written["finished"])
            self._done_file.touch()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self._terms_file} cannot be read: remove its folder, or choose another output."
            ) from error
        for key in [*self.terms, *(key for key in before if key not in self.terms)]:
            if before.get(key) != self.terms.get(key):
                raise UsageError(
                    f"The job in {shown(self.folder)} was begun with {key} {_said(before.get(key))}, and now it is "
                    f"{_said(self.terms.get(key))}: go on as it was begun, or choose another output."
                )

    def _begin(self) -> None:
        if any(path.name not in (LOCK, FOLDER) for path in self.folder.iterdir()):
            raise UsageError(
                f"{shown(self.folder)} holds files, and not those of a job that can be gone on with: "
                "choose another output."
            )
        self._write_terms(is_finished=False)
        write_whole(self._done_file, b"")

    def _write_terms(self, *, is_finished: bool) -> None:
        content = json.dumps({"terms": self.terms, "finished": is_finished}, indent=1) + "\n"
        write_whole(self._terms_file, content.encode())

    def _read(self) -> None:
        """Finds the lines. A torn one at the end is cut off."""
        with self._done_file.open("r+b") as file:
            place = 0
            for line in file:
                if not line.endswith(b"\n"):
                    break
                entry = json.loads(line)
                self._places[entry["frame"]] = place, entry["file"]
                place += len(line)
            file.truncate(place)


class JobSink(FileSink):
    """A Sink that notes what is done, after all other sinks have it."""

    def __init__(self, path: Path, before: Iterator[tuple[Frame, Instances]], sinks: list[Sink]) -> None:
        """before: what was done, given to the sinks of files of all frames. Raises what they raise."""
        self.style: DrawStyle | None = None
        self._path = path
        for frame, instances in before:
            for sink in sinks:
                sink.add(frame, instances)
        self._file = path.open("ab", buffering=0)

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        """One frame is done. Raises CenterMaskError, as when the disk is full."""
        if frame.file is None:
            return
        content = memoryview((json.dumps(_packed(frame, instances)) + "\n").encode())
        try:
            while len(content):
                content = content[self._file.write(content) :]
        except OSError as error:
            raise writing_error(self._path, error) from error

    def close(self) -> None:
        """What is noted stays."""
        self._file.close()

    def discard(self) -> None:
        """What is noted stays: it is done, whatever came later."""
        self._file.close()


def model_digest(path: Path) -> str:
    """SHA-256 of a model's files: of an OpenVINO model, also of the .bin beside its .xml."""
    if path.is_dir():
        path = next(iter(sorted(path.glob("*.xml"))), path)
    parts = [path, *([path.with_suffix(".bin")] if path.suffix == ".xml" else [])]
    return " ".join(sha256_of(part) for part in parts if part.is_file())


def _packed(frame: Frame, instances: Instances) -> dict[str, Any]:
    """A frame's results without any loss."""
    assert frame.file is not None, frame.name
    return {
        "frame": frame.name,
        "index": frame.index,
        "file": _stamp(frame.file),
        "size": list(instances.frame_hw),
        "boxes": instances.boxes.tolist(),
        "scores": instances.scores.tolist(),
        "labels": instances.labels.tolist(),
        "ids": None if instances.ids is None else instances.ids.tolist(),
        "rects": instances.masks.rects.tolist(),
        "masks": [base64.b64encode(packed.tobytes()).decode() for packed in instances.masks.packed],
    }


def _unpacked(entry: Mapping[str, Any], spec: ModelSpec) -> Instances:
    size = entry["size"][0], entry["size"][1]
    rects = np.array(entry["rects"], np.int32).reshape(-1, 4)
    packed = []
    for (x0, y0, x1, y1), text in zip(rects.tolist(), entry["masks"], strict=True):
        rows, bits = max(y1 - y0, 0), np.frombuffer(base64.b64decode(text), np.uint8)
        packed.append(bits.reshape(rows, (max(x1 - x0, 0) + 7) // 8))
    return Instances(
        size,
        np.array(entry["boxes"], np.float32).reshape(-1, 4),
        np.array(entry["scores"], np.float32),
        np.array(entry["labels"], np.int32),
        BoxMasks(size, rects, tuple(packed)),
        tuple(spec.class_names),
        tuple(spec.category_ids),
        None if entry["ids"] is None else np.array(entry["ids"], np.int64),
    )


def _stamp(path: Path) -> list[int]:
    """What tells a file from a later one of the same name; nothing where there is none."""
    try:
        stat = path.stat()
    except OSError:
        return []
    return [stat.st_size, stat.st_mtime_ns]


def _said(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:16]}..."
