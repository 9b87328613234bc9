# SPDX-License-Identifier: Apache-2.0
"""Which of a data set's categories are meant: the name decides, as each layout numbers the same classes in its own way.

COCO counts from 1 or leaves gaps, YOLO from 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from centermask.data.dataset import Dataset


def ids_by_name(names: Sequence[str], dataset: Dataset) -> tuple[int, ...] | None:
    """The data set's category id of each name. None unless they are all of its names, and each is there once."""
    if len(set(names)) != len(names) or sorted(names) != sorted(dataset.class_names):
        return None
    id_of = dict(zip(dataset.class_names, dataset.category_ids, strict=True))
    return tuple(id_of[name] for name in names)


def some(values: Sequence[object]) -> str:
    """The first few, for a sentence."""
    shown = ", ".join(str(value) for value in values[:5])
    return f"{shown}, ... ({len(values)} in all)" if len(values) > 5 else shown
