# SPDX-License-Identifier: Apache-2.0
"""One YAML file tells the whole story of a model and its training: no include, no default hidden elsewhere.

Every key is a field of a dataclass below, so an unknown or mistyped one is an error that names the nearest right one.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from centermask_runtime.errors import UsageError, did_you_mean

STRIDE = 4  # input pixels a heat-map cell: of every backbone here, and of the targets
BACKBONES = ("dla_34", "dla_46c", "hourglass_104")


@dataclass(frozen=True)
class ModelConfig:
    backbone: str = "dla_34"
    head_channels: int = 256  # width of the 3x3 convolution of each head
    shape_size: int = 32  # S
    saliency: str = "class_specific"  # or class_agnostic
    max_detections: int = 100  # K
    deformable: bool = False  # modulated deformable convolutions (DCNv2) in the up path of a DLA

    @property
    def size_multiple(self) -> int:
        """Sides of the input must be multiples of this: so many pixels are one cell of the coarsest map."""
        return 128 if self.backbone == "hourglass_104" else 32


@dataclass(frozen=True)
class InputConfig:
    size: tuple[int, int] = (512, 512)  # height, width; what the exported network takes
    mean_bgr: tuple[float, float, float] = (0.40789654, 0.44719302, 0.47026115)
    std_bgr: tuple[float, float, float] = (0.28863828, 0.27408164, 0.27809835)


@dataclass(frozen=True)
class AugmentConfig:
    """CenterNet's augmentation, drawn once an image and applied in one affine warp."""

    scale: tuple[float, float] = (0.6, 1.4)  # times the scale that inference would use
    shift: float = 0.1  # of the canvas, either way, when the image fits it; a larger image is cropped anywhere
    flip: float = 0.5  # probability
    flip_vertical: float = 0.0
    rotate_90: bool = False  # a random quarter turn; for images without an up
    invert: float = 0.0  # probability of the negative; for microscopy
    colour: float = 0.4  # strength of brightness, contrast and saturation
    mosaic: float = 0.0  # probability of four images on one canvas
    copy_paste: float = 0.0  # probability of objects of a second image on top of this one
    close_mosaic: int = 10  # the last epochs go without mosaic and copy-paste


@dataclass(frozen=True)
class LossConfig:
    heatmap: float = 1.0
    offset: float = 1.0
    size: float = 0.1
    mask: float = 1.0
    saliency: float = 0.5
    mask_grid: int = 28  # M: the mask loss is taken on M x M points of the ground-truth box


