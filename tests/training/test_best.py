# SPDX-License-Identifier: Apache-2.0
"""The best weights are not chosen by the noise of a small validation set; worked out by hand."""

from __future__ import annotations

import pytest

from centermask.training.best import Best


def follow(aps: list[float], objects: int) -> list[Best]:
    """What is best after each of the epochs 1, 2, 3, ..."""
    seen = [Best()]
    for epoch, ap in enumerate(aps, start=1):
        seen.append(seen[-1].after(epoch, ap, objects))
    return seen[1:]


def test_a_large_set_has_the_highest_ap_as_best():
    found = follow([0.1, 0.3, 0.2, 0.31, 0.25], objects=1000)
    assert [best.epoch for best in found] == [1, 2, 2, 4, 4]
    assert found[-1].ap == found[-1].score == 0.31 and found[-1].risen == 4


def test_of_equal_weights_the_later_are_kept():
    assert [best.epoch for best in follow([0.3, 0.3, 0.3], objects=1000)] == [1, 2, 3]
    assert [best.risen for best in follow([0.3, 0.3, 0.3], objects=1000)] == [1, 1, 1]


def test_a_difference_of_less_than_one_object_is_none_and_does_not_add_up():
    """1 / 1000 is one object; each epoch is worse than the one before by half of that."""
    found = follow([0.3, 0.2995, 0.2991, 0.2985, 0.298], objects=1000)
    assert [best.epoch for best in found] == [1, 2, 3, 3, 3]
    assert {best.score for best in found} == {0.3}


def test_a_small_set_is_judged_by_the_mean_of_three_validations():
    """One lucky validation in epoch 2, then a level that holds: 0.1, 0.25, 0.3, 0.4, 0.35."""
    found = follow([0.1, 0.4, 0.4, 0.4, 0.25], objects=100)
    assert [best.score for best in found] == pytest.approx([0.1, 0.25, 0.3, 0.4, 0.4])
    assert [best.epoch for best in found] == [1, 2, 3, 4, 4]
    lucky = follow([0.2, 0.2, 0.5, 0.2, 0.2, 0.4, 0.4], objects=100)
    assert [best.epoch for best in lucky] == [1, 2, 3, 4, 5, 5, 7]  # means .2 .2 .3 .3 .3 .267 .333


def test_nothing_found_is_no_reason_to_keep_the_first_weights_but_one_to_stop():
    found = follow([0.0, 0.0, 0.0], objects=45)[-1]
    assert (found.epoch, found.risen, found.ap) == (3, 1, 0.0)


def test_the_run_of_a_first_user_ends_with_its_later_weights():
    """20 images: 0.009 against 0.003 is less than one of the 45 objects."""
    assert follow([0.004, 0.009, 0.003], objects=45)[-1].epoch == 3
