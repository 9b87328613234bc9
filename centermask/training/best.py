# SPDX-License-Identifier: Apache-2.0
"""Which epoch's weights are the best: by mask AP on the validation set, and not by its noise.

- The score of a validation is its mask AP; on a validation set of fewer than SURE objects, the mean of the last WINDOW
  validations, as one alone goes up and down by chance.
- A difference of less than one object, 1 / objects, is none. Of weights as good as the best so far, the later ones are
  kept: they have seen more.
- train.patience counts from the epoch in which the highest score rose last.
"""

from __future__ import annotations

from dataclasses import dataclass

SURE = 500  # objects in the validation set
WINDOW = 3  # validations
NOTHING = 0.0005  # an AP below it is shown as 0.000


@dataclass(frozen=True)
class Best:
    """The best weights so far. Epochs are counted from 1; 0 is none."""

    epoch: int = 0  # that the weights are from
    ap: float = -1.0  # their mask AP
    score: float = -1.0  # the highest so far
    risen: int = 0  # the epoch of that
    recent: tuple[float, ...] = ()  # mask AP of the last validations, oldest first, WINDOW at most

    def after(self, epoch: int, ap: float, objects: int) -> Best:
        """Returns what is best once an epoch was validated; its own weights if the result's epoch is this one.

        objects: in the validation set.

        >>> best = Best()
        >>> for epoch, ap in ((10, 0.004), (20, 0.009), (30, 0.003)):
        ...     best = best.after(epoch, ap, objects=45)
        >>> best.epoch, best.ap
        (30, 0.003)
        """
        recent = (*self.recent, ap)[-WINDOW:]
        counted = recent if objects < SURE else recent[-1:]
        score = sum(counted) / len(counted)
        rises = score > self.score
        highest = max(score, self.score)
        if not rises and score <= highest - 1 / objects:
            return Best(self.epoch, self.ap, highest, self.risen, recent)
        return Best(epoch, ap, highest, epoch if rises else self.risen, recent)
