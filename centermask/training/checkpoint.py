# SPDX-License-Identifier: Apache-2.0
"""All that a training needs to go on as if it had never stopped, as one dictionary of tensors and plain values.

There is no random state in it: what is drawn depends on (seed, epoch, image) alone.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from centermask import __version__
from centermask.config import parse_config
from centermask_runtime.errors import CenterMaskError, DataError, some

if TYPE_CHECKING:
    from centermask.training.trainer import Trainer


def checkpoint_of(trainer: Trainer) -> dict[str, object]:
    """To be called by all processes; the same for each."""
    return {
        "version": __version__,
        "config": trainer.config.to_yaml(),
        "model": trainer.model.state_dict(),
        "average": trainer.average.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "precision": trainer.fabric.strategy.precision.state_dict(),  # the loss scale of 16-mixed
        "provenance": trainer.spec.provenance,
        "data": _data_of(trainer),
        "epoch": trainer.epoch,
        "batch": trainer.batch,
        "step": trainer.step,
        "loss_sum": trainer.group.sum(*trainer.loss_sum.tolist()),
        "best_ap": trainer.best_ap,
        "best_epoch": trainer.best_epoch,
        "seconds": trainer.seconds,
    }


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Raises CenterMaskError when the checkpoint is another config's, DataError when another version's or data's."""
    try:
        if parse_config(state["config"], "the checkpoint") != trainer.config:
            raise CenterMaskError(
                f"{trainer.run.path} was started with another config; resume it with its own args.yaml."
            )
        before, now = state["data"], _data_of(trainer)
        if before != now:
            raise DataError(
                f"{trainer.samples.dataset.annotation_file} has changed: {_words(before)} when {trainer.run.path} was "
                f"saved, {_words(now)} now; put it back, or start a new run with --weights."
            )
        trainer.model.load_state_dict(state["model"])
        trainer.average.model.load_state_dict(state["average"])
        trainer.average.steps = state["step"]
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.fabric.strategy.precision.load_state_dict(state["precision"])
        trainer.spec = dataclasses.replace(trainer.spec, provenance=state["provenance"])
        trainer.epoch, trainer.batch, trainer.step = state["epoch"], state["batch"], state["step"]
        if trainer.group.main:  # it is the sum of all processes
            trainer.loss_sum.copy_(trainer.loss_sum.new_tensor(state["loss_sum"]))
        trainer.best_ap, trainer.best_epoch = state["best_ap"], state["best_epoch"]
        trainer.seconds = state["seconds"]
    except KeyError as error:
        wrote = state.get("version", "0.1.0")
        raise DataError(
            f"{trainer.run.checkpoint} has no {error}, as it was written by centermask {wrote}, and this is "
            f"{__version__}; resume it with that version, or start from its weights with --weights."
        ) from error


def _data_of(trainer: Trainer) -> dict[str, Any]:
    """What the steps of an epoch and the model's outputs depend on."""
    dataset = trainer.samples.dataset
    return {"images": len(dataset), "classes": list(dataset.class_names), "category_ids": list(dataset.category_ids)}


def _words(data: dict[str, Any]) -> str:
    return f"{data['images']} images with the classes {some(tuple(data['classes']))}"
