# SPDX-License-Identifier: Apache-2.0
"""CenterMask without torch: open an exported model, and find objects with masks in pictures and videos.

    from centermask_runtime import CenterMask

    model = CenterMask("model.onnx")
    found = model("photo.jpg")

Each name is imported when it is asked for, so `import centermask_runtime` is quick and loads no other package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from centermask_runtime.box_masks import BoxMasks
    from centermask_runtime.errors import CenterMaskError, DataError, ModelError, UsageError
    from centermask_runtime.instances import Instances
    from centermask_runtime.model import CenterMask
    from centermask_runtime.predict import Result, Summary
    from centermask_runtime.reference.overlay import DrawStyle, draw
    from centermask_runtime.results import Results
    from centermask_runtime.spec import ModelSpec
    from centermask_runtime.tracking.counting import Counting
    from centermask_runtime.tracking.regions_file import read_regions
    from centermask_runtime.tracking.tracker import Tracker

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
    "read_regions",
]

_HOMES = {
    "BoxMasks": "centermask_runtime.box_masks",
    "CenterMask": "centermask_runtime.model",
    "CenterMaskError": "centermask_runtime.errors",
    "Counting": "centermask_runtime.tracking.counting",
    "DataError": "centermask_runtime.errors",
    "DrawStyle": "centermask_runtime.reference.overlay",
    "Instances": "centermask_runtime.instances",
    "ModelError": "centermask_runtime.errors",
    "ModelSpec": "centermask_runtime.spec",
    "Result": "centermask_runtime.predict",
    "Results": "centermask_runtime.results",
    "Summary": "centermask_runtime.predict",
    "Tracker": "centermask_runtime.tracking.tracker",
    "UsageError": "centermask_runtime.errors",
    "draw": "centermask_runtime.reference.overlay",
    "read_regions": "centermask_runtime.tracking.regions_file",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
