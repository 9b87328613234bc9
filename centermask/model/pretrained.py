# SPDX-License-Identifier: Apache-2.0
"""Starting weights from files that others published: which tensor goes where, and a report of what became of each.

Files are untrusted: safetensors, or PyTorch files read with weights_only, so nothing in them is ever executed.
Tensors go by name. A name with another shape, such as the heat map of other classes, is left alone and reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from centermask.model import movenet
from centermask.model.network import CenterMaskNet
from centermask_runtime.errors import ModelError

COUNTER = "num_batches_tracked"  # of batch norm; files from before PyTorch 0.4.1 have none, and none is missed


@dataclass(frozen=True)
class CheckpointLayout:
    """The names that some published code gives its tensors, and where each tensor goes here."""

    title: str
    mark: str  # a name that every file of this layout has
    renames: tuple[tuple[str, str], ...]  # pattern at the beginning of a name there -> beginning here
    rgb_stem: str | None = None  # here: first convolution, where it was trained on RGB; ours sees BGR
    start_heads: Callable[[CenterMaskNet, Mapping[str, Tensor]], list[str]] | None = None  # what does not go by name


def _hourglass_head(there: str, here: str) -> tuple[tuple[str, str], ...]:
    """Renames one head: stack 0 has a loss in training only; stack 1 is the one that inference uses."""
    return tuple(
        (rf"{there}\.{stack}\.{i}\.", f"{place}{here}.{j}.")
        for stack, place in ((0, "early.0."), (1, ""))
        for i, j in ((r"0\.conv", 0), ("1", 2))
    )


LAYOUTS = (
    CheckpointLayout("weights of CenterMask", "heatmap.0.weight", (("", ""),)),
    CheckpointLayout(
        "a DLA checkpoint of CenterNet",
        "base.base_layer.0.weight",
        (
            (r"base\.", "base."), (r"(dla_up|ida_up)\.", r"up.\1."),
            (r"hm\.", "heatmap."), (r"wh\.", "size."), (r"reg\.", "offset."),
        ),
    ),
    CheckpointLayout(
        "an Hourglass checkpoint of CenterNet",
        "kps.0.up1.0.conv1.weight",
        (
            (r"(pre|kps|cnvs|cnvs_|inters|inters_)\.", r"base.\1."),
            *_hourglass_head("hm", "heatmap"), *_hourglass_head("wh", "size"), *_hourglass_head("reg", "offset"),
        ),
    ),
    CheckpointLayout(
        "MoveNet MultiPose Lightning", movenet.MARK, ((r"base\.", "base."),), start_heads=movenet.start_heads
    ),
    CheckpointLayout(
        "ImageNet weights of EfficientNet-Lite", "efficientnet_lite.stem.conv.weight",
        ((r"efficientnet_lite\.", "base."),),
    ),
    CheckpointLayout(
        "ImageNet weights of DLA", "base_layer.0.weight", (("", "base."),), rgb_stem="base.base_layer.0.weight"
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Mismatch:
    name: str  # in the model
    found: tuple[int, ...]  # shape in the file
    wanted: tuple[int, ...]  # shape in the model


@dataclass(frozen=True)
class WeightsReport:
    """A report: what became of each tensor of a file, and which ones of the model the file lacked."""

    source: str  # the file
    layout: str  # what it looks like
    used: tuple[str, ...]  # names in the model
    skipped: tuple[str, ...]  # names in the file that have no place in the model
    mismatched: tuple[Mismatch, ...]
    untouched: tuple[str, ...]  # names in the model that keep their initial values; counters of batch norm apart

    def __str__(self) -> str:
        return (
            f"{self.source} ({self.layout}): {len(self.used)} tensors used, {len(self.mismatched)} of another shape, "
            f"{len(self.skipped)} without a place; {len(self.untouched)} of the model keep their initial values."
        )


def load_starting_weights(model: CenterMaskNet, path: Path) -> WeightsReport:
    """Copies what fits of a file into the model, in place, whatever the model's device and precision.

    Knows CenterMask's own weights, ImageNet weights of DLA (the published files and timm's) and CenterNet's DLA and
    Hourglass checkpoints. Raises ModelError if the file cannot be read safely, or if nothing in it fits.
    """
    found = {re.sub(r"^(module\.)+", "", name): tensor for name, tensor in _read(path).items()}
    layout = next((layout for layout in LAYOUTS if layout.mark in found), None)
    if layout is None:
        raise ModelError(
            f"{path} is asked for starting weights, but {_appearance(found)}; name ImageNet weights of DLA, a DLA or "
            "Hourglass checkpoint of CenterNet, or a .safetensors file of CenterMask."
        )
    places = model.state_dict()
    used, skipped, mismatched = [], [], []
    with torch.no_grad():
        for name, tensor in found.items():
            here = _rename(name, layout)
            place = places.get(here) if here is not None else None
            if here is None or place is None:
                skipped.append(name)
            elif place.shape != tensor.shape:
                mismatched.append(Mismatch(here, tuple(tensor.shape), tuple(place.shape)))
            else:
                place.copy_(tensor.flip(1) if here == layout.rgb_stem else tensor)
                used.append(here)
    if layout.start_heads is not None:
        used += layout.start_heads(model, found)
    if all(name.endswith(COUNTER) for name in used):
        raise ModelError(
            f"{path} is asked for starting weights and looks like {layout.title}, but none of its {len(found)} tensors "
            f"fits this model; choose the config that goes with it, such as {_config_of(layout)}."
        )
    named = {*used, *(one.name for one in mismatched)}
    untouched = tuple(name for name in places if name not in named and not name.endswith(COUNTER))
    return WeightsReport(str(path), layout.title, tuple(used), tuple(skipped), tuple(mismatched), untouched)


def _rename(name: str, layout: CheckpointLayout) -> str | None:
    for pattern, here in layout.renames:
        if match := re.match(pattern, name):
            return match.expand(here) + name[match.end() :]
    return None


def _config_of(layout: CheckpointLayout) -> str:
    return "hourglass_104" if "Hourglass" in layout.title else "dla_34"


def _appearance(found: dict[str, Tensor]) -> str:
    if not found:
        return "it holds no tensors"
    some = ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in list(found.items())[:3])
    return f"its {len(found)} tensors have names that are not known here ({some}, ...)"


# ---- reading --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a safetensors or PyTorch file, told apart by content. Raises ModelError."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise ModelError(f"There is no weights file {path}.") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read as a weights file ({error.strerror}); name another one.") from error
    return _read_safetensors(path) if start[8:] == b"{" else _read_pytorch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call, unused-ignore]
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); copy or download it again.") from error


def _read_pytorch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file makes PyTorch's reader raise anything
        if forbidden := re.search(r"GLOBAL (\S+)", str(error)):
            raise ModelError(
                f"{path} holds more than tensors ({forbidden.group(1)}), which could run code, so it was not read; "
                "save its state_dict alone, best as safetensors."
            ) from error
        raise ModelError(
            f"{path} is neither a PyTorch nor a safetensors file that can be read; copy or download it again."
        ) from error
    return _tensors(content)


def _tensors(content: Any) -> dict[str, Tensor]:
    """Finds the tensors of a state dict, or of the one inside a checkpoint with epoch, optimizer and so on."""
    if not isinstance(content, dict):
        return {}
    for key in ("state_dict", "model"):
        if isinstance(content.get(key), dict):
            return _tensors(content[key])
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
