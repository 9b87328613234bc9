# SPDX-License-Identifier: Apache-2.0
"""One YAML file tells the whole story of a model and its training: no include, no default hidden elsewhere.

Every key is a field of a dataclass below, so an unknown or mistyped one is an error that names the nearest right one.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from centermask.bounds import (
    AT_LEAST_0,
    AT_LEAST_1,
    BELOW_1,
    POSITIVE,
    PROBABILITY,
    Bound,
    bounded,
    check_bounds,
    one_of,
)
from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.spec import SIZE_MULTIPLE

STRIDE = 4  # input pixels per heat-map cell: of every backbone here, and of the targets
BACKBONES = (
    "dla_34", "dla_46c", "efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "mobilenet_v2_fpn",
    "hourglass_104",
)  # fmt: skip
RISING = Bound("two rising positive numbers", lambda pair: 0 < pair[0] <= pair[1])
GROWING = Bound("two growing numbers", lambda pair: pair[0] < pair[1])
PERCENTILES = Bound("two growing numbers from 0 to 100", lambda pair: 0 <= pair[0] < pair[1] <= 100)
POSITIVE_BGR = Bound("three positive numbers", lambda bgr: min(bgr) > 0)
EPOCHS = Bound("at least 1, or auto", lambda value: value == "auto" or value >= 1)
LEVELS = Bound("at least 0, stem or base", lambda value: isinstance(value, str) or value >= 0)
FOUR_WIDTHS = Bound(
    "four positive whole numbers, the widths at strides 4, 8, 16, 32",
    lambda widths: len(widths) == 4 and min(widths) > 0,
)
PARTS_OF_RUN = Bound(
    "parts of the run, between 0 and 1 (of 90 epochs the 60th is 0.667)",
    lambda parts: all(0 < part < 1 for part in parts),
)

SHORTCUTS = {  # settings that people change at each training, by the names they have elsewhere
    "epochs": "train.epochs",
    "steps": "train.steps",
    "batch": "train.batch",
    "lr": "train.lr",
    "workers": "train.workers",
    "seed": "train.seed",
    "patience": "train.patience",
    "imgsz": "input.size",
}


@dataclass(frozen=True)
class ModelConfig:
    backbone: str = one_of(*BACKBONES)
    head_channels: int = bounded(256, AT_LEAST_1)  # width of the 3x3 convolution of each head
    shape_size: int = bounded(32, AT_LEAST_1)  # S
    saliency: str = one_of("class_specific", "class_agnostic")
    max_detections: int = bounded(100, AT_LEAST_1)  # K
    deformable: bool = False  # modulated deformable convolutions (DCNv2) in the up path of a DLA
    freeze: int | Literal["stem", "base"] = bounded(0, LEVELS)  # levels of the backbone that training leaves alone
    up_channels: tuple[int, ...] | None = bounded(None, FOUR_WIDTHS)  # of the up path; None: the backbone's own
    up_conv: str = one_of("plain", "separable")  # separable: depthwise and 1x1, a ninth of the arithmetic
    shape_channels: int | None = bounded(None, AT_LEAST_1)  # of the shape head alone, which runs at K cells only

    @property
    def size_multiple(self) -> int:
        """The sides of the input must be multiples of this, as so many pixels are one cell of the coarsest map."""
        return 128 if self.backbone == "hourglass_104" else SIZE_MULTIPLE


@dataclass(frozen=True)
class InputConfig:
    size: tuple[int, int] = (512, 512)  # height, width; what the exported network takes
    mean_bgr: tuple[float, float, float] = (0.40789654, 0.44719302, 0.47026115)
    std_bgr: tuple[float, float, float] = bounded((0.28863828, 0.27408164, 0.27809835), POSITIVE_BGR)
    range: tuple[float, float] | None = bounded(
        None, GROWING
    )  # of images with more than 8 bits: values that become 0, 255
    percentiles: tuple[float, float] | None = bounded(None, PERCENTILES)  # the same by percentiles of each image


@dataclass(frozen=True)
class AugmentConfig:
    """CenterNet's augmentation, drawn once per image and applied in one affine warp."""

    scale: tuple[float, float] = bounded((0.6, 1.4), RISING)  # times the scale that inference would use
    shift: float = bounded(0.1, AT_LEAST_0)  # of the canvas, either way, if the image fits; else crops lie anywhere
    flip: float = bounded(0.5, PROBABILITY)
    flip_vertical: float = bounded(0.0, PROBABILITY)
    rotate_90: bool = False  # a random quarter turn; for images without an up
    invert: float = bounded(0.0, PROBABILITY)  # of the negative; for microscopy
    colour: float = bounded(0.4, AT_LEAST_0)  # strength of brightness, contrast and saturation
    stain: float = bounded(0.0, BELOW_1)  # amounts of haematoxylin, eosin and DAB change by up to this
    gamma: float = bounded(0.0, AT_LEAST_0)  # exposure: exponents from exp(-this) to exp(this)
    shading: float = bounded(0.0, BELOW_1)  # uneven light: corners darker or lighter by up to this
    blur: float = bounded(0.0, PROBABILITY)  # of being out of focus a little
    grey: float = bounded(0.0, PROBABILITY)  # of no colour
    mosaic: float = bounded(0.0, PROBABILITY)  # of four images on one canvas
    copy_paste: float = bounded(0.0, PROBABILITY)  # of objects of a second image on top of this one
    close_mosaic: int = bounded(10, AT_LEAST_0)  # the last epochs go without mosaic and copy-paste


