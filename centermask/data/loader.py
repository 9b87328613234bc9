# SPDX-License-Identifier: Apache-2.0
"""TrainingSet and Batch: from a data set to tensors. With training_steps.py the only file here that knows torch.

A sample depends on (seed, epoch, index) and, for an image that comes again in one epoch, on how often it came before:
not on the number of workers, nor on what was drawn before it. Mosaic and copy-paste draw from a stream of their own.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from centermask.config import STRIDE, AugmentConfig, Config
from centermask.data.augment.affine import Affine, letterbox_affine, warp_image
from centermask.data.augment.appearance import change_appearance
from centermask.data.augment.copy_paste import copy_paste
from centermask.data.augment.draw import jitter_colour, sample_affine
from centermask.data.augment.mosaic import PARTS, draw_mosaic
from centermask.data.augment.scene import IDENTITY, Scene, show_objects
from centermask.data.dataset import Dataset, ObjectMask
from centermask.data.sampling import Draw, epochs_for
from centermask.data.targets import Targets, make_targets
from centermask_runtime.cpus import usable_cpus
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.value_range import ValueRange

MOST_WORKERS = 8  # that are started unasked

Sample = tuple[NDArray[np.uint8], Targets]
Source = tuple[NDArray[np.uint8], list[ObjectMask]]  # an image as stored, and its objects


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


class TrainingSet(TorchDataset[Sample | CenterMaskError]):
    """Images as the network sees them in training, with targets. augmented=False: letterboxed, as in inference.

    In the place of an image that cannot be used stands its error, as one raised in a worker would lose its kind.
    """

    def __init__(self, dataset: Dataset, config: Config, *, augmented: bool = True) -> None:
        self.dataset = dataset
        self.config = config
        self.augmented = augmented
        self._values = ValueRange.of(config.input.range, config.input.percentiles)
        self._saliency_channels = 1 if config.model.saliency == "class_agnostic" else len(dataset.class_names)
        self.epochs = epochs_for(config.train.epochs, len(dataset))  # of the whole training
        self._cache: dict[int, Source] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw | int) -> Sample | CenterMaskError:
        try:
            return self._sample(Draw(draw) if isinstance(draw, int) else draw)
        except CenterMaskError as error:
            return error

    def _sample(self, draw: Draw) -> Sample:
        if self.augmented:
            canvas, objects, affine = self._augment(draw)
        else:
            image, objects = self._source(draw.image)
            canvas_hw = self.config.input.size
            affine = letterbox_affine((image.shape[0], image.shape[1]), canvas_hw)
            canvas = warp_image(image, affine, canvas_hw)
        return canvas, self._targets(objects, affine, (canvas.shape[0], canvas.shape[1]))

    def _augment(self, draw: Draw) -> tuple[NDArray[np.uint8], list[ObjectMask], Affine]:
        """Returns the canvas, its objects, and the map of the objects' pixels to the canvas'."""
        config, augment = self.config, self.config.train.augment
        canvas_hw = draw.canvas_hw or config.canvas_hw
        larger = max(canvas_hw) / max(config.canvas_hw)  # multi-scale: the same view, finer or coarser
        input_hw = round(config.input.size[0] * larger), round(config.input.size[1] * larger)
        again = (draw.repeat,) if draw.repeat else ()
        rng = np.random.default_rng((config.train.seed, draw.epoch, draw.image, *again))
        (joins,) = rng.spawn(1)
        image, objects = self._source(draw.image)
        mosaic, paste = joins.random(2) < (augment.mosaic, augment.copy_paste)
        if draw.epoch >= self.epochs - augment.close_mosaic:
            mosaic = paste = False
        if mosaic:
            others = (self._source(int(index)) for index in joins.integers(len(self), size=PARTS - 1))
            scene = draw_mosaic(joins, [(image, objects), *others], input_hw, canvas_hw, augment)
        else:
            affine = sample_affine(rng, (image.shape[0], image.shape[1]), input_hw, canvas_hw, augment)
            canvas = warp_image(image, affine, canvas_hw)
            if not paste:
                return _recoloured(rng, canvas, augment), objects, affine
            scene = Scene(canvas, show_objects(objects, affine, (0, 0, canvas_hw[1], canvas_hw[0])))
        if paste:
            other = self._source(int(joins.integers(len(self))))
            scene = copy_paste(joins, scene, other, input_hw, augment)
        return _recoloured(rng, scene.image, augment), scene.objects, IDENTITY

    def _targets(self, objects: list[ObjectMask], affine: Affine, canvas_hw: tuple[int, int]) -> Targets:
        return make_targets(
            objects,
            affine,
            canvas_hw,
            num_classes=len(self.dataset.class_names),
            saliency_channels=self._saliency_channels,
            stride=STRIDE,
            mask_grid=self.config.train.loss.mask_grid,
        )

    def _source(self, index: int) -> Source:
        if index in self._cache:
            return self._cache[index]
        source = self.dataset.image(index, self._values), self.dataset.objects(index)
        if self.config.train.cache:
            self._cache[index] = source
        return source


def _recoloured(rng: np.random.Generator, image: NDArray[np.uint8], config: AugmentConfig) -> NDArray[np.uint8]:
    return change_appearance(rng, jitter_colour(rng, image, config), config)


def collate(samples: Sequence[Sample | CenterMaskError]) -> Batch | CenterMaskError:
    """Stacks images and maps and joins the objects; returns the first error instead, if there is one."""
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


def training_loader(
    samples: TrainingSet, steps: Sampler[list[Draw]], *, sharing: int = 1, pin_memory: bool = False
) -> DataLoader[Sample | CenterMaskError]:
    """Loads all that `steps` asks for: each a Batch, or the CenterMaskError of one of its images.

    The workers prefetch across the ends of epochs, so nothing waits there; they end with the iterator. Their number
    changes no sample. sharing: the trainings, or processes of one, that share this machine's cores.
    """
    workers = samples.config.train.workers
    with warnings.catch_warnings():  # who asks for more workers than cores has reasons; torch would doubt them
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        return DataLoader(
            samples,
            batch_sampler=steps,
            num_workers=fitting_workers(sharing) if workers is None else workers,
            collate_fn=collate,
            pin_memory=pin_memory,
            worker_init_fn=start_worker,
        )


def fitting_workers(sharing: int = 1) -> int:
    """Returns one worker per core that this process may use, shared with `sharing` - 1 others: 1 to MOST_WORKERS."""
    cores = usable_cpus()
    return max(1, min(MOST_WORKERS, cores // sharing))


def start_worker(_: int) -> None:
    """Makes a worker ready: OpenCV without threads, signals left to the parent, which ends it."""
    # The workers share the cores already. Not 1: that waits for the threads of the parent's pool to end, which do not
    # exist in a forked process, and hangs whenever the parent has used OpenCV before.
    cv2.setNumThreads(0)
    # The trainer answers Ctrl-C and SIGTERM, and may need one more batch for that; a cluster sends them to all at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_obey_parent_only, daemon=True).start()


def _obey_parent_only() -> None:
    """Ends a worker whose parent terminates it, as multiprocessing does when the program ends."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def _stack(arrays: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


def _join(arrays: list[NDArray[Any]]) -> Tensor:
    return torch.from_numpy(np.concatenate(arrays))