@dataclass(frozen=True)
class TrainConfig:
    epochs: int = 73
    steps: int | None = None  # length of the training in steps, instead of epochs
    batch: int = 32  # images a step, all GPUs and micro-batches together
    accumulate: int = 1  # micro-batches a step on each GPU, one after the other: less memory, the same step
    crop: tuple[int, int] | None = None  # train on crops of this size at inference scale; None: the input size
    optimizer: str = "adam"  # or adamw
    lr: float = 2.5e-4
    lr_batch: int | None = None  # the batch that lr is meant for; at another one it is scaled in proportion
    weight_decay: float = 0.0
    warmup_steps: int = 500
    schedule: str = "step"  # tenfold drops at `drops`; or cosine
    drops: tuple[float, ...] = (9 / 13, 12 / 13)  # as parts of the whole run
    clip_norm: float = 5.0
    ema: float = 0.998
    sync_bn: bool = False  # batch norms over the images of all GPUs; for few images on each
    precision: str = "32-true"  # Lightning Fabric's names: 16-mixed, bf16-mixed, 32-true
    compile: bool = False  # torch.compile: a slow start, faster steps
    recompute: bool = False  # activation checkpointing in the backbone: less memory, slower steps, the same weights
    workers: int = 2
    cache: bool = False  # keep decoded images and masks in memory; for small sets
    val_every: int = 1  # epochs
    patience: int = 0  # epochs without a better mask AP after which training stops early; 0: never
    checkpoint_every: int = 1000  # steps; an epoch's end has one anyway
    multi_scale: float = 0.0  # each batch in a size from 1 - this to 1 + this times the usual
    repeat_threshold: float = 0.0  # t of LVIS: classes that a smaller part of the images shows come more often
    seed: int = 0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class Config:
    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        _one_of("model.backbone", self.model.backbone, BACKBONES)
        _one_of("model.saliency", self.model.saliency, ("class_specific", "class_agnostic"))
        _one_of("train.schedule", self.train.schedule, ("step", "cosine"))
        _one_of("train.optimizer", self.train.optimizer, ("adam", "adamw"))
        _one_of("train.precision", self.train.precision, ("32-true", "16-mixed", "bf16-mixed"))
        multiple = self.model.size_multiple
        for key, size in (("input.size", self.input.size), ("train.crop", self.train.crop)):
            if size is not None and (min(size) <= 0 or any(side % multiple for side in size)):
                raise UsageError(
                    f"{key} must be two positive multiples of {multiple} (height, width) for {self.model.backbone}, "
                    f"not {list(size)}."
                )
        if self.model.deformable and not self.model.backbone.startswith("dla"):
            raise UsageError(
                f"model.deformable is for the up path of a DLA, and {self.model.backbone} has none; set it to false."
            )
        for key, number in (
            ("train.epochs", self.train.epochs),
            ("train.batch", self.train.batch),
            ("train.accumulate", self.train.accumulate),
            ("train.val_every", self.train.val_every),
            ("train.checkpoint_every", self.train.checkpoint_every),
            ("model.max_detections", self.model.max_detections),
            ("model.shape_size", self.model.shape_size),
            ("model.head_channels", self.model.head_channels),
            ("train.loss.mask_grid", self.train.loss.mask_grid),
        ):
            if number < 1:
                raise UsageError(f"{key} must be at least 1, not {number}.")
        for key, value in (
            ("train.augment.flip", self.train.augment.flip),
            ("train.augment.flip_vertical", self.train.augment.flip_vertical),
            ("train.augment.invert", self.train.augment.invert),
            ("train.augment.mosaic", self.train.augment.mosaic),
            ("train.augment.copy_paste", self.train.augment.copy_paste),
            ("train.repeat_threshold", self.train.repeat_threshold),
        ):
            if not 0 <= value <= 1:
                raise UsageError(f"{key} must lie between 0 and 1, not {value}.")
        if not 0 <= self.train.multi_scale < 1:
            raise UsageError(f"train.multi_scale must be at least 0 and below 1, not {self.train.multi_scale}.")
        for key, given in (("train.steps", self.train.steps), ("train.lr_batch", self.train.lr_batch)):
            if given is not None and given < 1:
                raise UsageError(f"{key} must be at least 1 or null, not {given}.")
        if not all(0 < drop < 1 for drop in self.train.drops):
            raise UsageError(
                f"train.drops are parts of the run, between 0 and 1, not {list(self.train.drops)}; of 90 epochs the "
                "60th is 0.667."
            )
        if self.train.compile and self.train.recompute:
            raise UsageError(
                "train.recompute and train.compile exclude each other, as a compiled network chooses itself what to "
                "compute again; set one of them to false."
            )
        if not 0 < self.train.augment.scale[0] <= self.train.augment.scale[1]:
            scale = list(self.train.augment.scale)
            raise UsageError(f"train.augment.scale must be two rising positive numbers, not {scale}.")
        if not min(self.input.std_bgr) > 0:
            raise UsageError(f"input.std_bgr must be three positive numbers, not {list(self.input.std_bgr)}.")
        if not 0 <= self.train.ema < 1:
            raise UsageError(f"train.ema must be at least 0 and below 1, not {self.train.ema}.")
        for key, value in (
            ("train.workers", self.train.workers),
            ("train.seed", self.train.seed),
            ("train.weight_decay", self.train.weight_decay),
            ("train.patience", self.train.patience),
            ("train.augment.close_mosaic", self.train.augment.close_mosaic),
            ("train.augment.shift", self.train.augment.shift),
            ("train.augment.colour", self.train.augment.colour),
        ):
            if not value >= 0:
                raise UsageError(f"{key} must be 0 or more, not {value}.")
        for key, value in (("train.lr", self.train.lr), ("train.clip_norm", self.train.clip_norm)):
            if not value > 0:
                raise UsageError(f"{key} must be positive, not {value}.")

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """Size of a training image."""
        return self.train.crop or self.input.size

    def to_yaml(self) -> str:
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file and applies `section.key=value` overrides. Raises UsageError that names file and key."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        here = sorted(p.stem for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        hint = did_you_mean(path.stem, here) if here else "its folder has no .yaml file either."
        raise UsageError(f"There is no config file {path}; {hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Config file {path} cannot be read: {error}") from error
    return parse_config(text, str(path), overrides)


def parse_config(text: str, source: str, overrides: Sequence[str] = ()) -> Config:
    """YAML text -> Config. `source` names it in error messages."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    for override in overrides:
        _override(values, override)
    config: Config = _build(Config, values, source, "")
    return config


def _override(values: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes section.key=value, such as train.lr=1e-4, not '{override}'.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"--set {override}: '{text}' is not a YAML value; quote text and close brackets.") from error
    *sections, last = key.split(".")
    for section in sections:
        values = _section(values, override)
        if values.get(section) is None:  # a heading with nothing below it
            values[section] = {}
        values = values[section]
    _section(values, override)[last] = value


def _section(values: Any, override: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UsageError(f"--set {override}: {values!r} is a value, not a section of keys.")
    return values


def _build(cls: type, values: Any, source: str, where: str) -> Any:
    if not isinstance(values, dict):
        raise UsageError(f"{source}: '{where or 'the file'}' must be a section of keys, not {values!r}.")
    types_of = typing.get_type_hints(cls)
    built: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{where}.{key}" if where else str(key)
        if key not in types_of:
            raise UsageError(f"{source}: unknown key '{path}'; {did_you_mean(str(key), types_of)}")
        built[key] = _convert(types_of[key], value, source, path)
    if cls is Config and "name" not in built:
        raise UsageError(f"{source}: the key 'name' is missing; give the model a name.")
    return cls(**built)


def _convert(kind: Any, value: Any, source: str, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return _build(kind, value, source, path)
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(arm for arm in typing.get_args(kind) if arm is not type(None))
    if typing.get_origin(kind) is tuple:
        arms = typing.get_args(kind)
        size = None if arms[-1] is Ellipsis else len(arms)
        if not isinstance(value, list) or (size is not None and len(value) != size):
            wanted = "a list" if size is None else f"a list of {size}"
            raise UsageError(f"{source}: '{path}' must be {wanted}, not {value!r}.")
        return tuple(_convert(arms[0], item, source, path) for item in value)
    if kind is float and isinstance(value, (int, str)) and not isinstance(value, bool):
        try:  # YAML 1.1 reads 1e-4 as text
            return float(value)
        except ValueError:
            pass
    if type(value) is not kind:
        raise UsageError(f"{source}: '{path}' must be {_WORDS[kind]}, not {value!r}.")
    return value


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"{key} '{value}' is unknown; {did_you_mean(value, known)}")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
