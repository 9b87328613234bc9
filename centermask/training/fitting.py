# SPDX-License-Identifier: Apache-2.0
"""A recipe is fitted to the data set at hand, each change with a sentence: batch, length, warm-up, last epochs.

A config is written for one data set and used on another. What its numbers mean there is decided here, once, before a
new run starts; args.yaml says what was really done, and fitting that again changes nothing.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from safetensors import SafetensorError, safe_open

from centermask.config import Config, TrainConfig
from centermask.data.loader import fitting_workers
from centermask.data.sampling import epochs_for
from centermask_runtime.errors import counted
from centermask_runtime.spec import METADATA_KEY, ModelSpec

STEPS_AN_EPOCH = 4  # at least, where images allow: an epoch drops its last, smaller batch
SMALLEST_BATCH = 4  # batch norms want a few images
WARMUP = 0.1  # of the run, at most
VALIDATIONS = 8  # of a run whose length is `auto`, about
PATIENCE = 3  # validations that `auto` waits at least: fewer are noise
CLOSING = 1 / 3  # of the epochs may go without mosaic and copy-paste; where it would be more, it is
CLOSED = 0.2  # of them
SAME_INPUT = 0.01  # between mean or std of two inputs: below it they are the same to a network
FEW_STEPS = 1000  # from random weights


def fit_to_data(config: Config, images: int, parts: int = 1) -> tuple[Config, list[str]]:
    """Returns the config that suits a training set of so many images, and a sentence for each change.

    parts: the processes and micro-batches that share a batch, which stays a multiple of it.
    """
    train, said = config.train, []
    batch = _batch_for(train.batch, images, parts)
    if batch != train.batch:
        said.append(f"Batch {batch} instead of {train.batch}, as there are {counted(images, 'image')} (train.batch).")
    train = dataclasses.replace(train, batch=batch)
    epochs = epochs_for(train.epochs, images)
    if train.epochs == "auto" and train.steps is None:
        every = max(train.val_every, -(-epochs // VALIDATIONS))
        patience = max(train.patience, PATIENCE * every) if train.patience else 0
        said.append(
            f"{counted(epochs, 'epoch')}, as suit {counted(images, 'image')} (train.epochs auto), validated every "
            f"{counted(every, 'epoch')}."
        )
        train = dataclasses.replace(train, val_every=every, patience=patience)
    train = dataclasses.replace(train, epochs=epochs)
    an_epoch = max(images // batch, 1)
    total = train.steps or epochs * an_epoch
    train = _with_warmup(train, total, said)
    train = _with_last_epochs(train, -(-total // an_epoch), said)
    return dataclasses.replace(config, train=train), said


def _batch_for(batch: int, images: int, parts: int) -> int:
    """Halves a batch until an epoch has a few steps, but not below what batch norms and processes want."""
    smallest = max(min(SMALLEST_BATCH, images), parts)
    fitted = batch
    while fitted > smallest and images // fitted < STEPS_AN_EPOCH:
        fitted = max(fitted // 2, smallest)
    shared = fitted // parts * parts
    return shared if fitted != batch and shared else fitted


def _with_warmup(train: TrainConfig, total: int, said: list[str]) -> TrainConfig:
    longest = max(1, int(WARMUP * total))
    if train.warmup_steps <= longest:
        return train
    said.append(
        f"Warm-up of {counted(longest, 'step')} instead of {train.warmup_steps}, a tenth of {counted(total, 'step')} "
        "(train.warmup_steps)."
    )
    return dataclasses.replace(train, warmup_steps=longest)


def _with_last_epochs(train: TrainConfig, epochs: int, said: list[str]) -> TrainConfig:
    augment = train.augment
    if not (augment.mosaic or augment.copy_paste) or augment.close_mosaic <= CLOSING * epochs:
        return train
    last = int(CLOSED * epochs)
    said.append(
        f"The last {counted(last, 'epoch')} instead of {augment.close_mosaic} of {epochs} go without mosaic and "
        "copy-paste (train.augment.close_mosaic)."
    )
    return dataclasses.replace(train, augment=dataclasses.replace(augment, close_mosaic=last))


def doubts(train: TrainConfig, total_steps: int, *, has_starting_weights: bool, sharing: int = 1) -> list[str]:
    """Returns what speaks against a training as it stands, a sentence each. sharing: processes on this machine."""
    said = []
    if not has_starting_weights and total_steps < FEW_STEPS:
        said.append(
            f"{counted(total_steps, 'step')} from random weights may find nothing: start from other weights, or train "
            f"for some {5 * FEW_STEPS:,} steps."
        )
    fit = fitting_workers(sharing)
    if train.workers is not None and train.workers > max(fit, 1):
        said.append(
            f"{train.workers} loader processes were asked for where {fit} would fit this machine's cores; null takes "
            "what fits (train.workers)."
        )
    return said


def doubt_of_start(weights: Path, spec: ModelSpec) -> str | None:
    """Returns a sentence if weights of CenterMask were trained on images that were normalised otherwise than spec's."""
    try:
        with safe_open(weights, framework="np") as file:  # type: ignore[no-untyped-call, unused-ignore]
            metadata = file.metadata() or {}
    except (SafetensorError, OSError):
        return None  # another kind of file, which states no input
    if METADATA_KEY not in metadata:
        return None
    before = ModelSpec.from_json(metadata[METADATA_KEY], str(weights))
    there, here = ((*one.mean_bgr, *one.std_bgr) for one in (before, spec))
    if max(abs(a - b) for a, b in zip(there, here, strict=True)) <= SAME_INPUT:
        return None
    mean, std = (list(values) for values in (before.mean_bgr, before.std_bgr))
    return (
        f"{weights.name} was trained with input.mean_bgr {mean} and input.std_bgr {std}, which this config has "
        "otherwise: set both to these, or its features mean little."
    )
