# SPDX-License-Identifier: Apache-2.0
"""The models that come with this package, and the names that open them."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "released"
ALIASES = {"nuclei": "nuclei_dla_46c", "person": "person_mobilenet_v2_fpn"}  # what is found -> the best model for it
DEFAULT = "nuclei_dla_46c"  # of commands that are given none


def released_models() -> dict[str, Path]:
    """Every name that opens a released model, aliases among them, and its weights.

    >>> released_models()["nuclei"].name
    'nuclei_dla_46c.safetensors'
    """
    files = {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"))}
    return files | {alias: files[name] for alias, name in ALIASES.items() if name in files}
