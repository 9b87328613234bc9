# SPDX-License-Identifier: Apache-2.0
"""Starting weights from files that others published, and a report of what became of each tensor.

Files are untrusted: safetensors, or PyTorch files read with weights_only, so nothing in them is ever executed.
Tensors go by name. A name with another shape, such as the heat map of other classes, is left alone and reported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from centermask.model.checkpoint_layouts import LAYOUTS, Renames
from centermask.model.network import CenterMaskNet
from centermask_runtime.errors import ModelError

PARTS = ("base", "up", "heatmap", "offset", "size", "shape", "saliency")  # of a model, in the order of a sentence
COUNTER = "num_batches_tracked"  # of batch norm; files from before PyTorch 0.4.1 have none, and none is missed


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

    def parts(self) -> dict[str, tuple[str, ...]]:
        """Sorts the parts of the model, as base, up and heatmap, into what came whole, in part, and not at all."""
        used = {name.partition(".")[0] for name in self.used if not name.endswith(COUNTER)}
        missed = {name.partition(".")[0] for name in (*self.untouched, *(one.name for one in self.mismatched))}
        names = (*self.used, *(one.name for one in self.mismatched), *self.untouched)
        found = {name.partition(".")[0] for name in names}
        order = (*(part for part in PARTS if part in found), *sorted(found - set(PARTS)))
        return {
            "whole": tuple(part for part in order if part in used - missed),
            "in part": tuple(part for part in order if part in used & missed),
            "at random": tuple(part for part in order if part in missed - used),
        }

    def in_words(self, name: str = "") -> str:
        """Says in one line what a training starts from: base, up, size whole, heatmap in part, shape at random."""
        kinds = (f"{', '.join(parts)} {how}" for how, parts in self.parts().items() if parts)
        return f"Starts from {name or self.source} ({self.layout}): {'; '.join(kinds)}."

    def __str__(self) -> str:
        return (
            f"{self.source} ({self.layout}): {len(self.used)} tensors used, {len(self.mismatched)} of another shape, "
            f"{len(self.skipped)} without a place; {len(self.untouched)} of the model keep their initial values."
        )


def load_starting_weights(model: CenterMaskNet, path: Path) -> WeightsReport:
    """Copies what fits of a file into the model, in place, whatever the model's device and precision.

    It knows the files that checkpoint_layouts.py lists, CenterMask's own among them. Raises ModelError if the file
    cannot be read safely, or if nothing in it fits.
    """
    found = {re.sub(r"^(module\.)+", "", name): tensor for name, tensor in _read(path).items()}
    layout = next((layout for layout in LAYOUTS if layout.mark in found), None)
    if layout is None:
        raise ModelError(
            f"{path} is asked for starting weights, but {_appearance(found)}; name ImageNet weights of DLA or "
            "EfficientNet-Lite, a DLA or Hourglass checkpoint of CenterNet, or a .safetensors file of CenterMask."
        )
    places, renames = model.state_dict(), layout.renames_for(model)
    used, skipped, mismatched = [], [], []
    with torch.no_grad():
        for name, tensor in found.items():
            here = _rename(name, renames)
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
            f"fits this model; choose the backbone that goes with it, such as {layout.backbone}."
        )
    named = {*used, *(one.name for one in mismatched)}
    untouched = tuple(name for name in places if name not in named and not name.endswith(COUNTER))
    return WeightsReport(str(path), layout.title, tuple(used), tuple(skipped), tuple(mismatched), untouched)


def _rename(name: str, renames: Renames) -> str | None:
    for pattern, here in renames:
        if match := re.match(pattern, name):
            return match.expand(here) + name[match.end() :]
    return None


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
