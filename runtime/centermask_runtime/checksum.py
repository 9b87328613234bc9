# SPDX-License-Identifier: Apache-2.0
"""The SHA-256 of a file: how the two files of one artefact, such as an engine and its description, know each other."""

from __future__ import annotations

import hashlib
from pathlib import Path


def sha256_of(path: Path) -> str:
    """The sum in hexadecimal digits. Raises OSError where the file cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
