# SPDX-License-Identifier: Apache-2.0
"""CenterMask: real-time instance segmentation, from a data set to a running product.

    from centermask import CenterMask, evaluate, export, train

    model = CenterMask("nuclei")
    found = model("tissue.png")

All names of centermask_runtime are here, too; CenterMask opens weights and released models besides. Each name is
imported when it is asked for, so `import centermask` is quick and loads no other package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from centermask.version import __version__ as __version__

if TYPE_CHECKING:
    from centermask.api import CenterMask, evaluate, export
    from centermask.training.start import train
    from centermask_runtime import (
        BoxMasks,
        CenterMaskError,
        Counting,
        DataError,
        DrawStyle,
        Instances,
        ModelError,
        ModelSpec,
        Result,
        Results,
        Summary,
        Tracker,
        UsageError,
        draw,
        read_regions,
    )


__all__ = [
    "BoxMasks",
    "CenterMask",
    "CenterMaskError",
    "Counting",
    "DataError",
    "DrawStyle",
    "Instances",
    "ModelError",
    "ModelSpec",
    "Result",
    "Results",
    "Summary",
    "Tracker",
    "UsageError",
    "draw",
    "evaluate",
    "export",
    "read_regions",
    "train",
]

_HOMES = {  # of what is not the runtime's
    "CenterMask": "centermask.api",
    "evaluate": "centermask.api",
    "export": "centermask.api",
    "train": "centermask.training.start",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "train":
        importlib.import_module("centermask_runtime.packages").need("lightning_fabric", "train", "training")
    return getattr(importlib.import_module(_HOMES.get(name, "centermask_runtime")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
