# SPDX-License-Identifier: Apache-2.0
"""Starting a training from Python, in one call, with the words of `centermask train`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from centermask.config import SHORTCUTS, Config, load_config, parse_config, shortcut_overrides
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_dataset, find_split
from centermask.training.callbacks import Callback, Callbacks
from centermask.training.listeners.plots import add_plots
from centermask.training.listeners.tensorboard_events import add_tensorboard
from centermask.training.progress import TrainingDisplay, open_display
from centermask.training.run_folder import RunFolder
from centermask.training.starting_point import StartingPoint, begin
from centermask.training.trainer import Trainer
from centermask.training.validation import TrainingResult
from centermask_runtime.arguments import check_flags, check_function, check_text, number, path_of, short, whole
from centermask_runtime.device import Device
from centermask_runtime.errors import UsageError

RUNS = Path("runs/train")
LONGEST_SIDE = 1 << 14  # pixels of a network's input
LARGEST_SETTING = 1e12


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
    **settings: int | float | str | None,
) -> TrainingResult:
    """Trains a model, as `centermask train` does; the weights are in `result.run.best` and `result.run.last`.

        result = train("dla_46c", "datasets/shapes", epochs=30, imgsz=320)
        print(result.run.best, result.metrics["segm"]["AP"])

    config: the name of a config that ships with CenterMask, a YAML file, or a Config.
    data: a data set folder or name with the splits train and val, or the two data sets.
    run_folder: a new folder for the files of the run; by default the first free one of runs/train/<name of config>.
    weights: what to start from: imagenet, coco-person, none for random weights, the name of a released model, or a
    file, as model.pretrained reads them; by default the pretrained weights of the backbone, where there are any.
    device: auto, cpu, cuda, or the number of a GPU.
    num_gpus: GPUs of this machine, 1 by default; with more, your script runs once per GPU.
    overrides: `section.key=value`, as load_config takes them. settings: short for some of them: epochs,
    or "auto", steps, batch, lr, workers, seed, patience, and imgsz for a square input.
    callbacks: event -> function, see training.callbacks.
    quiet: show no progress.

    Raises UsageError, DataError or ModelError before a file is written, and CenterMaskError if the training fails.
    """
    _check_call(config, data, device, num_gpus, overrides, callbacks, settings)
    check_flags(plots=plots, tensorboard=tensorboard, quiet=quiet)
    run_folder = None if run_folder is None else path_of(run_folder, "run_folder")
    weights = None if weights is None else path_of(weights, "weights")
    changes = (*shortcut_overrides(settings), *overrides)
    if isinstance(config, Config):
        config = parse_config(config.to_yaml(), "the config", changes)
    else:
        config = load_config(path_of(config, "config"), changes)
    if not isinstance(data, tuple):
        folder = find_dataset(path_of(data, "data"))
        data = load_dataset(find_split(folder, "train")), load_dataset(find_split(folder, "val"))
    start = StartingPoint.of(weights, config.model.backbone)
    run = RunFolder.choose(RUNS, config.name) if run_folder is None else RunFolder(run_folder)
    trainer = Trainer(config, *data, run, device=device, devices=num_gpus, display=open_display(quiet=quiet))
    begin(trainer, start)
    add_listeners(trainer.callbacks, plots=plots, tensorboard=tensorboard)
    for event, function in (callbacks or {}).items():
        trainer.callbacks.add(event, function)
    result = trainer.fit()
    if result.doubt is not None:
        trainer.display.say(result.doubt)
    return result


def _check_call(
    config: Any, data: Any, device: Any, num_gpus: Any, overrides: Any, callbacks: Any, settings: Mapping[str, Any]
) -> None:
    """Refuses arguments of a kind that cannot be, before anything is read."""
    if not isinstance(config, (Config, str, os.PathLike)):
        raise UsageError(f"config must be a name, a YAML file or a Config, not {short(config)}.")
    pair = isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Dataset) for part in data)
    if not pair and not isinstance(data, (str, os.PathLike)):
        raise UsageError(f"data must be a folder, a name, or two Datasets in a tuple, not {short(data)}.")
    Device.of(device)
    if num_gpus is not None:
        whole("num_gpus", num_gpus, 1)
    if not isinstance(overrides, (tuple, list)):
        raise UsageError(f"overrides must be a list of texts, as ['train.lr=1e-4'], not {short(overrides)}.")
    check_text(**{f"overrides[{place}]": override for place, override in enumerate(overrides)})
    if callbacks is not None and not isinstance(callbacks, Mapping):
        raise UsageError(f"callbacks must be a dict of events and functions, not {short(callbacks)}.")
    for event, function in (callbacks or {}).items():
        check_function(f"The callback of {event}", function)
    for name, value in settings.items():
        if value is not None and name in SHORTCUTS and (name, value) != ("epochs", "auto"):
            number(name, value, 0, LARGEST_SETTING)
    if settings.get("imgsz") is not None:
        whole("imgsz", settings["imgsz"], 1, LONGEST_SIDE)


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
    trainer = Trainer(config, train_set, val_set, run, device=device, devices=devices, display=display, fitted=False)
    trainer.resume()
    return trainer


def add_listeners(callbacks: Callbacks, *, plots: bool, tensorboard: bool) -> None:
    if plots:
        add_plots(callbacks)
    if tensorboard:
        add_tensorboard(callbacks)
