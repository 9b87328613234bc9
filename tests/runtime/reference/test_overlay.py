# SPDX-License-Identifier: Apache-2.0
"""What is drawn where: colours inside masks, nothing outside, labels that stay in the frame."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import ALPHA, PALETTE_BGR, DrawStyle, colour_numbers, draw, write_labels

FRAME_HW = (120, 160)


def instances_at(rects, labels=None, class_names=("cat", "dog"), crops=None):
    rects = np.array(rects, np.int32).reshape(-1, 4)
    n = len(rects)
    crops = crops or [np.ones((y1 - y0, x1 - x0), bool) for x0, y0, x1, y1 in rects]
    return Instances(
        FRAME_HW,
        rects.astype(np.float32),
        np.linspace(0.9, 0.5, n, dtype=np.float32),
        np.array([0] * n if labels is None else labels, np.int32),
        BoxMasks.from_crops(FRAME_HW, rects, crops),
        class_names,
        tuple(range(len(class_names))),
    )


@pytest.fixture
def frame():
    return np.random.default_rng(0).integers(0, 256, (*FRAME_HW, 3), dtype=np.uint8)


def test_the_frame_itself_is_not_changed(frame):
    before = frame.copy()
    draw(frame, instances_at([(10, 10, 50, 40)]))
    np.testing.assert_array_equal(frame, before)


def test_any_memory_layout_is_drawn_on_alike(frame):
    one = instances_at([(10, 10, 50, 40)])
    expected = draw(frame, one)
    read_only = frame.copy()
    read_only.flags.writeable = False
    turned = np.ascontiguousarray(frame[:, :, ::-1])[:, :, ::-1]
    for same in (read_only, turned, np.asfortranarray(frame), np.repeat(frame, 2, axis=1)[:, ::2]):
        np.testing.assert_array_equal(draw(same, one), expected)


def test_the_inside_of_a_mask_is_blended_its_edge_is_plain_and_the_rest_untouched(frame):
    crop = np.zeros((40, 50), bool)
    crop[5:30, 10:45] = True
    drawn = draw(frame, instances_at([(20, 30, 70, 70)], crops=[crop]), DrawStyle(boxes=False, labels=False))
    mask = np.zeros(FRAME_HW, bool)
    mask[35:60, 30:65] = True
    inner = np.zeros(FRAME_HW, bool)
    inner[36:59, 31:64] = True
    np.testing.assert_array_equal(drawn[~mask], frame[~mask])
    assert (drawn[mask & ~inner] == PALETTE_BGR[0]).all()
    expected = frame * (1 - ALPHA) + np.array(PALETTE_BGR[0]) * ALPHA
    assert np.abs(drawn[inner] - expected[inner]).max() <= 1


def test_each_part_can_be_left_out(frame):
    one = instances_at([(20, 30, 70, 70)], crops=[np.pad(np.ones((30, 40), bool), 5)])
    drawn = {
        options: draw(frame, one, DrawStyle(masks=options[0], boxes=options[1], labels=options[2]))
        for options in itertools.product((False, True), repeat=3)
    }
    np.testing.assert_array_equal(drawn[False, False, False], frame)
    assert len({image.tobytes() for image in drawn.values()}) == 8
    boxes_only = drawn[False, True, False]
    assert (boxes_only[30, 20:70] == PALETTE_BGR[0]).all() and (boxes_only[69, 20:70] == PALETTE_BGR[0]).all()
    np.testing.assert_array_equal(boxes_only[31:69, 21:69], frame[31:69, 21:69])


def middle_colours(frame, instances):
    drawn = draw(frame, instances, DrawStyle(masks=False, labels=False))
    return [tuple(drawn[y0, (x0 + x1) // 2].tolist()) for x0, y0, x1, y1 in instances.masks.rects]


RECTS = [(5, 5, 40, 40), (50, 5, 90, 40), (5, 60, 40, 100)]


def test_several_classes_are_coloured_by_class(frame):
    colours = middle_colours(frame, instances_at(RECTS, labels=[0, 1, 0]))
    assert colours[0] == colours[2] != colours[1]


def test_a_single_class_is_coloured_by_place():
    """By hand: sides 35 and more make cells of 32, and the middles (22, 22), (70, 22), (22, 80) fall into these."""
    numbers = colour_numbers(instances_at(RECTS, class_names=("nucleus",)))
    assert numbers.tolist() == [0 + 5 * 0, 2 + 5 * 0, 0 + 5 * 2]


def test_a_colour_by_place_knows_neither_score_nor_rank_nor_the_other_objects(frame):
    instances = instances_at(RECTS, class_names=("nucleus",))
    numbers = colour_numbers(instances)
    order = np.array([2, 0, 1])
    assert colour_numbers(instances.select(order)).tolist() == numbers[order].tolist()
    assert colour_numbers(instances.select(np.array([1]))).tolist() == [numbers[1]]
    assert len(set(middle_colours(frame, instances))) == 3


@given(st.integers(1, 60), st.integers(-1, 1), st.integers(-1, 1), st.integers(0, 300), st.integers(0, 300))
def test_neighbours_of_one_size_differ(side, right, down, x, y):
    """Squares that touch along a side, anywhere in a frame."""
    if abs(right) + abs(down) != 1:
        return
    x, y = x + 60, y + 60
    rects = [(x, y, x + side, y + side), tuple(np.array((x, y, x + side, y + side)) + side * np.tile((right, down), 2))]
    rects = np.array(rects, np.int32)
    masks = BoxMasks((500, 500), rects, tuple(np.zeros((side, -(-side // 8)), np.uint8) for _ in rects))
    two = Instances(
        (500, 500), rects.astype(np.float32), np.ones(2, np.float32), np.zeros(2, np.int32), masks, ("cell",), (1,)
    )
    first, second = colour_numbers(two)
    assert first != second


def test_ids_of_any_size_choose_a_colour():
    ids = np.array([0, 13, 2**40 + 1], np.int64)
    numbers = colour_numbers(dataclasses.replace(instances_at(RECTS), ids=ids))
    assert numbers.tolist() == [0, 1, (2**40 + 1) % 12] and numbers.dtype == np.int32


def test_labels_alone_are_what_a_picture_without_them_lacks(frame):
    two = instances_at(RECTS[:2], labels=[0, 1])
    drawn = draw(frame, two, DrawStyle(labels=False))
    write_labels(drawn, two, DrawStyle(labels=False))
    np.testing.assert_array_equal(drawn, draw(frame, two, DrawStyle(labels=False)))
    write_labels(drawn, two)
    np.testing.assert_array_equal(drawn, draw(frame, two))


def test_tracks_keep_their_colour_whatever_their_place(frame):
    first = middle_colours(frame, dataclasses.replace(instances_at(RECTS), ids=np.array([4, 5, 6])))
    second = middle_colours(frame, dataclasses.replace(instances_at(RECTS), ids=np.array([5, 6, 4])))
    assert first[1:] == second[:2] and first[0] == second[2]


def test_an_object_without_a_confirmed_track_has_no_number(frame):
    """-1 has the colour of 11 in a palette of 12, so the labels alone differ."""
    one = instances_at(RECTS[:1])
    without, with_number = (dataclasses.replace(one, ids=np.array([number])) for number in (-1, 11))
    bare, plain = (draw(frame, without, DrawStyle(labels=labels)) for labels in (False, True))
    np.testing.assert_array_equal(bare, draw(frame, with_number, DrawStyle(labels=False)))
    changed, wider = ((drawn != bare).any(2).sum() for drawn in (plain, draw(frame, with_number)))
    assert 0 < changed < wider


def test_more_than_fifty_objects_have_no_labels(frame):
    rects = [(x, y, x + 8, y + 8) for x in range(0, 160, 14) for y in range(20, 110, 18)]
    many, few = instances_at(rects[:51]), instances_at(rects[:50])
    np.testing.assert_array_equal(draw(frame, many), draw(frame, many, DrawStyle(labels=False)))
    assert (draw(frame, few) != draw(frame, few, DrawStyle(labels=False))).any()


@pytest.mark.parametrize(
    "rect", [(0, 0, 9, 9), (151, 0, 160, 9), (0, 111, 9, 120), (151, 111, 160, 120), (0, 0, 160, 120)]
)
def test_a_label_at_any_edge_is_wholly_in_the_frame(frame, rect):
    """A plate of one colour: its area is the same as that of a label in the middle."""
    one = instances_at([rect])
    middle = instances_at([(50, 60, 100, 100)])

    def changed(instances):
        return (draw(frame, instances, DrawStyle(masks=False, boxes=False)) != frame).any(axis=2).sum()

    assert changed(one) == pytest.approx(changed(middle), rel=0.02)


def test_labels_at_one_place_do_not_cover_each_other(frame):
    """Each plate has as many pixels of its colour as when it is alone."""
    frame[:] = 0
    names = ("aaa", "bbb", "ccc")
    style = DrawStyle(masks=False, boxes=False, scores=False)
    three = instances_at([(40, 40, 110, 80)] * 3, labels=[0, 1, 2], class_names=names)
    together = draw(frame, three, style)
    for index, one in enumerate(three):
        alone, colour = draw(frame, one, style), PALETTE_BGR[index]
        assert (together == colour).all(axis=2).sum() == (alone == colour).all(axis=2).sum() > 100


def test_a_label_without_a_place_is_left_out_and_the_best_is_there(frame):
    crowd = instances_at(
        [(40, 40, 110, 80)] * 30, labels=[index % 3 for index in range(30)], class_names=("a", "b", "c")
    )
    style = DrawStyle(masks=False, boxes=False)
    drawn, best = draw(frame, crowd, style), draw(frame, crowd.select(np.array([0])), style)
    changed = (best != frame).any(axis=2)
    np.testing.assert_array_equal(drawn[changed], best[changed])


def test_empty_masks_and_no_instances_are_drawn_without_fuss(frame):
    np.testing.assert_array_equal(draw(frame, instances_at([])), frame)
    empty = dataclasses.replace(instances_at([(0, 0, 0, 0)]), boxes=np.array([[3, 4, 20, 30]], np.float32))
    assert (draw(frame, empty, DrawStyle(labels=False)) != frame).any()


def test_a_frame_smaller_than_a_label_is_no_problem():
    one = Instances(
        (4, 5),
        np.array([[0, 0, 5, 4]], np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
        BoxMasks.from_crops((4, 5), np.array([[0, 0, 5, 4]], np.int32), [np.ones((4, 5), bool)]),
        ("a very long name — with a dash",),
        (1,),
    )
    assert draw(np.zeros((4, 5, 3), np.uint8), one).shape == (4, 5, 3)
