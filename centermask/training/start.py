# SPDX-License-Identifier: Apache-2.0
"""Starting a training from Python, in one call, with the words of `centermask train`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from centermask.config import Config, load_config, parse_config, shortcut_overrides
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_dataset, find_split
from centermask.opening import find_model
from centermask.training.callbacks import Callback, Callbacks
from centermask.training.listeners.plots import add_plots
from centermask.training.listeners.tensorboard_events import add_tensorboard
from centermask.training.progress import TrainingDisplay, open_display
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from centermask.training.validation import TrainingResult
from centermask_runtime.device import Device

RUNS = Path("runs/train")


def train(
    config: Config | str | Path,
    data: str | Path | tuple[Dataset, Dataset],
    *,
    run_folder: str | Path | None = None,
    weights: str | Path | None = None,
    device: str | int | Device = "auto",
    num_gpus: int | None = None,
    overrides: Sequence[str] = (),
    callbacks: Mapping[str, Callback] | None = None,
    plots: bool = True,
    tensorboard: bool = False,
    quiet: bool = False,
    **settings: int | float | None,
) -> TrainingResult:
    """Trains a model, as `centermask train` does; the weights are in `result.run.best` and `result.run.last`.

        result = train("dla_46c", "datasets/shapes", epochs=30, imgsz=320)
        print(result.run.best, result.metrics["segm"]["AP"])

    config: the name of a config that ships with CenterMask, a YAML file, or a Config.
    data: a data set folder or name with the splits train and val, or the two data sets.
    run_folder: a new folder for the files of the run; by default the first free one of runs/train/<name of config>.
    weights: a file to start from, as model.pretrained reads them, or the name of a released model.
    device: auto, cpu, cuda, or the number of a GPU.
    num_gpus: GPUs of this machine, 1 by default; with more, your script runs once per GPU.
    overrides: `section.key=value`, as load_config takes them. settings: short for some of them: epochs,
    steps, batch, lr, workers, seed, patience, and imgsz for a square input.
    callbacks: event -> function, see training.callbacks.
    quiet: show no progress.

    Raises UsageError, DataError or ModelError before a file is written, and CenterMaskError if the training fails.
    """
    changes = (*shortcut_overrides(settings), *overrides)
    if isinstance(config, Config):
        config = parse_config(config.to_yaml(), "the config", changes)
    else:
        config = load_config(config, changes)
    if not isinstance(data, tuple):
        folder = find_dataset(Path(data))
        data = load_dataset(find_split(folder, "train")), load_dataset(find_split(folder, "val"))
    run = RunFolder.choose(RUNS, config.name) if run_folder is None else RunFolder(Path(run_folder))
    trainer = Trainer(config, *data, run, device=device, devices=num_gpus, display=open_display(quiet=quiet))
    if weights is not None:
        is_name = not Path(weights).suffix and not Path(weights).exists()
        trainer.display.say(str(trainer.start_from(find_model(weights) if is_name else Path(weights))))
    add_listeners(trainer.callbacks, plots=plots, tensorboard=tensorboard)
    for event, function in (callbacks or {}).items():
        trainer.callbacks.add(event, function)
    return trainer.fit()


def resumed_trainer(
    run: RunFolder,
    *,
    device: str | int | Device = "auto",
    devices: int | None = None,
    display: TrainingDisplay | None = None,
) -> Trainer:
    """Opens the Trainer of a run that was stopped, with the run's own config and data, ready to go on.

    Raises DataError when there is nothing to resume or the data have changed.
    """
    config, sources = run.read()
    train_set, val_set = (source.load() for source in sources)
    trainer = Trainer(config, train_set, val_set, run, device=device, devices=devices, display=display)
    trainer.resume()
    return trainer


def add_listeners(callbacks: Callbacks, *, plots: bool, tensorboard: bool) -> None:
    if plots:
        add_plots(callbacks)
    if tensorboard:
        add_tensorboard(callbacks)
