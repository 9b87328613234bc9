# SPDX-License-Identifier: Apache-2.0
"""Published weights on this machine, with another implementation of each network, and the files made of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from tests.support.places import ROOT


@dataclass(frozen=True)
class Folder:
    """The folder that CENTERMASK_STARTING_WEIGHTS names."""

    path: Path

    def module(self, name: str) -> ModuleType:
        """Loads the file of this name, which lies in one of the folders; it imports nothing of CenterMask."""
        file = next(self.path.glob(f"*/{name}.py"))
        spec = importlib.util.spec_from_file_location(f"published_{name}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    @staticmethod
    def shipped(name: str) -> Path:
        return ROOT / "centermask" / "starting" / f"{name}.safetensors"


def by_order(tensors: Mapping[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Gives tensors of another implementation the names here: both list them in the order of the network."""
    names, found = list(network.state_dict()), list(tensors.values())
    if len(found) != len(names):  # a file without counters of batch norm
        names = [name for name in names if not name.endswith("num_batches_tracked")]
        found = [tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")]
    return dict(zip(names, found, strict=True))
