# SPDX-License-Identifier: Apache-2.0
"""Kinds of results are named once, and each has its place in the folder."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.sinks.outputs import KINDS, Outputs, sinks_of, text_sink
from centermask_runtime.sources.source import SourceInfo
from tests.support.awkward_masks import CATEGORY_IDS, NAMES, awkward_masks, frame_called, instances_of
from tests.support.small_pictures import names_in

SPEC = SimpleNamespace(class_names=NAMES, category_ids=CATEGORY_IDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_where_the_table_says_and_nowhere_else(tmp_path, kind):
    sinks = sinks_of(tmp_path, SourceInfo("images"), SPEC, Outputs.of(kind, style=None))
    entered = [sink.__enter__() for sink in sinks]
    for sink in entered:
        sink.add(frame_called("a.png"), instances_of(awkward_masks()))
    for sink in reversed(entered):
        sink.close()
    assert names_in(tmp_path) == [KINDS[kind]]


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ("coco", ("coco",)), ("csv, coco,csv", ("csv", "coco")), (["masks", "yolo"], ("masks", "yolo")), (None, ()),
        ("none", ()), ("", ()), ((), ()),
    ],
)  # fmt: skip
def test_kinds_are_a_text_or_a_list(given, kinds):
    assert Outputs.of(given).results == kinds


@pytest.mark.parametrize("given", ["coco,json", ["txt"], [3]])
def test_a_kind_that_there_is_not_is_refused(given):
    with pytest.raises(UsageError, match="There are no results of the kind"):
        Outputs.of(given)


def test_only_text_fits_into_one_stream():
    with pytest.raises(UsageError, match="choose jsonl or csv"):
        text_sink("masks", None)
