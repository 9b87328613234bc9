# SPDX-License-Identifier: Apache-2.0
"""Four RTSP cameras at once while one is killed and comes back larger, one stalls, and one loses pictures.

Each camera is a process of its own (benchmarks/rtsp_server.py) of one colour, so that each frame tells whose it is. All
share one network. A quarter of the time after the start the first is killed and started again with another size; half
of the time after it the second is stopped for longer than the time-out; the third loses 5 % of its pictures all the
time; the fourth is left alone. Reported: for each stream its frames, drops, connections and longest gap; frames that
were attributed to another stream; memory. It ends by an error where a stream did not come back, one that was left alone
had a gap of over two seconds, or a frame was another's.

    python -m benchmarks.streams --minutes 10
"""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.memory import resident_mb
from benchmarks.python_api import export_dynamic
from centermask_runtime.closing import AllOrNothing
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.opening import open_pipeline
from centermask_runtime.predict import run
from centermask_runtime.sources.options import SourceOptions
from centermask_runtime.sources.source import Frame
from centermask_runtime.sources.streams import StreamsSource

SERVER = Path(__file__).with_name("rtsp_server.py")
COLOURS = {"killed": (0, 0, 255), "stalled": (0, 255, 0), "lossy": (255, 0, 0), "left alone": (0, 255, 255)}  # BGR
STALL_S = 4.0
QUIET_S = 2.0  # the longest gap of a stream that nobody disturbs
FPS = 10


class Camera:
    """A server process."""

    def __init__(self, place: int, port: int, python: str) -> None:
        self.name, self._colour = list(COLOURS.items())[place]
        self.port, self._python = port + place, python
        self.start()

    def start(self, size: str = "320x240") -> None:
        """Raises CalledProcessError where it does not begin."""
        blue, green, red = self._colour
        loss = "0.05" if self.name == "lossy" else "0"
        command = [self._python, str(SERVER), "--port", str(self.port), "--size", size, "--fps", str(FPS)]
        command += ["--colour", f"0xff{red:02x}{green:02x}{blue:02x}", "--loss", loss]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "READY":
            raise subprocess.CalledProcessError(self._process.wait(), command)

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        self.tell(signal.SIGCONT)
        self._process.kill()
        self._process.wait()

    @property
    def url(self) -> str:
        return f"rtsp://127.0.0.1:{self.port}/camera"


@dataclasses.dataclass
class Seen:
    """What came of a stream."""

    frames: int = 0
    of_others: int = 0
    longest_gap_s: float = 0.0
    last_s: float | None = None
    sizes: list[str] = dataclasses.field(default_factory=list)


class Watch(AllOrNothing):
    """A Sink that looks at each frame."""

    style = None

    def __init__(self, names: list[str]) -> None:
        self.seen = {name: Seen() for name in names}
        self._colours = dict(zip(names, COLOURS.values(), strict=True))

    def add(self, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None = None) -> None:
        assert frame.source is not None
        seen, now = self.seen[frame.source.name], time.monotonic()
        mean = frame.image.reshape(-1, 3).mean(axis=0)
        nearest = min(COLOURS.values(), key=lambda colour: float(np.abs(mean - colour).sum()))
        seen.of_others += nearest != self._colours[frame.source.name]
        seen.frames += 1
        if seen.last_s is not None:
            seen.longest_gap_s = max(seen.longest_gap_s, now - seen.last_s)
        seen.last_s = now
        size = f"{frame.image.shape[1]} x {frame.image.shape[0]}"
        if size not in seen.sizes:
            seen.sizes.append(size)

    def close(self) -> None: ...

    def discard(self) -> None: ...


def disturb(cameras: list[Camera], seconds: float, ended: threading.Event) -> None:
    """Kills the first camera and stalls the second, each when it is time."""
    if ended.wait(seconds / 4):
        return
    cameras[0].stop()
    if not ended.wait(3):
        cameras[0].start("640x480")
    if ended.wait(seconds / 4):
        return
    cameras[1].tell(signal.SIGSTOP)
    ended.wait(2 * STALL_S)
    cameras[1].tell(signal.SIGCONT)


def tell(text: str) -> None:
    """What streams say, as it happens."""
    print(text, flush=True)


@click.command(help=__doc__)
@click.option("--minutes", default=10.0, type=click.FloatRange(0.5), show_default=True)
@click.option("--port", default=8554, show_default=True, help="The first of four.")
@click.option("--python", default="/usr/bin/python3", show_default=True, help="The one that has GStreamer.")
@click.option("--transport", type=click.Choice(["tcp", "udp"]), default="tcp", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as one JSON line, last.")
def main(minutes: float, port: int, python: str, transport: str, as_json: bool) -> None:
    seconds, ended = minutes * 60, threading.Event()
    cameras: list[Camera] = []
    options = SourceOptions(end=seconds, stall=STALL_S, transport=transport, notice=tell)  # type: ignore[arg-type]
    memory: list[float] = []
    try:
        cameras += (Camera(place, port, python) for place in range(len(COLOURS)))
        with (
            tempfile.TemporaryDirectory() as folder,
            open_pipeline(export_dynamic(Path(folder), 96)) as pipeline,
            StreamsSource([camera.url for camera in cameras], options) as source,
        ):
            watch = Watch([part.name for part in source.info.parts])
            threading.Thread(target=disturb, args=(cameras, seconds, ended), daemon=True).start()
            run(pipeline, source, [watch], progress=lambda _: memory.append(resident_mb()))
            states = source.states
    finally:
        ended.set()
        for camera in cameras:
            camera.stop()
    table = Table("stream", "frames", "dropped", "damaged", "connections", "longest gap, s", "sizes", "of others")
    failures = []
    for camera, state, seen in zip(cameras, states, watch.seen.values(), strict=True):
        table.add_row(
            camera.name, str(seen.frames), str(state.dropped), str(state.damaged), str(state.connections),
            f"{seen.longest_gap_s:.2f}", ", ".join(seen.sizes), str(seen.of_others),
        )  # fmt: skip
        if seen.of_others:
            failures.append(f"{seen.of_others} frames of the stream '{camera.name}' show another's colour")
        if camera.name in ("left alone", "lossy") and seen.longest_gap_s > QUIET_S:
            failures.append(f"the stream '{camera.name}' had a gap of {seen.longest_gap_s:.1f} s")
        if camera.name in ("killed", "stalled") and state.connections < 2:
            failures.append(f"the stream '{camera.name}' did not come back")
    if "640 x 480" not in next(iter(watch.seen.values())).sizes:
        failures.append("the killed stream did not come back larger")
    Console(width=120).print(table)
    half = memory[len(memory) // 2 :]
    print(f"resident memory, second half: {min(half):.0f} to {max(half):.0f} MB")
    if as_json:
        found = {camera.name: vars(seen) for camera, seen in zip(cameras, watch.seen.values(), strict=True)}
        print(json.dumps({"streams": found, "memory_mb": [min(half), max(half)], "failures": failures}))
    if failures:
        raise SystemExit("; ".join(failures))


if __name__ == "__main__":
    main()
