# SPDX-License-Identifier: Apache-2.0
"""The exceptions a user can meet. Each message is one sentence: what was asked, what was found, what to do.

CenterMaskError          exit code 1   something failed while running
├── DriverError                        a call to CUDA (cuda/driver.py)
├── CompileError                       kernels that do not become code (cuda/compile.py)
├── DiskFullError                      an output that found no more space
├── UsageError           exit code 2   a flag, config key, value or call that makes no sense
├── DataError            exit code 3   an image, video, annotation file or folder, or an array that is no frame
├── ModelError           exit code 4   weights, an ONNX file or an engine
└── ExportError          exit code 5   an export that failed
    └── CheckError                     or an artefact worse than its source (centermask_export/checks/__init__.py)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

LONGEST = 300  # characters of a path in a sentence


class CenterMaskError(Exception):
    """Base of every error that is the world's fault, not the program's."""

    exit_code = 1


class DiskFullError(CenterMaskError):
    """An output that found no more space; what was whole until then is kept."""


class UsageError(CenterMaskError):
    """A flag, config key, value or call that makes no sense."""

    exit_code = 2


class DataError(CenterMaskError):
    """An image, video, annotation file or folder that cannot be used, or an array that is no frame."""

    exit_code = 3


class ModelError(CenterMaskError):
    """Weights, an ONNX file or an engine that cannot be used."""

    exit_code = 4


class ExportError(CenterMaskError):
    """An export that failed, or does not match its source."""

    exit_code = 5


def first_line(error: BaseException) -> str:
    """What a library's exception says first, without a full stop; its kind where it says nothing."""
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def shown(path: object) -> str:
    """A path or an address for a sentence of one line, of bounded length."""
    text = "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in str(path))
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]}...{text[-LONGEST // 2 :]}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause that names the nearest known word, or all of them when none is near."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else f"known are: {', '.join(known)}"


def counted(count: int, noun: str) -> str:
    """A count in words: 1 frame, 2 frames."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def some(values: Sequence[object]) -> str:
    """The first few values, for a sentence."""
    shown = ", ".join(str(value) for value in values[:5])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 5 else shown
