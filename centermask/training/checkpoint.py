# SPDX-License-Identifier: Apache-2.0
"""A checkpoint is one dictionary of tensors and plain values, from which a training goes on as if it had not stopped.

It holds the Learner's state (model, average, optimizer, loss scale), the TrainingState, and what the two belong to:
config, data set, version, provenance of the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from centermask.config import Config, parse_config
from centermask.data.dataset import Dataset
from centermask.training.learner import Learner
from centermask.training.state import TrainingState
from centermask.version import __version__
from centermask_runtime.errors import CenterMaskError, DataError, some


def checkpoint_of(config: Config, dataset: Dataset, learner: Learner, state: TrainingState) -> dict[str, Any]:
    return {
        "version": __version__,
        "config": config.to_yaml(),
        "data": _data_of(dataset),
        "state": state.to_dict(),
        **learner.state_dict(),
    }


def restore(saved: dict[str, Any], path: Path, config: Config, dataset: Dataset, learner: Learner) -> TrainingState:
    """Puts the weights of a checkpoint, read from `path`, into the learner; returns where the training stood.

    Raises CenterMaskError when the checkpoint is another config's, DataError when another version's or data set's.
    """
    try:
        if parse_config(saved["config"], "the checkpoint") != config:
            raise CenterMaskError(f"{path.parent} was started with another config; resume it with its own args.yaml.")
        before, now = saved["data"], _data_of(dataset)
        if before != now:
            raise DataError(
                f"{dataset.annotation_file} has changed: {_words(before)} when {path.parent} was saved, {_words(now)} "
                "now; put it back, or start a new run from its weights."
            )
        state = TrainingState.from_dict(_state_of(saved), learner.fabric.device)
        learner.load_state_dict(saved)
        return state
    except KeyError as error:
        wrote = saved.get("version", "0.1.0")
        raise DataError(
            f"{path} has no {error}, as it was written by centermask {wrote}, and this is {__version__}; resume it "
            "with that version, or start a new run from its weights."
        ) from error


def _state_of(saved: dict[str, Any]) -> dict[str, Any]:
    """Finds the fields of the TrainingState, which the first checkpoints had beside the weights."""
    state: dict[str, Any] = saved["state"] if "state" in saved else {**saved, "step_in_epoch": saved["batch"]}
    return state


def _data_of(dataset: Dataset) -> dict[str, Any]:
    """Collects what the steps of an epoch and the model's outputs depend on."""
    return {"images": len(dataset), "classes": list(dataset.class_names), "category_ids": list(dataset.category_ids)}


def _words(data: dict[str, Any]) -> str:
    return f"{data['images']} images with the classes {some(tuple(data['classes']))}"
