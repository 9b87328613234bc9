# SPDX-License-Identifier: Apache-2.0
"""`centermask train`: a config and a data set to weights."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from centermask.cli.options import open_dataset, require
from centermask_runtime.errors import UsageError


@click.command()
@click.option("--config", type=click.Path(path_type=Path), help="A YAML file, such as configs/dla_34.yaml.")
@click.option("--data", type=click.Path(path_type=Path), help="A data set folder with the splits train and val.")
@click.option("--annotations", type=click.Path(path_type=Path), help="COCO JSON to train on, instead of --data.")
@click.option("--images", type=click.Path(path_type=Path), help="Its images.")
@click.option("--val-annotations", type=click.Path(path_type=Path), help="COCO JSON to validate on.")
@click.option("--val-images", type=click.Path(path_type=Path), help="Its images.")
@click.option("--epochs", type=int, help="Overrides train.epochs.")
@click.option("--batch", type=int, help="Overrides train.batch.")
@click.option("--lr", type=float, help="Overrides train.lr.")
@click.option("--imgsz", type=int, help="Overrides input.size with a square.")
@click.option("--workers", type=int, help="Overrides train.workers.")
@click.option("--seed", type=int, help="Overrides train.seed.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Overrides any config value.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("runs/train"), show_default=True)
@click.option("--name", help="Folder inside --output (default: the config's name).")
@click.option("--resume", type=click.Path(path_type=Path), help="Continue the run in this folder.")
@click.option("--quiet", is_flag=True, help="No progress bar.")
def train(
    config: Path | None, data: Path | None, annotations: Path | None, images: Path | None,
    val_annotations: Path | None, val_images: Path | None, overrides: tuple[str, ...], device: str, output: Path,
    name: str | None, resume: Path | None, quiet: bool, **shortcuts: int | float | None,
) -> None:  # fmt: skip
    """Train a model; the run folder gets args.yaml, results.csv and weights/{best,last}.safetensors."""
    require("lightning_fabric", "train", "training")
    from centermask.config import load_config
    from centermask.training.progress import TrainingDisplay
    from centermask.training.run_folder import DataSource, RunFolder
    from centermask.training.trainer import Trainer

    if resume is not None:
        _only_how_to_resume(click.get_current_context())
        run = RunFolder(resume)
        settings, sources = run.read()
        train_set, val_set = (source.load() for source in sources)
    else:
        if config is None:
            raise UsageError("Name what to train by --config FILE, such as configs/dla_34.yaml, or a run by --resume.")
        settings = load_config(config, (*_as_overrides(shortcuts), *overrides))
        if annotations is not None and (val_annotations is None or val_images is None):
            raise UsageError(f"--annotations {annotations} needs --val-annotations and --val-images to validate on.")
        train_set = open_dataset(data, "train", annotations, images)
        val_set = open_dataset(data, "val", val_annotations, val_images)
        run = RunFolder.choose(output, name or settings.name)
    display = TrainingDisplay(quiet=quiet)
    trainer = Trainer(settings, train_set, val_set, run, device=device, display=display)
    if resume is not None:
        trainer.resume()
    else:  # nothing is written before all of it is known to go together
        run.start(settings, (DataSource.of(train_set), DataSource.of(val_set)))
    try:
        result = trainer.fit()
    except KeyboardInterrupt:
        click.echo(f"Stopped after step {trainer.step}; go on with: centermask train --resume {run.path}", err=True)
        raise
    from rich.console import Console

    from centermask.cli.display import metrics_table

    title = f"{run.best}, mask threshold {result.spec.mask_threshold}"
    Console(quiet=quiet).print(metrics_table(result.metrics, title))


def _only_how_to_resume(context: click.Context) -> None:
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given - {"resume", "device", "quiet"}:
        raise UsageError(
            "--resume continues a run with its own config and data; leave the other options out, or start a new run."
        )


def _as_overrides(shortcuts: dict[str, int | float | None]) -> list[str]:
    keys = {
        "epochs": "train.epochs",
        "batch": "train.batch",
        "lr": "train.lr",
        "workers": "train.workers",
        "seed": "train.seed",
    }
    given = {name: value for name, value in shortcuts.items() if value is not None}
    size = given.pop("imgsz", None)
    square = [] if size is None else [f"input.size=[{size}, {size}]"]
    return [*(f"{keys[name]}={value}" for name, value in given.items()), *square]
