# SPDX-License-Identifier: Apache-2.0
"""`centermask demo`: the whole way of a released model on the bundled samples."""

from __future__ import annotations

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
from centermask_runtime.reference.overlay import DrawStyle
from centermask_runtime.sinks.outputs import KINDS, Outputs, sinks_of
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.video import VideoSource
from centermask_runtime.speed import measure

MODEL = "nuclei_dla_46c"
CLIP = "nuclei_scan.mp4"
TIMED = 100  # frames of step 4


@click.command()
@click.option("--samples", type=click.Path(path_type=Path), default=Path("samples"), show_default=True, help="Folder.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/demo"), show_default=True, help="Folder.")
def demo(samples: Path, output: Path) -> None:
    """Take a released model all the way on the sample pictures.

    Exports it to ONNX, segments the sample images and clip, and measures the speed.
    """
    clip, images = samples / CLIP, samples / "images"
    if not clip.is_file() or not images.is_dir():
        raise DataError(
            f"The samples are not in {samples}; run the demo in a checkout, or name them by --samples FOLDER."
        )
    require_export()
    from centermask_export.from_weights import export_checked  # needs torch

    console = Console()
    with VideoSource(clip) as video:
        count = video.info.count or 0
    console.print(f"An export, the sample images, a clip of {count} frames, a measurement: some minutes on a CPU.")
    artefact = output / f"{MODEL}.onnx"
    console.rule("1. Export to ONNX")
    report = export_checked(find_model(MODEL), artefact)
    console.print(outputs_table(report, artefact))
    with Pipeline(OnnxRuntimeNetwork(artefact)) as pipeline:
        console.rule("2. Sample images")
        found = _segment(pipeline, images, output / "images")
        console.print(f"{found.objects} nuclei in {found.frames} images: {found.output}")
        pictures = [read_image(path) for path in image_files(output / "images")]
        console.rule("3. Sample clip")
        console.print(f"{count} frames: about {count / found.fps:.0f} seconds, and drawing.")
        scanned, drawn = _segment(pipeline, clip, output / "clip"), output / "clip" / CLIP
        console.print(f"{scanned.objects} nuclei in {scanned.frames} frames: {drawn}")
        pictures += _stills(drawn, 2)
        sheet = output / "contact_sheet.png"
        write_picture(sheet, contact_sheet(pictures))
        console.rule("4. Speed")
        with VideoSource(clip) as video:
            speed = measure(pipeline, (frame.image for frame in video), limit=TIMED)
        console.print(speed_table(speed))
    console.print(f"\nPictures: {sheet}\nVideo:    {drawn}\nResults:  {output / 'clip' / KINDS['coco']} (COCO)")


def _segment(pipeline: Pipeline, source: Path, folder: Path) -> Summary:
    """The masks of a source, drawn, with a bar."""
    with open_source(source) as opened, bar() as progress:
        task = progress.add_task("predict", total=opened.info.count, note="")
        sinks = sinks_of(folder, opened.info, pipeline.spec, Outputs(style=DrawStyle(boxes=False, labels=False)))
        summary = run(pipeline, opened, sinks, progress=lambda _: progress.advance(task))
    summary.output = folder
    return summary


def _stills(path: Path, count: int) -> list[Any]:
    """Frames spread evenly over a video."""
    with VideoSource(path) as video:
        total = video.info.count or count
        wanted = {total * (2 * n + 1) // (2 * count) for n in range(count)}
        return [frame.image for frame in video if frame.index in wanted]