@dataclass(frozen=True)
class LossConfig:
    heatmap: float = 1.0
    offset: float = 1.0
    size: float = 0.1
    mask: float = 1.0
    saliency: float = 0.5
    mask_grid: int = bounded(28, AT_LEAST_1)  # M: the mask loss is taken on M x M points of the ground-truth box


@dataclass(frozen=True)
class TrainConfig:
    epochs: int | Literal["auto"] = bounded(73, EPOCHS)  # auto: as suits the number of images, see data/sampling.py
    steps: int | None = bounded(None, AT_LEAST_1)  # length of the training in steps, instead of epochs
    batch: int = bounded(32, AT_LEAST_1)  # images per step, all GPUs and micro-batches together
    accumulate: int = bounded(1, AT_LEAST_1)  # micro-batches per step on each GPU: less memory, the same step
    crop: tuple[int, int] | None = None  # train on crops of this size at inference scale; None: the input size
    optimizer: str = one_of("adam", "adamw")
    lr: float = bounded(2.5e-4, POSITIVE)
    lr_batch: int | None = bounded(None, AT_LEAST_1)  # the batch that lr is meant for; at another one lr is scaled
    base_lr: float = bounded(1.0, POSITIVE)  # factor of the rate for the backbone, which starts from other weights
    started_lr: float = bounded(1.0, POSITIVE)  # the same for up path and heads that starting weights bring whole
    weight_decay: float = bounded(0.0, AT_LEAST_0)
    warmup_steps: int = 500
    schedule: str = one_of("step", "cosine")  # step: tenfold drops at `drops`
    drops: tuple[float, ...] = bounded((9 / 13, 12 / 13), PARTS_OF_RUN)
    clip_norm: float = bounded(5.0, POSITIVE)
    ema: float = bounded(0.998, BELOW_1)
    sync_bn: bool = False  # batch norms over the images of all GPUs; for few images on each
    precision: str = one_of("32-true", "16-mixed", "bf16-mixed")  # Lightning Fabric's names
    compile: bool = False  # torch.compile: a slow start, faster steps
    recompute: bool = False  # activation checkpointing in the backbone: less memory, slower steps, the same weights
    workers: int | None = bounded(None, AT_LEAST_0)  # loader processes on each GPU; None: as many as cores allow
    cache: bool = False  # keep decoded images and masks in memory; for small sets
    val_every: int = bounded(1, AT_LEAST_1)  # epochs
    patience: int = bounded(0, AT_LEAST_0)  # epochs without a better mask AP after which training stops; 0: never
    checkpoint_every: int = bounded(1000, AT_LEAST_1)  # steps; an epoch's end has one anyway
    multi_scale: float = bounded(0.0, BELOW_1)  # each batch in a size from 1 - this to 1 + this times the usual
    repeat_threshold: float = bounded(0.0, PROBABILITY)  # t of LVIS: classes on fewer of the images come more often
    distill: str | None = None  # a larger model that also teaches: a weights file, or the name of a released model
    distill_weight: float = bounded(1.0, POSITIVE)  # of what it says, against the annotations
    seed: int = bounded(0, AT_LEAST_0)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)


