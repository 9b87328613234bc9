# SPDX-License-Identifier: Apache-2.0
"""Distillation: a larger model that is trained already shows what it sees in each image, beside the annotations.

Its heat map and its saliency are soft targets: they know what looks alike and where a border is uncertain. Boxes and
shapes are learned from the annotations alone, as they exist at their centres only.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from centermask.config import Config, LossConfig
from centermask.data.loader import Batch
from centermask.model.network import CenterMaskNet, TrainingOutputs
from centermask.model.weights import load_weights
from centermask.opening import find_model
from centermask.released import released_models
from centermask.training.losses import Counts
from centermask_runtime.errors import ModelError, counted, some
from centermask_runtime.spec import ModelSpec


class SoftTargets(NamedTuple):
    heatmap: Tensor  # fp32 [N, C, h, w] logits, the student's classes in its order
    saliency: Tensor  # fp32 [N, Cs, h, w] logits


class Teacher:
    """A trained model that only looks, in evaluation mode and without gradients, at what the student sees."""

    def __init__(self, model: CenterMaskNet, spec: ModelSpec, student: ModelSpec) -> None:
        """Raises ModelError where what the two find is not comparable."""
        self.model = model.eval().requires_grad_(False)
        self.name = spec.name
        missing = [name for name in student.class_names if name not in spec.class_names]
        if missing:
            raise ModelError(
                f"The teacher '{spec.name}' knows {some(spec.class_names)}, but is to teach {some(missing)}; "
                "name a teacher that was trained for it (train.distill)."
            )
        per_class = all(one.saliency_channels == one.num_classes for one in (spec, student))
        alike = (spec.saliency_channels, spec.num_classes) == (student.saliency_channels, student.num_classes)
        if not per_class and not alike:
            raise ModelError(
                f"The teacher '{spec.name}' has {counted(spec.saliency_channels, 'saliency map')} for "
                f"{spec.num_classes} classes, which do not become the student's {student.saliency_channels} for "
                f"{student.num_classes}; choose another teacher (train.distill) or the other model.saliency."
            )
        if student.size_multiple % spec.size_multiple:
            raise ModelError(
                f"The teacher '{spec.name}' takes images in multiples of {spec.size_multiple} pixels, the student in "
                f"multiples of {student.size_multiple}; choose another teacher (train.distill)."
            )
        labels = [spec.class_names.index(name) for name in student.class_names]
        self._labels = torch.tensor(labels, device=model.mean.device)
        self._maps = self._labels if per_class else torch.zeros_like(self._labels[:1])

    @torch.no_grad()
    def targets(self, images: Tensor) -> SoftTargets:
        """Looks at images, uint8 [N, H, W, 3] BGR."""
        features = self.model.features(images)
        heatmap, saliency = self.model.heatmap(features), self.model.saliency(features)
        return SoftTargets(heatmap.float()[:, self._labels], saliency.float()[:, self._maps])


def open_teacher(config: Config, student: ModelSpec, device: torch.device) -> Teacher | None:
    """Opens the model that train.distill names; None where it names none. Raises ModelError."""
    if config.train.distill is None:
        return None
    path = find_model(config.train.distill)
    if path.suffix != ".safetensors":
        raise ModelError(
            f"{path} cannot teach, as it is no weights file; name the .safetensors that it was exported from "
            "(train.distill)."
        )
    model, spec, _ = load_weights(path)
    model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    return Teacher(model, spec, student)


def with_whole_path(config: Config) -> Config:
    """Notes the teacher's file with its folder, so that the run goes on from anywhere; a released one by its name."""
    teacher = config.train.distill
    if teacher is None or teacher in released_models() or not Path(teacher).exists():
        return config
    train = dataclasses.replace(config.train, distill=str(Path(teacher).absolute()))
    return dataclasses.replace(config, train=train)


def distillation_loss(
    outputs: TrainingOutputs, soft: SoftTargets, batch: Batch, weights: LossConfig, counts: Counts
) -> Tensor:
    """Compares a student with its teacher; 0, with no gradient, where they agree.

    The two maps weigh what they weigh in the loss of the annotations, over the same objects and pixels.
    """
    objects, pixels = (max(count, 1) for count in counts)
    with torch.autocast(outputs.heatmap.device.type, enabled=False):
        heatmap = quality_focal_loss(outputs.heatmap.float(), soft.heatmap).sum() / objects
        present = batch.saliency_present.float()[:, :, None, None]
        saliency = (divergence(outputs.saliency.float(), soft.saliency) * present).sum() / pixels
    return weights.heatmap * heatmap + weights.saliency * saliency


def quality_focal_loss(logits: Tensor, teacher: Tensor) -> Tensor:
    """The focal loss for soft targets (Li et al., Generalized Focal Loss, NeurIPS 2020, eq. 3, beta 2), elementwise.

    Beside the sum over a map it has the size of the focal loss of the annotations: easy background hardly counts.
    """
    target = teacher.sigmoid()
    crossed = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (target - logits.sigmoid()) ** 2 * crossed


def divergence(logits: Tensor, teacher: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of the teacher's Bernoulli distributions from the student's, elementwise.

    Its gradient is that of the cross-entropy, sigma(student) - sigma(teacher), but it is 0 where they agree.
    """
    target = teacher.sigmoid()
    on = target * (F.logsigmoid(teacher) - F.logsigmoid(logits))
    off = (1 - target) * (F.logsigmoid(-teacher) - F.logsigmoid(-logits))
    return on + off
