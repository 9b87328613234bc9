# SPDX-License-Identifier: Apache-2.0
"""The kinds of results, what each is called in the folder of a run, and the sinks that write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle
from centermask_runtime.sinks.by_source import BySourceSink
from centermask_runtime.sinks.coco_json import CocoSink
from centermask_runtime.sinks.codecs import DEFAULT_CODEC
from centermask_runtime.sinks.counts_csv import CountsSink
from centermask_runtime.sinks.csv_table import CsvSink
from centermask_runtime.sinks.cutouts import CutoutSink
from centermask_runtime.sinks.geojson import GeoJsonSink
from centermask_runtime.sinks.json_lines import JsonLinesSink
from centermask_runtime.sinks.mask_pictures import MaskSink
from centermask_runtime.sinks.output_folder import LockSink
from centermask_runtime.sinks.pictures import PictureSink
from centermask_runtime.sinks.sink import Sink
from centermask_runtime.sinks.tracked import Tracked, TrackedSink
from centermask_runtime.sinks.video import VideoSink
from centermask_runtime.sinks.yolo_labels import YoloSink
from centermask_runtime.sources.source import SourceInfo
from centermask_runtime.spec import ModelSpec

KINDS = {  # of results -> where they are in the folder
    "coco": "predictions.json",
    "jsonl": "predictions.jsonl",
    "csv": "predictions.csv",
    "yolo": "labels",
    "masks": "masks",
    "crops": "crops",
    "geojson": "polygons",
}
SINKS_OF_ALL = (CocoSink, JsonLinesSink, CsvSink)  # that write one file of all frames
COUNTS = "counts.csv"
ON_STDOUT = ("jsonl", "csv")
DEFAULT_RESULTS = ("coco",)


@dataclass(frozen=True)
class Outputs:
    """What a run writes. Raises UsageError for a kind of results that there is not."""

    results: tuple[str, ...] = DEFAULT_RESULTS  # of KINDS
    style: DrawStyle | None = DEFAULT_STYLE  # how pictures and videos are drawn; None for none of them
    codec: str = DEFAULT_CODEC  # of videos
    tracked: Tracked | None = None  # what of tracks is drawn; its zones and lines get a counts.csv

    def __post_init__(self) -> None:
        for kind in self.results:
            if kind not in KINDS:
                raise UsageError(f"There are no results of the kind {kind!r}; {did_you_mean(str(kind), KINDS)}")

    @classmethod
    def of(
        cls,
        results: str | Iterable[str] | None,
        style: DrawStyle | None = DEFAULT_STYLE,
        codec: str = DEFAULT_CODEC,
        tracked: Tracked | None = None,
    ) -> Outputs:
        """results: kinds, also as one text with commas; None, "none" or "" for no results."""
        kinds = [kind.strip() for kind in results.split(",")] if isinstance(results, str) else list(results or ())
        chosen = tuple(dict.fromkeys(kind for kind in kinds if kind not in ("", "none")))
        return cls(chosen, style, codec, tracked)


def sinks_of(folder: Path, source: SourceInfo, spec: ModelSpec, outputs: Outputs) -> Iterator[Sink]:
    """The sinks of a folder, made as they are asked for; the first keeps other runs out of it until all are done.

    Raises UsageError where one would overwrite the source, or another run writes into the folder, DataError for a
    region's class that the model has not.
    """
    check_regions(spec, outputs)
    yield LockSink(folder)
    yield from result_sinks(folder, source, spec, outputs)


def result_sinks(folder: Path, source: SourceInfo, spec: ModelSpec, outputs: Outputs) -> Iterator[Sink]:
    """The sinks of a folder that is locked already. Raises UsageError, DataError as sinks_of."""
    check_regions(spec, outputs)
    tracked = outputs.tracked
    if outputs.style is not None:
        pictures = _pictures(folder, source, outputs.style, outputs.codec)
        yield pictures if tracked is None else TrackedSink(pictures, tracked, spec.class_names)
    for kind in outputs.results:
        place = folder / KINDS[kind]
        if kind == "coco":
            yield CocoSink(place, spec.class_names, spec.category_ids)
        elif kind == "yolo":
            yield YoloSink(place, spec.class_names, source)
        elif kind in ON_STDOUT:
            yield text_sink(kind, place)
        elif kind == "masks":
            yield MaskSink(place, source)
        elif kind == "crops":
            yield CutoutSink(place, source)
        else:
            assert kind == "geojson", kind
            yield GeoJsonSink(place, source)
    if tracked is not None and tracked.regions is not None:
        yield CountsSink(folder / COUNTS, tracked.regions, spec.class_names, every_s=tracked.counts_every_s)


def check_regions(spec: ModelSpec, outputs: Outputs) -> None:
    """Raises DataError for a region's class that the model has not, before there is any file."""
    if outputs.tracked is not None and outputs.tracked.regions is not None:
        outputs.tracked.regions.check_classes(spec.class_names)


def _pictures(folder: Path, source: SourceInfo, style: DrawStyle, codec: str) -> Sink:
    if source.is_mixed or source.is_live:
        return BySourceSink(folder, source, style, codec=codec)
    if source.is_video:
        return VideoSink(folder / f"{source.name}.mp4", source, style, codec=codec)
    return PictureSink(folder, source, style)


def text_sink(kind: str, path: Path | None) -> Sink:
    """The sink of a kind that is written line by line. path: None for the standard output. Raises UsageError."""
    if kind not in ON_STDOUT:
        raise UsageError(
            f"Results of the kind {kind!r} do not fit into one stream of text: choose {' or '.join(ON_STDOUT)}."
        )
    return JsonLinesSink(path) if kind == "jsonl" else CsvSink(path)
