# SPDX-License-Identifier: Apache-2.0
"""A frame to Instances: letterbox, network, masks, with the time that each stage took."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from centermask_runtime.closing import Closing
from centermask_runtime.geometry import Letterbox, clip_boxes
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import Network, PeakOutputs
from centermask_runtime.pipeline.frame import AnyFrame, FrameFit, StageTimes, as_bgr
from centermask_runtime.reference import masks, preprocess
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec


def postprocess(
    outputs: PeakOutputs,
    index: int,
    letterbox: Letterbox,
    spec: ModelSpec,
    *,
    score_threshold: float | None = None,
    mask_threshold: float | None = None,
    max_detections: int | None = None,
    classes: Sequence[int] | None = None,
) -> Instances:
    """Image `index` of the network's outputs -> Instances in source pixels, best first. Nothing of `outputs` is kept.

    What is None comes from the spec; classes are labels to keep, None for all. An object is kept when its score is
    positive and at least score_threshold and its box holds the centre of at least one pixel of the frame. Its mask may
    still be empty.
    Masks are sampled in the box as predicted; the box that is reported is clipped to the frame.
    """
    scores, labels = outputs.scores[index], outputs.labels[index]
    limit = np.float32(spec.score_threshold if score_threshold is None else score_threshold)
    keep = (scores > 0) & (scores >= limit)
    if classes is not None:
        keep &= np.isin(labels, list(classes))
    candidates = np.flatnonzero(keep)
    boxes = letterbox.boxes_to_frame(outputs.boxes[index, candidates])
    rects = masks.pixel_rects(boxes, letterbox.frame_hw)
    visible = rects[:, 2] > rects[:, 0]
    candidates, boxes = candidates[visible], boxes[visible]
    order = np.argsort(-scores[candidates], kind="stable")
    order = order[: spec.max_detections if max_detections is None else max_detections]
    candidates, boxes = candidates[order], boxes[order]
    return Instances(
        letterbox.frame_hw,
        clip_boxes(boxes, letterbox.frame_hw),
        scores[candidates].astype(np.float32),
        labels[candidates].astype(np.int32),
        masks.box_masks(
            boxes, labels[candidates], outputs.shapes[index, candidates], outputs.saliency[index], letterbox,
            spec.stride, spec.mask_threshold if mask_threshold is None else mask_threshold,
        ),
        spec.class_names,
        spec.category_ids,
    )  # fmt: skip


class Pipeline(Closing):
    """Frames uint8 [H, W, 3] BGR or NV12 of any size -> Instances. Owns the network and closes it."""

    def __init__(
        self,
        network: Network,
        *,
        score_threshold: float | None = None,
        mask_threshold: float | None = None,
        max_detections: int | None = None,
        classes: Sequence[str | int] | None = None,
    ) -> None:
        """What is None comes from the network's spec. `classes` are names or labels to keep. Raises UsageError."""
        self.network = network
        self.spec = spec = network.spec
        chosen = Selection.of(
            spec, score_threshold=score_threshold, mask_threshold=mask_threshold, max_detections=max_detections,
            classes=classes,
        )  # fmt: skip
        self.score_threshold, self.mask_threshold = chosen.score_threshold, chosen.mask_threshold
        self.max_detections, self.classes = chosen.max_detections, chosen.classes
        self.timings: StageTimes | None = None  # of the last call
        self._input = np.empty((1, *spec.input_hw, 3), np.uint8)
        self.letterbox = FrameFit(spec.input_hw)

    def __call__(self, frame: AnyFrame) -> Instances:
        """What is in one frame. Raises DataError when it is not uint8 [H, W, 3]."""
        start = time.perf_counter()
        letterbox = self.letterbox(frame)
        preprocess.letterbox(as_bgr(frame), letterbox, out=self._input[0])
        ready = time.perf_counter()
        outputs = self.network.run(self._input)
        computed = time.perf_counter()
        instances = postprocess(
            outputs, 0, letterbox, self.spec, score_threshold=self.score_threshold, mask_threshold=self.mask_threshold,
            max_detections=self.max_detections, classes=self.classes,
        )  # fmt: skip
        end = time.perf_counter()
        moments = (start, ready), (ready, computed), (computed, end), (start, end)
        self.timings = StageTimes(*((later - earlier) * 1e3 for earlier, later in moments))
        return instances

    @property
    def description(self) -> str:
        """The network's back end and device, in words."""
        return self.network.description

    def infer(self, frame: AnyFrame) -> tuple[PeakOutputs, Letterbox]:
        """The first two stages alone, for whoever post-processes the same outputs several times."""
        letterbox = self.letterbox(frame)
        preprocess.letterbox(as_bgr(frame), letterbox, out=self._input[0])
        return self.network.run(self._input), letterbox

    def close(self) -> None:
        self.network.close()
