# SPDX-License-Identifier: Apache-2.0
"""The weights that a training can start from by name: which there are for a backbone, where they come from, under which
licence, and which normalisation of the input they were trained with.

Those that ship with this package come first; others are fetched from the Hugging Face hub. A training that is told
nothing starts from the first one of its backbone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from centermask.config import InputConfig
from centermask.model.hub import fetch
from centermask_runtime.errors import UsageError, did_you_mean

FOLDER = Path(__file__).parent.parent / "starting"
NONE = "none"  # the word for random weights
HUB_FILE = "model.safetensors"
LARGEST_RATIO = 1.5  # of standard deviations, above which a warning is worth a line
LARGEST_SHIFT = 0.25  # of means, in standard deviations

Bgr = tuple[float, float, float]
IMAGENET: tuple[Bgr, Bgr] = ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229))  # mean and std
TENSORFLOW_LITE: tuple[Bgr, Bgr] = ((0.498, 0.498, 0.498), (0.502, 0.502, 0.502))  # (x - 127) / 128
HALF: tuple[Bgr, Bgr] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@dataclass(frozen=True)
class StartingWeights:
    """One set of weights: its name says what it was trained on."""

    name: str
    backbone: str
    place: str  # a file of FOLDER, or a repository of the hub
    licence: str
    mean_bgr: Bgr
    std_bgr: Bgr

    @property
    def is_shipped(self) -> bool:
        return self.place.endswith(".safetensors")

    @property
    def title(self) -> str:
        return f"{self.name} weights {self.place}"

    def find(self, cache: Path | None = None) -> Path:
        """Returns the file, fetched where it is not here. Raises UsageError or ModelError, see hub.fetch."""
        return FOLDER / self.place if self.is_shipped else fetch(self.place, HUB_FILE, cache)

    def warning(self, given: InputConfig) -> str | None:
        """Says in a sentence that the config normalises the input very differently, or nothing."""
        trained = zip(self.mean_bgr, self.std_bgr, given.mean_bgr, given.std_bgr, strict=True)
        differs = any(
            max(std / here_std, here_std / std) > LARGEST_RATIO or abs(mean - here_mean) / std > LARGEST_SHIFT
            for mean, std, here_mean, here_std in trained
        )
        if not differs:
            return None
        return (
            f"The {self.title} were trained with input.mean_bgr {list(self.mean_bgr)} and input.std_bgr "
            f"{list(self.std_bgr)}, not {list(given.mean_bgr)} and {list(given.std_bgr)}; set these for a better start."
        )


STARTING = (
    StartingWeights("coco-person", "mobilenet_v2_fpn", "coco_person_mobilenet_v2_fpn.safetensors", "Apache-2.0", *HALF),
    StartingWeights(
        "imagenet", "efficientnet_lite0", "imagenet_efficientnet_lite0.safetensors", "Apache-2.0", *TENSORFLOW_LITE
    ),
    StartingWeights(
        "imagenet", "efficientnet_lite1", "timm/tf_efficientnet_lite1.in1k", "Apache-2.0", *TENSORFLOW_LITE
    ),
    StartingWeights(
        "imagenet", "efficientnet_lite2", "timm/tf_efficientnet_lite2.in1k", "Apache-2.0", *TENSORFLOW_LITE
    ),
    StartingWeights("imagenet", "dla_34", "timm/dla34.in1k", "BSD-3-Clause", *IMAGENET),
    StartingWeights("imagenet", "dla_46c", "timm/dla46_c.in1k", "BSD-3-Clause", *IMAGENET),
)
NAMES = tuple(sorted({one.name for one in STARTING}))


def starting_weights(backbone: str, name: str | None = None) -> StartingWeights | None:
    """Returns the weights of that name for a backbone; without a name its first ones, or None where there are none.

    Raises UsageError where there are none of that name.

        starting_weights("efficientnet_lite0").place == "imagenet_efficientnet_lite0.safetensors"
    """
    of_backbone = [one for one in STARTING if one.backbone == backbone]
    if name is None:
        return of_backbone[0] if of_backbone else None
    for one in of_backbone:
        if one.name == name:
            return one
    if name not in NAMES:
        raise UsageError(f"There are no starting weights '{name}'; {did_you_mean(name, (*NAMES, NONE))}")
    known = ", ".join(one.name for one in of_backbone)
    others = ", ".join(one.backbone for one in STARTING if one.name == name)
    raise UsageError(
        f"There are no {name} weights for {backbone}, only for {others}; "
        + (f"take {known}, or name a file." if known else "name a file, or none.")
    )
