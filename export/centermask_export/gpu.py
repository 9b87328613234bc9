# SPDX-License-Identifier: Apache-2.0
"""The GPU to build an engine on. The runtime says which there are: neither torch nor a CUDA package is needed."""

from __future__ import annotations

from centermask_runtime.cuda.facts import Gpu, gpus

__all__ = ["Gpu", "find_gpu"]


def find_gpu(device: int = 0) -> Gpu | None:
    """The GPU of this number; None where there is no driver or no such GPU."""
    found = gpus()
    return found[device] if device < len(found) else None