@dataclass(frozen=True)
class Config:
    name: str
    model: ModelConfig = field(default_factory=ModelConfig)
    input: InputConfig = field(default_factory=InputConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        """Checks each value by the bound on its field, then what several values must be together."""
        check_bounds(self)
        multiple = self.model.size_multiple
        for key, size in (("input.size", self.input.size), ("train.crop", self.train.crop)):
            if size is not None and (min(size) <= 0 or any(side % multiple for side in size)):
                raise UsageError(
                    f"{key} must be two positive multiples of {multiple} (height, width) for {self.model.backbone}, "
                    f"not {list(size)}."
                )
        if self.model.backbone == "hourglass_104" and (self.model.up_channels or self.model.up_conv != "plain"):
            raise UsageError(
                "model.up_channels and model.up_conv are for an up path, and hourglass_104 has none; leave them out."
            )
        if self.model.deformable and not self.model.backbone.startswith("dla"):
            raise UsageError(
                f"model.deformable is for the up path of a DLA, and {self.model.backbone} has none; set it to false."
            )
        if self.model.deformable and self.model.up_conv != "plain":
            raise UsageError(
                f"model.deformable and model.up_conv {self.model.up_conv} both say which convolutions the up path has; "
                "set deformable to false or up_conv to plain."
            )
        if self.input.range is not None and self.input.percentiles is not None:
            raise UsageError("input.range and input.percentiles exclude each other; set one of them to null.")
        if self.train.compile and self.train.recompute:
            raise UsageError(
                "train.recompute and train.compile exclude each other, as a compiled network chooses itself what to "
                "compute again; set one of them to false."
            )

    @property
    def canvas_hw(self) -> tuple[int, int]:
        """The size of a training image, height and width."""
        return self.train.crop or self.input.size

    def to_yaml(self) -> str:
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)


def load_config(config: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a YAML file, or a config that ships with CenterMask by its name, and applies `section.key=value` overrides.

    Raises UsageError that names file and key.

        load_config("dla_46c", ["train.epochs=30", "input.size=[320, 320]"])
    """
    path = find_config(config)
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Config file {path} cannot be read: {error}") from error
    return parse_config(text, str(path), overrides)


def find_config(config: str | Path) -> Path:
    """Finds the file of a config, which is given by its path or by the name of one that ships with CenterMask.

    Raises UsageError that proposes what would work.
    """
    path, shipped = Path(config), shipped_configs()
    if path.is_file() or (path.exists() and str(config) not in shipped):
        return path
    if str(config) in shipped:
        return shipped[str(config)]
    beside = {file.stem: file for file in path.parent.glob("*.y*ml") if not file.name.startswith(".")}
    near = difflib.get_close_matches(path.stem, beside, n=1)
    proposal = f"did you mean '{beside[near[0]]}'?" if near else did_you_mean(path.stem, shipped)
    raise UsageError(f"There is no config file {path}; {proposal}")


def shipped_configs() -> dict[str, Path]:
    """The configs that come with CenterMask, by name: in an installed package, or beside the package in a checkout."""
    here = Path(__file__).parent
    folder = next(folder for folder in (here / "configs", here.parent / "configs") if folder.is_dir())
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def parse_config(text: str, source: str, overrides: Sequence[str] = ()) -> Config:
    """Turns YAML text into a Config. `source` names the text in error messages."""
    try:
        values = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from error
    for override in overrides:
        _override(values, override)
    config: Config = _build(Config, values, source, "")
    return config


def shortcut_overrides(settings: Mapping[str, int | float | str | None]) -> list[str]:
    """Turns values of SHORTCUTS into overrides, without those that are None. Raises UsageError for another name."""
    overrides = []
    for name, value in settings.items():
        if name not in SHORTCUTS:
            raise UsageError(f"There is no setting '{name}'; {did_you_mean(name, SHORTCUTS)}")
        if value is not None:
            overrides.append(f"{SHORTCUTS[name]}={[value, value] if name == 'imgsz' else value}")
    if settings.get("epochs") is not None and settings.get("steps") is None:
        overrides.append("train.steps=null")  # the config's steps would win
    return overrides


def _override(values: Any, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UsageError(f"An override is section.key=value, such as train.lr=1e-4, not '{override}'.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"Override {override}: '{text}' is no YAML value; quote text and close brackets.") from error
    *sections, last = key.split(".")
    for section in sections:
        values = _section(values, override)
        if values.get(section) is None:  # a heading with nothing below it
            values[section] = {}
        values = values[section]
    _section(values, override)[last] = value


def _section(values: Any, override: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UsageError(f"Override {override}: {values!r} is a value, not a section of keys.")
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
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        arms = typing.get_args(kind)
        words = tuple(word for arm in arms for word in typing.get_args(arm) if typing.get_origin(arm) is Literal)
        if value in words or (value is None and type(None) in arms):
            return value
        kind = next(arm for arm in arms if arm is not type(None) and typing.get_origin(arm) is not Literal)
        if words and type(value) is not kind:
            raise UsageError(f"{source}: '{path}' must be {_WORDS[kind]} or {' or '.join(words)}, not {value!r}.")
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
