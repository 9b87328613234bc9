# SPDX-License-Identifier: Apache-2.0
"""`centermask train`: a config and a data set to weights."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console

from centermask.cli.completion import complete_config, complete_weights
from centermask.cli.options import open_dataset
from centermask.cli.tables import metrics_table, weights_table
from centermask.config import load_config, shortcut_overrides
from centermask.training.starting_point import StartingPoint, begin
from centermask_runtime.device import AUTO, CPU, Device
from centermask_runtime.errors import ModelError, UsageError
from centermask_runtime.packages import need


@click.command()
@click.option(
    "--config", type=click.Path(path_type=Path), shell_complete=complete_config,
    help="A config by name, such as dla_34, or a YAML file.",
)  # fmt: skip
@click.option(
    "--data", type=click.Path(path_type=Path), help="A data set with train and val: folder, data.yaml, or name."
)
@click.option("--annotations", type=click.Path(path_type=Path), help="COCO JSON to train on, instead of --data.")
@click.option("--images", type=click.Path(path_type=Path), help="With --annotations: the folder of its images.")
@click.option("--val-annotations", type=click.Path(path_type=Path), help="COCO JSON to validate on.")
@click.option("--val-images", type=click.Path(path_type=Path), help="With --val-annotations: the folder of its images.")
@click.option(
    "--weights", shell_complete=complete_weights,
    help="What to start from: imagenet, coco-person, none, a released model, .safetensors, .pth (default: pretrained).",
)  # fmt: skip
@click.option("--epochs", metavar="INTEGER|auto", help="Length in epochs; auto: to suit the images (train.epochs).")
@click.option("--steps", type=int, help="Length of the training in steps, instead (train.steps).")
@click.option("--batch", type=int, help="Images per step, all GPUs together (train.batch).")
@click.option("--lr", type=float, help="Highest learning rate (train.lr).")
@click.option("--imgsz", type=int, help="Side of the square input in pixels (input.size).")
@click.option("--workers", type=int, help="Processes per GPU that load images (train.workers).")
@click.option("--seed", type=int, help="Seed of everything random (train.seed).")
@click.option("--patience", type=int, help="Epochs without a better mask AP before it stops (train.patience).")
@click.option("--compile", is_flag=True, help="A slow start, then faster steps (train.compile).")
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any other value of the config; may be repeated."
)
@click.option(
    "--device",
    default=AUTO,
    show_default=True,
    metavar="DEVICE",
    help="auto, cpu, cuda, or the number of a GPU, as cuda:1 or 1.",
)
@click.option(
    "--num-gpus", type=click.IntRange(min=1), help="GPUs of this machine (default: 1; under torchrun, its own)."
)
@click.option(
    "--output", type=click.Path(path_type=Path), default=Path("runs/train"), show_default=True, help="Where runs go."
)
@click.option("--name", help="Folder inside --output (default: the config's name).")
@click.option("--resume", type=click.Path(path_type=Path), help="Continue the run in this folder.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw results, batches, curves into the run.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard events into the run folder.")
@click.option("--quiet", is_flag=True, help="No progress, only the result.")
def train(
    config: Path | None, data: Path | None, annotations: Path | None, images: Path | None,
    val_annotations: Path | None, val_images: Path | None, weights: str | None, compile: bool,
    overrides: tuple[str, ...], device: str, num_gpus: int | None, output: Path, name: str | None,
    resume: Path | None, plots: bool, tensorboard: bool, quiet: bool, **shortcuts: int | float | str | None,
) -> None:  # fmt: skip
    """Train a model on a data set.

    The run folder gets args.yaml, results.csv and weights/{best,last}.safetensors. An option that ends in a key, such
    as (train.lr), overrides the config.

    On several machines start it with torchrun, the same command on each.
    """
    place = Device.of(device)
    need("lightning_fabric", "train", "training")
    if plots:
        need("matplotlib", "train", "drawing plots; or train with --no-plots")
    if tensorboard:
        need("tensorboard", "train", "--tensorboard")
    if num_gpus is not None and place.kind == CPU:
        raise UsageError(
            f"--num-gpus {num_gpus} makes no sense with --device cpu; start processes on the CPU with torchrun "
            "--nproc-per-node N -m centermask train ..."
        )
    if resume is not None:
        _only_how_to_resume(click.get_current_context())
    elif config is None:
        raise UsageError("Name what to train by --config, such as dla_34, or a run by --resume.")
    else:
        compiled = ("train.compile=true",) if compile else ()
        settings = load_config(config, (*shortcut_overrides(shortcuts), *compiled, *overrides))
        if annotations is not None and (val_annotations is None or val_images is None):
            raise UsageError(f"--annotations {annotations} needs --val-annotations and --val-images to validate on.")
        start = StartingPoint.of(weights, settings.model.backbone)
        train_set = open_dataset(data, "train", annotations, images)
        val_set = open_dataset(data, "val", val_annotations, val_images)
    from centermask.training.progress import open_display  # these need torch: seconds
    from centermask.training.run_folder import RunFolder
    from centermask.training.start import add_listeners, resumed_trainer
    from centermask.training.trainer import Trainer

    display = open_display(quiet=quiet)
    if resume is not None:
        trainer = resumed_trainer(RunFolder(resume), device=place, devices=num_gpus, display=display)
    else:
        run = RunFolder.choose(output, name or settings.name)
        trainer = Trainer(settings, train_set, val_set, run, device=place, devices=num_gpus, display=display)
        report = begin(trainer, start)
        if report is not None and start.file is not None:
            Console(quiet=quiet or not trainer.group.main).print(weights_table(report))
    run, is_main = trainer.run, trainer.group.main
    add_listeners(trainer.callbacks, plots=plots, tensorboard=tensorboard)
    try:
        result = trainer.fit()
    except KeyboardInterrupt:
        if not is_main:
            raise SystemExit from None
        again = f"; go on with: centermask train --resume {run.path}" if run.checkpoint.exists() else ""
        where = "before the mask threshold was chosen, after" if trainer.is_finished() else "after"
        click.echo(f"Stopped {where} step {trainer.state.step}{again}", err=True)
        raise
    if is_main:
        title = f"The best weights, at their mask threshold of {result.spec.mask_threshold}"
        Console().print(metrics_table(result.metrics, title))
        click.echo(run.best)  # not by rich, which would break a long path
        if result.doubt is not None:
            if not result.is_trial:
                raise ModelError(result.doubt)
            trainer.display.say(result.doubt)


def _only_how_to_resume(context: click.Context) -> None:
    given = {name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if given - {"resume", "device", "num_gpus", "plots", "tensorboard", "quiet"}:
        raise UsageError(
            "--resume continues a run with its own config and data; leave the other options out, or start a new run."
        )
