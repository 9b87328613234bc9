# SPDX-License-Identifier: Apache-2.0
"""Objects across seams: joined by their masks, none twice, and no pixel decided by a tile that does not own it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.seams import Seams
from centermask_runtime.pipeline.tiling import Tiling
from tests.support.exact_pipeline import ExactPipeline, colour_masks, disc_picture


@st.composite
def pictures(draw, largest=40):
    frame_hw = draw(st.integers(20, 260)), draw(st.integers(20, 260))
    inside = st.tuples(st.integers(0, frame_hw[1] - 1), st.integers(0, frame_hw[0] - 1), st.integers(6, largest))
    return disc_picture(frame_hw, draw(st.lists(inside, max_size=12)))


@st.composite
def tilings(draw, least=1):
    tile = draw(st.integers(max(32, 2 * least), 120))
    return Tiling(tile, draw(st.integers(least, tile // 2)))


def seen_by_tiles(picture, tiling, pipeline):
    """Rows of tiles, and what the pipeline sees in each."""
    for row in tiling.rows(picture.shape[:2]):
        yield row, [pipeline(picture[y0:y1, x0:x1]) for x0, y0, x1, y1 in (tile.rect for tile in row)]


def joined(picture, tiling, pipeline):
    seams = Seams(picture.shape[:2])
    parts, found = [], []
    for row, found in seen_by_tiles(picture, tiling, pipeline):
        parts.append(seams.add(row, found))
    return Instances.concatenate([*parts, seams.rest(found[0])])


@given(picture=pictures(), tiling=tilings())
def test_each_disc_is_found_once_with_every_pixel_of_it(picture, tiling):
    """Of any size, also larger than a tile, in any number of tiles; the tiles see what there is."""
    found = joined(picture, tiling, ExactPipeline())
    truth = colour_masks(picture)
    assert len(found) == len(truth)
    left = [found.masks.canvas(index) for index in range(len(found))]
    for mask in truth.values():
        places = [place for place, one in enumerate(left) if (one == mask).all()]
        assert len(places) == 1
        left.pop(places[0])


@given(picture=pictures(largest=30), tiling=tilings(least=24), seed=st.integers(0, 100))
def test_each_disc_is_found_once_where_tiles_err_by_a_pixel(picture, tiling, seed):
    found = joined(picture, tiling, ExactPipeline(shift=1, seed=seed))
    truth = [mask for mask in colour_masks(picture).values() if mask.sum() > 100]  # what errs out of the frame is lost
    large = [index for index, area in enumerate(found.masks.areas()) if area > 100]
    for mask in truth:
        common = [found.masks.canvas(index)[mask].mean() for index in range(len(found))]
        assert sorted(common)[-1] > 0.6 and sum(share > 0.05 for share in common) == 1
    assert len(large) <= len(colour_masks(picture))


@given(picture=pictures(), tiling=tilings(), seed=st.integers(0, 100))
def test_a_pixel_is_decided_by_the_tile_in_whose_core_it_lies(picture, tiling, seed):
    """Whatever the tiles see: here they contradict each other by up to nine pixels."""
    pipeline = ExactPipeline(shift=9, seed=seed)
    seams, parts = Seams(picture.shape[:2]), []
    said = np.zeros(picture.shape[:2], int)  # how many objects of its tile hold each pixel
    found = []
    for row, found in seen_by_tiles(picture, tiling, pipeline):
        parts.append(seams.add(row, found))
        for tile, instances in zip(row, found, strict=True):
            (x0, y0, _, _), (left, top, right, bottom) = tile.rect, tile.core
            counts = instances.masks.canvases().sum(axis=0)
            said[top:bottom, left:right] = counts[top - y0 : bottom - y0, left - x0 : right - x0]
    result = Instances.concatenate([*parts, seams.rest(found[0])])
    assert (result.masks.canvases().sum(axis=0) <= said).all()
    boxes, rects = result.boxes, result.masks.rects
    assert (boxes[:, :2] <= rects[:, :2]).all() and (boxes[:, 2:] >= rects[:, 2:]).all()


FRAME_HW = (40, 100)
ROW = next(iter(Tiling(60, 20).rows(FRAME_HW)))  # two tiles, 0 to 60 and 40 to 100, with the seam at 50


def seen(*objects, hw=(40, 60)):
    """Instances of a tile: (x0, y0, x1, y1, score, label) each, of which the mask is the box."""
    given = np.array(objects, np.float64).reshape(-1, 6)
    rects = given[:, :4].astype(np.int32)
    crops = [np.ones((y1 - y0, x1 - x0), np.bool_) for x0, y0, x1, y1 in rects.tolist()]
    return Instances(
        hw, given[:, :4].astype(np.float32), given[:, 4].astype(np.float32), given[:, 5].astype(np.int32),
        BoxMasks.from_crops(hw, rects, crops), ("a", "b"), (1, 2),
    )  # fmt: skip


def result_of(left, right):
    assert [tile.core for tile in ROW] == [(0, 0, 50, 40), (50, 0, 100, 40)]
    seams = Seams(FRAME_HW)
    assert len(seams.add(ROW, [left, right])) == 0  # a row below could add to all of them
    return seams.rest(left)


def test_two_views_of_one_object_are_one_with_the_higher_score_and_the_box_around_both():
    found = result_of(seen((30, 10, 60, 20, 0.4, 0)), seen((0, 10, 25, 22, 0.7, 0)))
    assert found.masks.rects.tolist() == [[30, 10, 65, 22]]
    assert found.boxes.tolist() == [[30, 10, 65, 22]]
    assert found.scores.tolist() == pytest.approx([0.7])
    expected = np.zeros(FRAME_HW, bool)
    expected[10:20, 30:50] = True  # of the left tile
    expected[10:22, 50:65] = True  # of the right one
    np.testing.assert_array_equal(found.masks.canvas(0), expected)


def test_another_class_is_another_object_and_each_ends_at_the_seam():
    found = result_of(seen((30, 10, 60, 20, 0.4, 0)), seen((5, 10, 25, 20, 0.7, 1)))
    assert sorted(found.masks.rects.tolist()) == [[30, 10, 50, 20], [50, 10, 65, 20]]
    assert found.boxes.tolist() == found.masks.rects.tolist()


def test_masks_that_differ_by_more_than_half_are_two_objects():
    found = result_of(seen((30, 10, 60, 20, 0.4, 0)), seen((0, 16, 30, 26, 0.7, 0)))
    assert len(found) == 2
    assert not found.masks.canvases().all(axis=0).any()


def test_an_object_in_the_shared_part_is_found_once_as_the_owner_saw_it():
    found = result_of(seen((41, 10, 48, 20, 0.4, 0)), seen((1, 10, 8, 19, 0.7, 0)))
    assert found.masks.rects.tolist() == [[41, 10, 48, 20]]
    assert found.scores.tolist() == pytest.approx([0.4])


def test_what_one_tile_alone_saw_counts_where_its_centre_lies_in_the_core():
    nothing = seen()
    mine = result_of(seen((30, 10, 58, 20, 0.4, 0)), nothing)
    assert mine.masks.rects.tolist() == [[30, 10, 50, 20]]  # the right tile saw nothing there
    assert len(result_of(seen((45, 10, 60, 20, 0.4, 0)), nothing)) == 0
    assert len(result_of(nothing, nothing)) == 0


def test_of_two_that_fit_the_more_alike_is_joined_and_one_tile_gives_an_object_one_detection():
    left = seen((30, 10, 60, 20, 0.4, 0), (30, 12, 60, 20, 0.5, 0))
    found = result_of(left, seen((0, 12, 25, 20, 0.7, 0)))
    rects = sorted(found.masks.rects.tolist())
    assert rects == [[30, 10, 50, 20], [30, 12, 65, 20]]


def test_an_object_across_three_tiles_is_one_and_comes_when_its_last_row_is_done():
    tiling = Tiling(60, 20)
    rows = list(tiling.rows((140, 60)))
    objects = (10, 20, 20, 60, 0.5, 0), (10, 0, 20, 60, 0.6, 0), (10, 0, 20, 15, 0.4, 0)
    views = [seen(one, hw=(60, 60)) for one in objects]
    seams = Seams((140, 60))
    assert [len(seams.add(row, [view])) for row, view in zip(rows, views, strict=True)] == [0, 0, 0]
    found = seams.rest(views[0])
    assert found.masks.rects.tolist() == [[10, 20, 20, 95]] and found.masks.areas().tolist() == [750]


def test_objects_come_with_the_first_row_that_cannot_add_to_them():
    picture = disc_picture((300, 60), [(30, 20, 10), (30, 150, 10), (30, 280, 10)])
    seams, counts = Seams((300, 60)), []
    for row, found in seen_by_tiles(picture, Tiling(60, 20), ExactPipeline()):
        counts.append(len(seams.add(row, found)))
    assert len(seams.rest(found[0])) == 1
    assert sum(counts) == 2 and counts[1] == 1  # the first disc with the second row
