# SPDX-License-Identifier: Apache-2.0
"""`centermask download`: COCO 2017, VOC 2012 or SBD, checked and unpacked, where --data finds them."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from centermask.data.download.extract import extract
from centermask.data.download.transfer import archives_of
from centermask.data.download.transfer import download as fetch
from centermask_runtime.errors import UsageError
from centermask_runtime.packages import need
from centermask_runtime.partial_file import write_whole


@click.command()
@click.argument("name", type=click.Choice(["coco", "voc", "sbd"]))
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder (default: NAME in the folder that --data looks in)."
)
@click.option("--split", "splits", multiple=True, help="COCO: only train or only val (19 GB and 0.8 GB).")
@click.option("--mirror", metavar="URL", help="Take the archives from URL/<file name>; they are checked all the same.")
@click.option("--keep", is_flag=True, help="Keep the archives after unpacking.")
def download(name: str, output: Path | None, splits: tuple[str, ...], mirror: str | None, keep: bool) -> None:
    """Download COCO 2017, VOC 2012 or SBD. Run it again to go on with a broken download."""
    need("pycocotools", "train", "data sets")
    from centermask.data.formats.layouts import dataset_root  # needs an extra

    if mirror is not None and not mirror.startswith(("http://", "https://")):
        raise UsageError(f"--mirror must be an http:// or https:// address, not '{mirror}'.")
    folder = dataset_root() / name if output is None else output
    with Progress(
        TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bars:  # fmt: skip
        tasks = {}

        def progress(title: str, done: int, total: int | None) -> None:
            if title not in tasks:
                tasks[title] = bars.add_task(title, total=total)
            bars.update(tasks[title], completed=done, total=total)

        for archive in archives_of(name, splits):
            done = folder / f".{archive.name}.unpacked"
            if done.is_file():
                bars.console.print(f"{archive.name} is unpacked in {folder} already.")
                continue
            url = f"{mirror.rstrip('/')}/{archive.name}" if mirror else None
            path = fetch(archive, folder, progress, url)
            files = extract(path, folder, progress)
            write_whole(done, f"{files} files of {archive.url}\n".encode())
            if not keep:
                path.unlink()
    click.echo(f"{name} is in {folder}: use it by --data {folder}")
