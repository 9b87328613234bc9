# SPDX-License-Identifier: Apache-2.0
"""What an epoch shows, in which order and in which size. It depends on (seed, epoch) alone, so a resumed one goes on.

Images of rare classes come more often, by the repeat factors of LVIS (Gupta et al., CVPR 2019, appendix B.1). The parts
behind the point are not rounded by chance, as detectron2 has it, but laid end to end and counted off evenly: an image
comes the whole number below or above its factor, on average the factor itself, and all epochs are of one length.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

SEEN_BY_ONE = 1000  # augmented images that `auto` shows of a set of one image
GROWTH = 0.35  # of that number with the size of the set: ten times the images are 2.2 times the training


class Draw(NamedTuple):
    """One sample to make. An image that comes again in the same epoch is augmented anew."""

    image: int  # its index in the data set
    repeat: int = 0  # how often it came before in this epoch
    canvas_hw: tuple[int, int] | None = None  # None: the config's
    epoch: int = 0


def repeat_factors(labels: Sequence[Collection[int]], threshold: float) -> NDArray[np.float64]:
    """Returns how often each image comes in an epoch, >= 1: the largest max(1, sqrt(t / f)) of its classes.

    f is the part of the images that show a class. Images without objects come once.
    """
    shown_in = Counter(label for image in labels for label in set(image))
    of_class = {label: max(1.0, (threshold * len(labels) / count) ** 0.5) for label, count in shown_in.items()}
    return np.array([max((of_class[label] for label in image), default=1.0) for image in labels], np.float64)


def epoch_length(factors: NDArray[np.float64]) -> int:
    """Returns the number of samples in an epoch."""
    return round(float(factors.sum()))


def epochs_for(wanted: int | Literal["auto"], images: int) -> int:
    """Returns the length of a training in epochs; auto is fine-tuning, by a power of the number of images.

    >>> [(images, epochs_for("auto", images)) for images in (20, 200, 1000)]
    [(20, 143), (200, 32), (1000, 11)]
    """
    if wanted != "auto":
        return wanted
    return max(1, round(float(SEEN_BY_ONE * max(images, 1) ** (GROWTH - 1))))


def epoch_draws(
    factors: NDArray[np.float64], seed: int, epoch: int, batch: int, sizes: Sequence[tuple[int, int]]
) -> list[Draw]:
    """Returns all samples of an epoch in order; each `batch` of them shares one of the canvas sizes."""
    rng = np.random.default_rng((seed, epoch))
    order = rng.permutation(len(factors))
    if factors.max(initial=1.0) > 1:
        edges = np.cumsum(factors[order])
        length = epoch_length(factors)
        ticks = (np.arange(length) + rng.random()) * edges[-1] / length
        order = rng.permutation(order[np.searchsorted(edges, ticks, side="right").clip(max=len(order) - 1)])
    steps = -(-len(order) // batch)
    chosen = rng.integers(len(sizes), size=steps).tolist()
    seen: Counter[int] = Counter()
    draws = []
    for position, index in enumerate(order.tolist()):
        draws.append(Draw(index, seen[index], sizes[chosen[position // batch]], epoch))
        seen[index] += 1
    return draws


def canvas_sizes(canvas_hw: tuple[int, int], spread: float, multiple: int) -> list[tuple[int, int]]:
    """The sizes of multi-scale training: the longer side is any multiple within 1 - spread .. 1 + spread of its own,
    the shorter one the multiple nearest to the same shape."""
    longer = max(canvas_hw)
    low = max(-(-round(longer * (1 - spread)) // multiple), 1)
    high = max(round(longer * (1 + spread)) // multiple, low)
    sizes = []
    for units in range(low, high + 1):
        part = units * multiple / longer
        height, width = (max(int(side * part / multiple + 0.5), 1) * multiple for side in canvas_hw)
        sizes.append((height, width))
    return sizes
