# SPDX-License-Identifier: Apache-2.0
"""Lines are whole or not there, also where the disk is full in the middle of one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.sinks.text_output import TextOutput
from tests.support.small_pictures import names_in

FULL = """
import resource, sys
from centermask_runtime.errors import CenterMaskError
from centermask_runtime.sinks.csv_table import CsvSink
from centermask_runtime.sinks.coco_json import CocoSink
from tests.support.awkward_masks import *
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000,) * 2)  # the system refuses to write any further
try:
    sink = CsvSink(sys.argv[2]) if sys.argv[1] == "csv" else CocoSink(sys.argv[2], NAMES, CATEGORY_IDS)
    with sink:
        for index in range(1000):
            sink.add(frame_called(str(index), index), instances_of(awkward_masks()))
            print(index + 1, flush=True)
except CenterMaskError as error:
    print(type(error).__name__, error)
"""


def filled(kind, path):
    command = [sys.executable, "-c", FULL, kind, str(path)]
    *counts, sentence = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return int(counts[-1]), sentence


@pytest.mark.process
def test_after_a_full_disk_a_table_has_the_whole_rows_of_every_frame_until_then(tmp_path):
    given, sentence = filled("csv", tmp_path / "r.csv")
    assert sentence.startswith("DiskFullError") and "what was whole until then is kept" in sentence
    head, *rows = (tmp_path / "r.csv").read_text().split("\n")
    assert rows.pop() == "" and len(rows) == 9 * given and {row.count(",") for row in rows} == {head.count(",")}
    assert names_in(tmp_path) == ["r.csv"]


@pytest.mark.process
def test_after_a_full_disk_there_is_no_half_coco_file(tmp_path):
    given, sentence = filled("coco", tmp_path / "r.json")
    assert given < 1000 and sentence.startswith("DiskFullError") and names_in(tmp_path) == []


def test_an_error_leaves_nothing_and_an_end_leaves_all(tmp_path):
    with pytest.raises(ZeroDivisionError), TextOutput(tmp_path / "a") as output:
        output.write("one\n")
        raise ZeroDivisionError
    assert names_in(tmp_path) == []
    with TextOutput(tmp_path / "a") as output:
        output.write("one\n")
        output.write("zwölf\n")
    assert (tmp_path / "a").read_bytes() == "one\nzwölf\n".encode()


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        TextOutput(tmp_path / "a")
