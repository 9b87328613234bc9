# SPDX-License-Identifier: Apache-2.0
"""Training: `from centermask.training import train` for all of it in one call, trainer.Trainer for a part at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centermask.training.start import train

__all__ = ["train"]


def __getattr__(name: str) -> Any:
    """Imports torch when `train` is asked for, and not for a module that does without."""
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from centermask.training.start import train

    return train
