# SPDX-License-Identifier: Apache-2.0
"""TrainingSet and Batch: from a data set to tensors. The only file of centermask.data that knows torch.

A sample depends on (seed, epoch, index) alone: not on the number of workers, nor on what was drawn before it.
"""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from centermask.config import STRIDE, Config
from centermask.data.augment import jitter_colour, letterbox_affine, sample_affine, warp_image
from centermask.data.coco import CocoDataset, ObjectMask
from centermask.data.targets import Targets, make_targets
from centermask_runtime.errors import CenterMaskError

Sample = tuple[NDArray[np.uint8], Targets]


@dataclass(frozen=True)
class Batch:
    """B images and the targets of their n objects in one flat list. Meanings and units as in targets.Targets."""

    images: Tensor  # uint8 [B, H, W, 3] BGR
    heatmap: Tensor  # float32 [B, C, h, w]
    saliency: Tensor  # float32 [B, Cs, h, w]
    saliency_present: Tensor  # bool [B, Cs]
    image_index: Tensor  # int64 [n]: the image of each object
    labels: Tensor  # int64 [n]
    cells: Tensor  # int64 [n, 2] y, x
    offsets: Tensor  # float32 [n, 2] x, y
    sizes: Tensor  # float32 [n, 2] width, height in cells
    boxes: Tensor  # float32 [n, 4] xyxy, canvas pixels
    masks: Tensor  # float32 [n, M, M]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self) -> Batch:
        """Called by the DataLoader when it pins memory."""
        return self._map(lambda tensor: tensor.pin_memory())

    def _map(self, change: Any) -> Batch:
        return Batch(**{field.name: change(getattr(self, field.name)) for field in dataclasses.fields(self)})


class TrainingSet(Dataset[Sample | CenterMaskError]):
    """Images as the network sees them in training, with targets. augmented=False: letterboxed, as in inference.

    In the place of an image that cannot be used stands its error, as one raised in a worker would lose its kind.
    """

    def __init__(self, dataset: CocoDataset, config: Config, *, augmented: bool = True) -> None:
        self.dataset = dataset
        self.config = config
        self.augmented = augmented
        self._saliency_channels = 1 if config.model.saliency == "class_agnostic" else len(dataset.class_names)
        self._epoch = torch.zeros((), dtype=torch.int64)
        self._epoch.share_memory_()  # type: ignore[no-untyped-call]  # workers that outlive an epoch see it change
        self.skip = 0  # samples of this epoch to leave out at its beginning
        self._cache: dict[int, tuple[NDArray[np.uint8], list[ObjectMask]]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int, skip: int = 0) -> None:
        """Chooses this epoch's order and augmentation. Call it before iterating over the loader.

        skip: samples at the beginning of the epoch that a resumed training has seen already.
        """
        self._epoch.fill_(epoch)
        self.skip = skip

    def __getitem__(self, index: int) -> Sample | CenterMaskError:
        try:
            return self._sample(index)
        except CenterMaskError as error:
            return error

    def _sample(self, index: int) -> Sample:
        image, objects = self._source(index)
        canvas_hw = self.config.canvas_hw if self.augmented else self.config.input.size
        frame_hw = image.shape[0], image.shape[1]
        if self.augmented:
            augment = self.config.train.augment
            rng = np.random.default_rng((self.config.train.seed, self.epoch, index))
            affine = sample_affine(rng, frame_hw, self.config.input.size, canvas_hw, augment)
            canvas = jitter_colour(rng, warp_image(image, affine, canvas_hw), augment)
        else:
            affine = letterbox_affine(frame_hw, canvas_hw)
            canvas = warp_image(image, affine, canvas_hw)
        targets = make_targets(
            objects,
            affine,
            canvas_hw,
            num_classes=len(self.dataset.class_names),
            saliency_channels=self._saliency_channels,
            stride=STRIDE,
            mask_grid=self.config.train.loss.mask_grid,
        )
        return canvas, targets

    def _source(self, index: int) -> tuple[NDArray[np.uint8], list[ObjectMask]]:
        if index in self._cache:
            return self._cache[index]
        source = self.dataset.image(index), self.dataset.objects(index)
        if self.config.train.cache:
            self._cache[index] = source
        return source


class EpochShuffle(Sampler[int]):
    """A random order that depends on (seed, epoch) alone, so that a resumed training goes on as if never stopped."""

    def __init__(self, samples: TrainingSet) -> None:
        self._samples = samples

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._samples.config.train.seed, self._samples.epoch))
        return iter(rng.permutation(len(self._samples)).tolist()[self._samples.skip :])


def collate(samples: Sequence[Sample | CenterMaskError]) -> Batch | CenterMaskError:
    """Stacks images and maps, joins the objects; the first error instead, if there is one."""
    images: list[NDArray[np.uint8]] = []
    targets: list[Targets] = []
    for sample in samples:
        if isinstance(sample, CenterMaskError):
            return sample
        images.append(sample[0])
        targets.append(sample[1])
    counts = torch.tensor([len(target.labels) for target in targets])
    return Batch(
        images=_stack(images),
        heatmap=_stack([target.heatmap for target in targets]),
        saliency=_stack([target.saliency for target in targets]),
        saliency_present=_stack([target.saliency_present for target in targets]),
        image_index=torch.repeat_interleave(torch.arange(len(samples)), counts),
        labels=_join([target.labels for target in targets]),
        cells=_join([target.cells for target in targets]),
        offsets=_join([target.offsets for target in targets]),
        sizes=_join([target.sizes for target in targets]),
        boxes=_join([target.boxes for target in targets]),
        masks=_join([target.masks for target in targets]),
    )


def training_loader(samples: TrainingSet, *, pin_memory: bool = False) -> DataLoader[Sample | CenterMaskError]:
    """Batches (Batch, or the CenterMaskError of one of its images) in a seeded random order.

    A last, smaller batch is dropped unless it is the only one.
    """
    train = samples.config.train
    return DataLoader(
        samples,
        batch_size=train.batch,
        sampler=EpochShuffle(samples),
        num_workers=train.workers,
        collate_fn=collate,
        drop_last=len(samples) >= train.batch,
        pin_memory=pin_memory,
        persistent_workers=train.workers > 0,
        worker_init_fn=_start_worker,
    )


def _start_worker(_: int) -> None:
    # The workers share the cores already. Not 1: that waits for the threads of the parent's pool to end, which do not
    # exist in a forked process, and hangs whenever the parent has used OpenCV before.
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer answers Ctrl-C, and may need one more batch for that


def _stack(arrays: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _join(arrays: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays))
