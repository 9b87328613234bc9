# SPDX-License-Identifier: Apache-2.0
"""A CSV table has a row per object, and pandas reads the numbers that were found."""

from __future__ import annotations

import csv
import io

import numpy as np
import pandas

from centermask_runtime.sinks.csv_table import COLUMNS, CsvSink
from tests.support.awkward_masks import CATEGORY_IDS, NAMES, awkward_masks, frame_called, instances_of


def test_pandas_reads_what_was_found(tmp_path):
    found = [instances_of(awkward_masks()), instances_of([]), instances_of(awkward_masks(1), ids=np.arange(9) + 5)]
    with CsvSink(tmp_path / "r.csv") as sink:
        for index, instances in enumerate(found):
            sink.add(frame_called(f"v_{index:06d}", index, index / 4), instances)
    table = pandas.read_csv(tmp_path / "r.csv")
    assert tuple(table.columns) == COLUMNS and len(table) == 18
    for index in (0, 2):
        rows, instances = table[table["index"] == index], found[index]
        assert (rows["time_s"] == index / 4).all() and (rows["frame"] == f"v_{index:06d}").all()
        assert rows["object"].tolist() == list(range(1, 10))
        assert rows["name"].tolist() == instances.names and rows["area"].tolist() == instances.masks.areas().tolist()
        assert rows["category_id"].tolist() == [CATEGORY_IDS[label] for label in instances.labels]
        np.testing.assert_allclose(rows[["x1", "y1", "x2", "y2"]], instances.boxes, atol=5e-4)
        np.testing.assert_allclose(rows["score"], instances.scores, atol=5e-7)
    assert table["track_id"].isna().tolist() == [True] * 9 + [False] * 9


def test_names_with_commas_and_quotes_stay_one_field(capsys):
    assert "dog/cat" in NAMES
    with CsvSink(None) as sink:
        sink.add(frame_called('a, "b".png'), instances_of(awkward_masks()[:1]))
    head, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert tuple(head) == COLUMNS and row[0] == 'a, "b".png' and row[2] == row[4] == ""


def test_no_objects_are_a_table_without_rows(tmp_path):
    with CsvSink(tmp_path / "r.csv") as sink:
        sink.add(frame_called("a.png"), instances_of([]))
    assert (tmp_path / "r.csv").read_text() == ",".join(COLUMNS) + "\n"
