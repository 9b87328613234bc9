# SPDX-License-Identifier: Apache-2.0
"""Whether an optional package is installed, and the one sentence that a user reads where it is not."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable

from centermask_runtime.errors import UsageError

DISTRIBUTION = "centermask"


def is_installed(module: str) -> bool:
    """Whether `import module` would find something, without importing it; `module` may have dots."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ModuleNotFoundError, ValueError):  # the package that would hold it is missing, or a stub without a spec
        return False


def install_command(extras: str | Iterable[str]) -> str:
    """The command that installs the packages of one extra or of several.

    >>> install_command("openvino")
    "pip install 'centermask[openvino]'"
    """
    names = extras if isinstance(extras, str) else ",".join(extras)
    return f"pip install '{DISTRIBUTION}[{names}]'"


def need(module: str, extra: str, purpose: str) -> None:
    """Raises UsageError, with the command that installs it, where a module of one of our extras is missing.

    need("openvino", "openvino", "running model.xml")
    """
    if not is_installed(module):
        raise UsageError(f"{module} is needed for {purpose}: {install_command(extra)}.")
