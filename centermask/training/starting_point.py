# SPDX-License-Identifier: Apache-2.0
"""Where a training starts: pretrained weights unless it is told not to, and one line that says which.

What was asked for must be there. What nobody asked for may be missing, as it is without a network: then the training
starts from random weights and says so.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from centermask.model.starting_weights import NAMES, NONE, StartingWeights, starting_weights
from centermask.released import released_models
from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import ModelError, UsageError, did_you_mean

if TYPE_CHECKING:  # they need torch, and what was asked for is looked at before that is loaded
    from centermask.model.pretrained import WeightsReport
    from centermask.training.trainer import Trainer


@dataclass(frozen=True)
class StartingPoint:
    """What was asked for: weights by name, a file, or neither."""

    named: StartingWeights | None = None
    file: Path | None = None
    title: str = ""  # of the file, as it was asked for
    is_asked: bool = True  # False: the default, which may be missing

    @classmethod
    def of(cls, weights: str | Path | None, backbone: str) -> StartingPoint:
        """Understands none, imagenet, coco-person, the name of a released model, a file, or nothing: the default.

        Looks at no network. Raises UsageError or ModelError where there is no such thing.
        """
        if weights is None:
            return cls(named=starting_weights(backbone), is_asked=False)
        if str(weights) == NONE:
            return cls()
        if str(weights) in NAMES:
            return cls(named=starting_weights(backbone, str(weights)))
        released = released_models()
        path = released.get(str(weights), Path(weights))
        if not path.suffix and not path.exists():
            known = did_you_mean(str(weights), (*released, *NAMES, NONE))
            raise ModelError(f"'{weights}' is no weights file and no name of weights; {known}")
        if not path.is_file() and "LOCAL_RANK" not in os.environ:  # torchrun's processes look together and say it once
            raise ModelError(f"There is no weights file {path}.")
        return cls(file=path, title=str(weights))

    def find(self) -> Path | None:
        """Returns the file, fetched where it is not here; None for random weights. Raises UsageError or ModelError."""
        return self.file if self.named is None else self.named.find()


def begin(trainer: Trainer, start: StartingPoint) -> WeightsReport | None:
    """Gives the weights to a trainer and says what it starts from; None: from random weights.

    The first process decides what all start from, so that they agree where only some reach the hub.
    """
    path, why_not = None, ""
    with trainer.group.together() as main:
        if main:
            path, why_not = _found(start)
    is_found = trainer.group.from_main(path is not None)
    if not is_found:
        trainer.display.say(f"Starts from random weights{why_not or '.'}")
        return None
    with trainer.group.together() as main:
        path = path if main else start.find()
    assert path is not None
    title, origin = start.title, path.name
    if start.named is not None:
        title = start.named.title
        origin = path.name if start.named.is_shipped else f"{start.named.place} sha256 {sha256_of(path)}"
    report = trainer.start_from(path, origin)
    trainer.display.say(report.in_words(title))
    warning = None if start.named is None else start.named.warning(trainer.config.input)
    if warning is not None:
        trainer.display.say(warning)
    return report


def _found(start: StartingPoint) -> tuple[Path | None, str]:
    """The file, or why there is none. Raises UsageError or ModelError where it was asked for."""
    if start.is_asked:
        return start.find(), ""
    if start.named is None:
        return None, ": no others are known for this backbone, but a file can be named."
    try:
        return start.find(), ""
    except (ModelError, UsageError) as error:
        return None, f", not from the {start.named.title}. {error}"
