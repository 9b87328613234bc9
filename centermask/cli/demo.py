# SPDX-License-Identifier: Apache-2.0
"""`centermask demo`: the whole way of the released models on the bundled samples."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from centermask.cli.options import require_export
from centermask.cli.tables import bar, outputs_table, speed_table
from centermask.evaluation.pictures import contact_sheet
from centermask.opening import find_model
from centermask_runtime.errors import DataError
from centermask_runtime.images import image_files, read_image, write_picture
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.predict import Summary, run
from centermask_runtime.reference.overlay import DEFAULT_STYLE, DrawStyle
from centermask_runtime.sinks.outputs import KINDS, Outputs, sinks_of
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.video import VideoSource
from centermask_runtime.speed import measure

TIMED = 100  # frames of a measurement


@dataclass(frozen=True)
class Show:
    """What the demo shows of one released model."""

    model: str
    objects: str  # what it finds, in words
    clip: str
    images: str | None = None  # a folder
    style: DrawStyle = DEFAULT_STYLE


SHOWS = (
    Show("nuclei_dla_46c", "nuclei", "nuclei_scan.mp4", "images", DrawStyle(boxes=False, labels=False)),
    Show("person_mobilenet_v2_fpn", "persons", "person.mp4"),
)


@click.command()
@click.option("--samples", type=click.Path(path_type=Path), default=Path("samples"), show_default=True, help="Folder.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Folder.")
def demo(samples: Path, output: Path) -> None:
    """Take the released models all the way on the sample pictures.

    Exports each to ONNX, segments its sample images and clip, and measures the speed.
    """
    if not all((samples / show.clip).is_file() and (samples / (show.images or "")).is_dir() for show in SHOWS):
        raise DataError(
            f"The samples are not in {samples}; run the demo in a checkout, or name them by --samples FOLDER."
        )
    require_export()
    console = Console()
    console.print(f"{len(SHOWS)} models: an export, samples and a measurement of each; some minutes on a CPU.")
    pictures = [picture for show in SHOWS for picture in _show(show, samples, output, console)]
    sheet = output / "contact_sheet.png"
    write_picture(sheet, contact_sheet(pictures))
    console.print(f"\nPictures: {sheet}")
    for show in SHOWS:
        console.print(f"Video:    {output / show.objects / show.clip}, with {KINDS['coco']} (COCO)")


def _show(show: Show, samples: Path, output: Path, console: Console) -> list[Any]:
    """Takes one model all the way. Returns pictures of what it found."""
    from centermask_export.from_weights import export_checked  # needs torch

    console.rule(show.objects.capitalize())
    artefact = output / f"{show.model}.onnx"
    report = export_checked(find_model(show.model), artefact)
    console.print(outputs_table(report, artefact))
    pictures: list[Any] = []
    with Pipeline(OnnxRuntimeNetwork(artefact)) as pipeline:
        if show.images is not None:
            folder = output / show.images
            found = _segment(pipeline, samples / show.images, folder, show.style)
            console.print(f"{found.objects} {show.objects} in {found.frames} images: {folder}")
            pictures += [read_image(path) for path in image_files(folder)]
        clip, folder = samples / show.clip, output / show.objects
        found = _segment(pipeline, clip, folder, show.style)
        console.print(f"{found.objects} {show.objects} in {found.frames} frames: {folder / show.clip}")
        pictures += _stills(folder / show.clip, 2)
        with VideoSource(clip) as video:
            speed = measure(pipeline, (frame.image for frame in video), limit=TIMED)
        console.print(speed_table(speed))
    return pictures


def _segment(pipeline: Pipeline, source: Path, folder: Path, style: DrawStyle) -> Summary:
    """The masks of a source, drawn, with a bar."""
    with open_source(source) as opened, bar() as progress:
        task = progress.add_task("predict", total=opened.info.count, note="")
        sinks = sinks_of(folder, opened.info, pipeline.spec, Outputs(style=style))
        summary = run(pipeline, opened, sinks, progress=lambda _: progress.advance(task))
    summary.output = folder
    return summary


def _stills(path: Path, count: int) -> list[Any]:
    """Frames spread evenly over a video."""
    with VideoSource(path) as video:
        total = video.info.count or count
        wanted = {total * (2 * n + 1) // (2 * count) for n in range(count)}
        return [frame.image for frame in video if frame.index in wanted]
