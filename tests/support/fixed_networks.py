# SPDX-License-Identifier: Apache-2.0
"""Two CPU networks whose answers are given, and what `centermask compare` finds between them."""

from __future__ import annotations

import dataclasses

import numpy as np

from centermask_export.checks.objects import Comparison
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec

WHITE = np.full((64, 96, 3), 255, np.uint8)


class Fixed:
    """A network that has one answer."""

    description, batch = "fixed", 1

    def __init__(self, spec: ModelSpec, outputs: PeakOutputs) -> None:
        self.spec, self.outputs = spec, outputs

    def run(self, images):
        return self.outputs

    def close(self):
        pass


def changed(outputs: PeakOutputs, order=None, **parts) -> PeakOutputs:
    """The outputs with some parts replaced, their detections in another order."""
    outputs = dataclasses.replace(outputs, **parts)
    rows = np.arange(outputs.scores.shape[1]) if order is None else np.asarray(order)
    return dataclasses.replace(
        outputs, **{name: getattr(outputs, name)[:, rows] for name in ("scores", "labels", "boxes", "shapes")}
    )


def difference(spec, a, b, frame=WHITE, **thresholds):
    one, other = (Pipeline(Fixed(spec, outputs), Selection.of(spec, **thresholds)) for outputs in (a, b))
    result = Comparison.of(one, other)
    return result, result.add(one, other, frame)


def boxes_apart(small_outputs: PeakOutputs) -> PeakOutputs:
    """Eight boxes that do not touch: four columns, two rows."""
    corners = np.array([[[x, y] for y in (4, 36) for x in (4, 28, 52, 76)]] * 2, np.float32)
    return dataclasses.replace(small_outputs, boxes=np.concatenate((corners, corners + 16), axis=2))
