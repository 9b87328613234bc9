# SPDX-License-Identifier: Apache-2.0
"""Every frame of a source has a name of its own, below one folder."""

from __future__ import annotations

from centermask_runtime.sources.names import FrameNames


def given(*names):
    made = FrameNames()
    return [made.of(name) for name in names]


def test_a_name_that_was_there_gets_a_number_that_is_free():
    assert given("x.png", "x.png", "deep/x.png", "x.png") == ["x.png", "x_2.png", "deep/x.png", "x_3.png"]
    assert given("x_2.png", "x.png", "x.png") == ["x_2.png", "x.png", "x_3.png"]


def test_names_are_one_where_their_pictures_would_be_one_file():
    assert given("a.bmp", "a.bmp.png", "a.bmp") == ["a.bmp", "a.bmp_2.png", "a_3.bmp"]


def test_no_name_leads_out_of_its_folder():
    assert given("../x.png", "/etc/x.png", "a/../../y.png", "..") == ["x.png", "etc/x.png", "y.png", "frame"]


def test_numbers_and_files_do_not_meet():
    made = FrameNames()
    assert [made.of_number(0), made.of("000000.png"), made.of("000001.png")] == ["000000", "000000_2.png", "000001.png"]
    assert made.of_number(1) == "000001_2"


def test_a_name_that_comes_a_thousand_times_stays_quick():
    names = given(*["x.png"] * 20_000)
    assert len(set(names)) == 20_000 and names[-1] == "x_20000.png"
