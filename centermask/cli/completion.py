# SPDX-License-Identifier: Apache-2.0
"""What a shell offers for a model or a config: the names that CenterMask knows, and the files that the shell finds.

Commands and options are completed by click itself. docs/usage.md says how a shell is told.
"""

from __future__ import annotations

from collections.abc import Iterable

import click
from click.shell_completion import CompletionItem

from centermask.config import shipped_configs
from centermask.model.starting_weights import NAMES, NONE
from centermask.released import released_models


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Released models that begin so, and files."""
    return _names_and_files(released_models(), incomplete)


def complete_weights(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """What a training can start from: names of weights and released models that begin so, and files."""
    return _names_and_files((*NAMES, NONE, *released_models()), incomplete)


def complete_config(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Shipped configs that begin so, and files."""
    return _names_and_files(shipped_configs(), incomplete)


def _names_and_files(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    files = CompletionItem(incomplete, type="file")  # first, as bash forgets what came before it
    return [files, *(CompletionItem(name) for name in names if name.startswith(incomplete))]
