# SPDX-License-Identifier: Apache-2.0
"""Counts over time as pandas reads them: a row per second, region and class, and the last frame."""

from __future__ import annotations

import dataclasses
import errno

import numpy as np
import pandas
import pytest

from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from centermask_runtime.sinks.counts_csv import HEADER, CountsSink
from centermask_runtime.tracking.regions import Region
from centermask_runtime.tracking.regions_file import Regions
from tests.support.moving_discs import FPS, NAMES, Disc, moment, seen
from tests.support.small_pictures import names_in

GATE = Region("gate, north", "line", ((160.0, 20.0), (160.0, 230.0)))
YARD = Region("yard", "zone", ((160.0, 20.0), (310.0, 20.0), (310.0, 230.0), (160.0, 230.0)))
REGIONS = Regions((GATE, YARD))
BALL, COIN = Disc(100, 100, 40, 0, 10), Disc(220, 150, -40, 0, 10, label=1)  # meet x = 160 at 1.5 s


def table_of(path, frames=76, times=True, **options):
    with CountsSink(path, REGIONS, NAMES, **options) as sink:
        for index in range(frames):
            found = dataclasses.replace(seen([BALL, COIN], index / FPS), ids=np.array([1, 2]))
            sink.add(moment(index, index / FPS if times else None), found)
    return pandas.read_csv(path)


def test_there_is_a_row_per_second_region_and_class(tmp_path):
    table = table_of(tmp_path / "counts.csv", frames=85)
    assert tuple(table) == HEADER and names_in(tmp_path) == ["counts.csv"]
    assert table.time_s.unique().tolist() == [0, 1, 2, 3, 3.36] and table.frame.unique().tolist() == [0, 25, 50, 75, 84]
    last = table[table.time_s == 3.36].set_index(["name", "class"])
    assert last.loc[("gate, north", "ball"), ["in", "out"]].tolist() == [1, 0], "to the left hand of who walks down"
    assert last.loc[("gate, north", "coin"), ["in", "out"]].tolist() == [0, 1]
    assert last.loc[("yard", "ball"), ["in", "out", "inside", "seen"]].tolist() == [1, 0, 1, 1]
    assert last.loc[("yard", "coin"), ["in", "out", "inside", "seen"]].tolist() == [0, 1, 0, 1]
    assert last.loc["gate, north"][["inside", "seen"]].isna().all(axis=None)
    nothing = table[(table.time_s == 0) & (table.kind == "line")]
    assert nothing["class"].isna().all() and nothing[["in", "out"]].to_numpy().tolist() == [[0, 0]]
    sums = table.groupby(["time_s", "name"])[["in", "out"]].sum()
    assert sums.loc[(1, "yard")].tolist() == [0, 0] and sums.loc[(2, "yard")].tolist() == [1, 1]


@pytest.mark.parametrize(("times", "options"), [(True, {"every_s": 0}), (False, {})])
def test_there_may_be_rows_for_each_frame(tmp_path, times, options):
    table = table_of(tmp_path / "counts.csv", 10, times, **options)
    assert table.frame.unique().tolist() == list(range(10)) and table.time_s.isna().all() != times


def test_the_last_frame_is_not_written_twice(tmp_path):
    table = table_of(tmp_path / "counts.csv", 51)
    assert table.time_s.unique().tolist() == [0, 1, 2] and not table.duplicated().any()


def test_no_frames_are_a_table_without_rows(tmp_path):
    assert len(table_of(tmp_path / "counts.csv", 0)) == 0


def test_an_error_leaves_no_file(tmp_path):
    with (
        pytest.raises(DataError, match="points outside the frame"),
        CountsSink(tmp_path / "c.csv", REGIONS, NAMES) as sink,
    ):
        sink.add(moment(0), seen([], 0, (100, 100)))
    assert names_in(tmp_path) == []


def test_a_full_disk_is_one_sentence(tmp_path):
    class Full:
        def writerow(self, row):
            raise OSError(errno.ENOSPC, "No space left on device")

    sink = CountsSink(tmp_path / "c.csv", REGIONS, NAMES)
    sink._rows = Full()
    with pytest.raises(CenterMaskError, match=r"c.csv cannot be written on: No space left on device\."), sink:
        sink.add(moment(0), seen([], 0))
    assert names_in(tmp_path) == []


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(UsageError, match="every_s must be a number between 0 and 86400, not -1"):
        CountsSink(tmp_path / "c.csv", REGIONS, NAMES, every_s=-1)
    with pytest.raises(DataError, match="counts the class 'cat'"):
        CountsSink(tmp_path / "c.csv", Regions((dataclasses.replace(GATE, classes=("cat",)),)), NAMES)
    assert names_in(tmp_path) == []
