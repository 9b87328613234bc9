# SPDX-License-Identifier: Apache-2.0
"""A frame to Instances on the CPU: letterbox, network, masks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.geometry import Letterbox, clip_boxes
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import Network, PeakOutputs
from centermask_runtime.pipeline.frame import AnyFrame, FrameFit, StageTimes, as_bgr
from centermask_runtime.reference import masks, overlay, preprocess
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec

LARGEST_BATCH = 8  # images in one run of a network that takes any number, so that memory has a bound


def postprocess(
    outputs: PeakOutputs, index: int, letterbox: Letterbox, spec: ModelSpec, selection: Selection
) -> Instances:
    """Image `index` of the network's outputs -> Instances in source pixels, best first. Nothing of `outputs` is kept.

    An object is kept when its score is positive and at least the selection's, its class is selected, and its box holds
    the centre of at least one pixel of the frame. Its mask may still be empty. Masks are sampled in the box as
    predicted; the box that is reported is clipped to the frame.
    """
    scores, labels = outputs.scores[index], outputs.labels[index]
    keep = (scores > 0) & (scores >= np.float32(selection.score_threshold))
    if selection.classes is not None:
        keep &= np.isin(labels, list(selection.classes))
    candidates = np.flatnonzero(keep)
    boxes = letterbox.boxes_to_frame(outputs.boxes[index, candidates])
    rects = masks.pixel_rects(boxes, letterbox.frame_hw)
    visible = rects[:, 2] > rects[:, 0]
    candidates, boxes = candidates[visible], boxes[visible]
    order = np.argsort(-scores[candidates], kind="stable")[: selection.max_detections]
    candidates, boxes = candidates[order], boxes[order]
    return Instances(
        letterbox.frame_hw,
        clip_boxes(boxes, letterbox.frame_hw),
        scores[candidates].astype(np.float32),
        labels[candidates].astype(np.int32),
        masks.box_masks(
            boxes, labels[candidates], outputs.shapes[index, candidates], outputs.saliency[index], letterbox,
            spec.stride, selection.mask_threshold,
        ),
        spec.class_names,
        spec.category_ids,
    )  # fmt: skip


class Pipeline(Closing):
    """Frames uint8 [H, W, 3] BGR or NV12 of any size -> Instances, around any Network.

    It owns the network and closes it. Several threads may call it at once, as no call shares memory with another.

        with Pipeline(open_network("model.onnx")) as pipeline:
            found = pipeline(frame)
    """

    draws = False

    def __init__(self, network: Network, selection: Selection | None = None) -> None:
        """selection: which objects are kept; None is what the network's spec says."""
        self.network = network
        self.spec = network.spec
        self.selection = Selection.of(network.spec) if selection is None else selection
        self._fit = FrameFit(network.spec.input_hw)

    @property
    def description(self) -> str:
        """The network's back end and device, in words."""
        return self.network.description

    def __call__(self, frame: AnyFrame) -> Instances:
        """What is in one frame. Raises DataError when it is not uint8 [H, W, 3]."""
        return self.timed(frame)[0]

    def each(self, frames: Iterable[AnyFrame], *, ahead: bool = False) -> Iterator[Instances]:
        """What is in each frame, in their order: one is under way at a time.

        ahead: the masks of a frame are computed by another thread while the network runs the next one.
        """
        return self._ahead(frames) if ahead else map(self, frames)

    def many(self, frames: Sequence[AnyFrame]) -> list[Instances]:
        """What is in each frame, with as many in one run of the network as it takes, and at most LARGEST_BATCH."""
        together = self.network.batch or LARGEST_BATCH
        found: list[Instances] = []
        for first in range(0, len(frames), together):
            part = frames[first : first + together]
            images, letterboxes = self._images(part)
            outputs = self.network.run(images)
            found += [self._found(outputs, index, letterbox) for index, letterbox in enumerate(letterboxes)]
        return found

    def timed(self, frame: AnyFrame) -> tuple[Instances, StageTimes]:
        """What is in one frame, and the time of each stage."""
        start = time.perf_counter()
        images, (letterbox,) = self._images((frame,))
        ready = time.perf_counter()
        outputs = self.network.run(images)
        computed = time.perf_counter()
        instances = self._found(outputs, 0, letterbox)
        end = time.perf_counter()
        moments = (start, ready), (ready, computed), (computed, end), (start, end)
        return instances, StageTimes(*((later - earlier) * 1e3 for earlier, later in moments))

    def drawn(
        self, frames: Iterable[AnyFrame], style: overlay.DrawStyle = overlay.DEFAULT_STYLE
    ) -> Iterator[tuple[Instances, NDArray[np.uint8]]]:
        """What is in each frame, and a picture uint8 [H, W, 3] BGR of it, in their order."""
        for frame in frames:
            instances = self(frame)
            yield instances, overlay.draw(as_bgr(frame), instances, style)

    def infer(self, frame: AnyFrame) -> tuple[PeakOutputs, Letterbox]:
        """The first two stages alone, for whoever post-processes the same outputs, image 0, several times."""
        images, (letterbox,) = self._images((frame,))
        return self.network.run(images), letterbox

    def close(self) -> None:
        """Closes the network."""
        self.network.close()

    def _ahead(self, frames: Iterable[AnyFrame]) -> Iterator[Instances]:
        with ThreadPoolExecutor(1, "masks") as masks:
            before: Future[Instances] | None = None
            for frame in frames:
                outputs, letterbox = self.infer(frame)
                kept = PeakOutputs(**{name: array.copy() for name, array in vars(outputs).items()})  # see Network.run
                found = masks.submit(self._found, kept, 0, letterbox)
                if before is not None:
                    yield before.result()
                before = found
            if before is not None:
                yield before.result()

    def _images(self, frames: Sequence[AnyFrame]) -> tuple[NDArray[np.uint8], list[Letterbox]]:
        """The network's input, and where each frame lies in it. A network of a fixed batch gets black images, too."""
        letterboxes = [self._fit(frame) for frame in frames]  # first, as it refuses what is no frame
        images = np.empty((self.network.batch or len(frames), *self.spec.input_hw, 3), np.uint8)
        images[len(frames) :] = 0
        for image, frame, letterbox in zip(images, frames, letterboxes, strict=False):
            preprocess.letterbox(as_bgr(frame), letterbox, out=image)
        return images, letterboxes

    def _found(self, outputs: PeakOutputs, index: int, letterbox: Letterbox) -> Instances:
        return postprocess(outputs, index, letterbox, self.spec, self.selection)
