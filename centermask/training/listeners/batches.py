# SPDX-License-Identifier: Apache-2.0
"""train_batch*.jpg and train_targets*.jpg show a batch as the network gets it, and what it is asked to say about it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from centermask.config import STRIDE
from centermask.data.loader import Batch
from centermask.evaluation.pictures import Picture, square_sheet
from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.reference import overlay
from centermask_runtime.reference.masks import pixel_rects

MOST_IMAGES = 16
HEAT_BGR, SALIENCY_BGR = (0, 94, 213), (178, 114, 0)  # vermilion and blue of the palette of masks


def draw_batch(batch: Batch, class_names: tuple[str, ...]) -> Picture:
    """Draws the images with their target boxes and masks; these are the M x M grids that the loss is taken on."""
    pictures = []
    for index, image in enumerate(_images(batch)):
        pictures.append(
            overlay.draw(image, batch_instances(batch, index, class_names), overlay.DrawStyle(scores=False))
        )
    return square_sheet(pictures)


def draw_targets(batch: Batch) -> Picture:
    """Draws grey images with the heat map (orange, all classes), the saliency (blue) and exact centres (crosses)."""
    pictures = []
    for index, image in enumerate(_images(batch)):
        grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR).astype(np.float32) * 0.6
        for target, colour in ((batch.saliency, SALIENCY_BGR), (batch.heatmap, HEAT_BGR)):
            strength = target[index].numpy().max(0)
            size = image.shape[1], image.shape[0]
            alpha = 0.75 * cv2.resize(strength, size, interpolation=cv2.INTER_NEAREST)[..., None]
            grey += alpha * (np.array(colour, np.float32) - grey)
        picture = np.asarray(grey.clip(0, 255), np.uint8)
        mine = (batch.image_index == index).numpy()
        centres = (batch.cells.numpy()[mine][:, ::-1] + batch.offsets.numpy()[mine]) * STRIDE
        for x, y in np.floor(centres).astype(int).tolist():
            cv2.drawMarker(picture, (x, y), (255, 255, 255), cv2.MARKER_CROSS, 7, 1)
        pictures.append(picture)
    return square_sheet(pictures)


def _images(batch: Batch) -> Sequence[Picture]:
    return list(batch.images[:MOST_IMAGES].numpy())


def batch_instances(batch: Batch, index: int, class_names: tuple[str, ...]) -> Instances:
    """Takes the targets of one image of a batch as Instances in network pixels, all with score 1."""
    mine = (batch.image_index == index).numpy()
    frame_hw = batch.images.shape[1], batch.images.shape[2]
    boxes = batch.boxes.numpy()[mine]
    rects = pixel_rects(boxes, frame_hw)
    masks = batch.masks.numpy()[mine]
    crops = [_shown(mask, box, rect) for mask, box, rect in zip(masks, boxes, rects.tolist(), strict=True)]
    return Instances(
        frame_hw,
        boxes,
        np.ones(len(boxes), np.float32),
        batch.labels.numpy()[mine].astype(np.int32),
        BoxMasks.from_crops(frame_hw, rects, crops),
        class_names,
        tuple(range(len(class_names))),
    )


def _shown(mask: NDArray[np.float32], box: NDArray[np.float32], rect: list[int]) -> NDArray[np.bool_]:
    """Samples a grid mask [M, M] over a box bilinearly at the centres of the pixels of a rectangle."""
    grid = mask.shape[0]
    x0, y0, x1, y1 = rect
    x = ((np.arange(x0, x1) + 0.5 - box[0]) / (box[2] - box[0]) * grid - 0.5).astype(np.float32)
    y = ((np.arange(y0, y1) + 0.5 - box[1]) / (box[3] - box[1]) * grid - 0.5).astype(np.float32)
    across, down = np.meshgrid(x, y)
    if not across.size:
        return np.zeros(across.shape, np.bool_)
    sampled = cv2.remap(mask, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled >= 0.5, np.bool_)
