# SPDX-License-Identifier: Apache-2.0
"""Ids on labelled boxes with a detector's noise are near those of a tracker that knows them, also after a second."""

from __future__ import annotations

import pytest

from benchmarks.tracking import NOISES, Noise, mean_scores, scores_of


def test_the_metrics_know_what_is_perfect():
    scores = scores_of(Noise(0, 0, 0), 0, None)
    assert (scores.hota, scores.idf1, scores.switches, scores.tracks) == pytest.approx((1, 1, 0, 7))


@pytest.mark.parametrize(
    ("name", "most_lost", "most_switches", "most_tracks"),
    [
        ("labelled boxes", 0.02, 0, 7),  # the first frame of each has no id yet
        ("a detector", 0.03, 0, 7),
        ("an inexact one", 0.03, 0, 7),
        ("many false", 0.03, 0.5, 9),
        ("gap of 1 s", 0.03, 0, 7),
    ],
)
def test_the_tracker_is_near_the_one_that_knows_all_ids(name, most_lost, most_switches, most_tracks):
    found, perfect = (mean_scores(NOISES[name], 3, perfect=perfect) for perfect in (False, True))
    assert perfect.hota - found.hota <= most_lost and perfect.idf1 - found.idf1 <= most_lost
    assert found.switches <= most_switches and 7 <= found.tracks <= most_tracks
