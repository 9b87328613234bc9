# SPDX-License-Identifier: Apache-2.0
"""The result type: crops and canvases agree, selections keep everything together, other forms hold the same."""

from __future__ import annotations

import dataclasses
import io
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.images import read_image
from centermask_runtime.instances import Instances
from centermask_runtime.reference import rle
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.reference.polygons import Polygon
from tests.runtime.reference.test_polygons import filled
from tests.runtime.test_box_masks import random_masks

FRAME_HW = (30, 40)


@pytest.fixture
def canvases():
    rng = np.random.default_rng(3)
    full = np.zeros((4, *FRAME_HW), bool)
    full[0, 3:12, 5:22] = rng.random((9, 17)) < 0.6
    full[1, :, 30:40] = rng.random((30, 10)) < 0.6
    full[3, 29, 39] = True
    return full


@pytest.fixture
def masks(canvases):
    rects = np.array([(5, 3, 22, 12), (30, 0, 40, 30), (0, 0, 0, 0), (39, 29, 40, 30)], np.int32)
    return BoxMasks.from_crops(
        FRAME_HW, rects, [m[y0:y1, x0:x1] for m, (x0, y0, x1, y1) in zip(canvases, rects, strict=True)]
    )


@pytest.fixture
def instances(masks):
    return Instances(
        FRAME_HW,
        masks.rects.astype(np.float32) + np.float32(0.25),
        np.array([0.9, 0.8, 0.7, 0.6], np.float32),
        np.array([1, 0, 1, 1], np.int32),
        masks,
        ("cat", "dog"),
        (17, 18),
    )


def test_selection_by_boolean_and_by_order(instances, canvases):
    assert instances.select(np.array([True, False, False, True])).scores.tolist() == pytest.approx([0.9, 0.6])
    found = instances.select(np.array([3, 1]))
    assert found.labels.tolist() == [1, 0]
    np.testing.assert_array_equal(found.masks.canvases(), canvases[[3, 1]])


def test_iteration_gives_one_at_a_time(instances):
    assert [len(one) for one in instances] == [1, 1, 1, 1]
    assert [int(one.labels[0]) for one in instances] == [1, 0, 1, 1]


def test_nothing_selected_is_a_result_too(instances):
    none = instances.select(np.zeros(4, bool))
    assert len(none) == 0 and none.to_coco(1) == [] and none.masks.canvases().shape == (0, *FRAME_HW)


def test_coco_results_carry_the_data_sets_ids_and_are_json(instances):
    results = json.load(io.StringIO(json.dumps(instances.to_coco(7))))
    assert [r["category_id"] for r in results] == [18, 17, 18, 18]
    assert results[0]["bbox"] == [5.25, 3.25, 17, 9] and results[0]["image_id"] == 7
    assert coco_mask.area(results[1]["segmentation"]) == instances.masks.areas()[1]


def test_coco_results_carry_track_ids_where_there_are_any(instances):
    assert all("track_id" not in result for result in instances.to_coco(1))
    assert [result["track_id"] for result in tracked(instances).to_coco(1)] == [5, 6, 7, 2**40]


def test_an_object_without_a_confirmed_track_has_no_track_id_in_json(instances):
    some = dataclasses.replace(instances, ids=np.array([5, -1, 7, -1]))
    assert ["track_id" in result for result in some.to_coco(1)] == [True, False, True, False]
    assert ["track_id" in entry for entry in json.loads(some.to_json())["instances"]] == [True, False, True, False]


def tracked(instances):
    return dataclasses.replace(instances, ids=np.array([5, 6, 7, 2**40]))


def random_instances(seed, count=None, with_ids=True, frame_hw=FRAME_HW):
    """Masks anywhere in the frame, and boxes that hold them with a fraction of a pixel around."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 6)) if count is None else count
    masks = random_masks(rng, count, frame_hw)
    boxes = np.clip(masks.rects + rng.uniform(-0.5, 0.5, (count, 4)), 0, np.tile(frame_hw[::-1], 2)).astype(np.float32)
    boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    scores, labels = rng.random(count).astype(np.float32), rng.integers(0, 2, count).astype(np.int32)
    ids = rng.integers(0, 99, count) if with_ids else None
    return Instances(frame_hw, boxes, scores, labels, masks, ("cat", "dog"), (17, 18), ids)


def same(a, b):
    assert (a.frame_hw, a.class_names, a.category_ids, a.names) == (b.frame_hw, b.class_names, b.category_ids, b.names)
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert getattr(a, name).dtype == getattr(b, name).dtype
    np.testing.assert_array_equal(a.masks.canvases(), b.masks.canvases())
    assert (a.ids is None) == (b.ids is None) and (a.ids is None or a.ids.tolist() == b.ids.tolist())


@given(st.integers(0, 10_000), st.booleans())
def test_what_is_selected_and_joined_again_is_the_same(seed, with_ids):
    """Cut into two parts at any place, or into one part each."""
    whole = random_instances(seed, with_ids=with_ids)
    cut = int(np.random.default_rng(seed).integers(0, len(whole) + 1))
    parts = [whole.select(np.arange(len(whole)) < cut), whole.select(np.arange(cut, len(whole)))]
    assert [len(part) for part in parts] == [cut, len(whole) - cut]
    same(Instances.concatenate(parts), whole)
    if len(whole):
        same(Instances.concatenate(list(whole)), whole)


@given(st.integers(0, 10_000), st.data())
def test_a_selection_of_a_selection_is_one(seed, data):
    whole = random_instances(seed, count=5)
    first = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1)))
    second = np.array(data.draw(st.lists(st.integers(0, len(first) - 1))), np.intp)
    same(whole.select(first).select(second), whole.select(first[second]))


@given(
    st.integers(0, 10_000),
    st.tuples(st.integers(-50, 50), st.integers(-50, 50)),
    st.integers(1, 60),
    st.integers(1, 60),
)
def test_what_moves_keeps_all_but_what_is_cut_off(seed, offset_xy, height, width):
    before = random_instances(seed)
    after = before.moved(offset_xy, (height, width))
    assert after.frame_hw == (height, width) and after.names == before.names
    assert after.scores.tolist() == before.scores.tolist() and after.ids.tolist() == before.ids.tolist()
    expected = np.clip(before.boxes.astype(float) + np.tile(offset_xy, 2), 0, (width, height, width, height))
    np.testing.assert_allclose(after.boxes, expected, atol=1e-5)
    np.testing.assert_array_equal(after.masks.canvases(), before.masks.moved(offset_xy, (height, width)).canvases())


def test_tiles_come_together_in_the_whole_picture():
    """By hand: two tiles of 30 x 40, the second 25 pixels further right and 10 further down."""
    tile = random_instances(3, count=2)
    whole = Instances.concatenate([tile.moved((0, 0), (50, 70)), tile.moved((25, 10), (50, 70))])
    np.testing.assert_allclose(whole.boxes[2:] - whole.boxes[:2], [[25, 10, 25, 10]] * 2, atol=1e-5)
    assert whole.masks.areas().tolist() == tile.masks.areas().tolist() * 2
    np.testing.assert_array_equal(whole.masks.canvas(2)[10:40, 25:65], tile.masks.canvas(0))


def test_best_first_is_by_score_and_keeps_the_order_of_equals(instances):
    mixed = dataclasses.replace(tracked(instances), scores=np.array([0.5, 0.9, 0.5, 0.7], np.float32))
    assert mixed.best_first().ids.tolist() == [6, 2**40, 5, 7]


def test_what_cannot_be_joined_or_moved_is_said(instances):
    with pytest.raises(UsageError, match="give at least one part"):
        Instances.concatenate([])
    for change in ({"class_names": ("a", "b")}, {"category_ids": (1, 2)}):
        with pytest.raises(DataError, match=f"only with the same {next(iter(change))}: move or relabel"):
            Instances.concatenate([instances, dataclasses.replace(instances, **change)])
    with pytest.raises(DataError, match="only with the same frame_hw: move or relabel"):
        Instances.concatenate([instances, instances.moved((0, 0), (30, 41))])
    with pytest.raises(DataError, match="Some of the instances to join have track ids and some have none"):
        Instances.concatenate([instances, tracked(instances)])
    with pytest.raises(UsageError, match=r"move by whole pixels, .*, not by \(1.5, 0\)"):
        instances.moved((1.5, 0), FRAME_HW)


def test_lengths_that_disagree_are_named(masks):
    with pytest.raises(DataError, match=r"boxes must be float32 \[4, 4\], not float32 \[3, 4\]"):
        Instances(
            FRAME_HW, np.zeros((3, 4), np.float32), np.zeros(4, np.float32), np.zeros(4, np.int32), masks, ("a",), (1,)
        )


def test_it_says_what_it_holds(instances):
    assert repr(instances) == "Instances(3 dog, 1 cat in 40 x 30)" and instances.names == ["dog", "cat", "dog", "dog"]
    assert repr(instances.select(np.zeros(4, bool))) == "Instances(none in 40 x 30)"


def test_a_plot_is_the_overlay_and_a_saved_one_is_its_file(instances, tmp_path):
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME_HW, 3), dtype=np.uint8)
    style = DrawStyle(labels=False)
    np.testing.assert_array_equal(instances.plot(frame, style), draw(frame, instances, style))
    path = instances.save(tmp_path / "deep" / "a.png", frame)
    np.testing.assert_array_equal(read_image(path), draw(frame, instances))
    with pytest.raises(DataError, match="give the frame that they were found in"):
        instances.plot(frame[:-1])


def test_crops_are_the_rectangles_of_the_frame(instances, canvases):
    frame = np.random.default_rng(0).integers(0, 256, (*FRAME_HW, 3), dtype=np.uint8)
    before = frame.copy()
    for crops in (instances.crops(frame), instances.crops(frame, "transparent"), instances.crops(frame, (1, 2, 3))):
        assert [crop.shape[:2] for crop in crops] == [(9, 17), (30, 10), (0, 0), (1, 1)]
    kept, cutout, painted = (instances.crops(frame, how)[0] for how in ("keep", "transparent", (1, 2, 3)))
    mask = canvases[0, 3:12, 5:22]
    np.testing.assert_array_equal(kept, frame[3:12, 5:22])
    np.testing.assert_array_equal(cutout[..., :3], kept)
    np.testing.assert_array_equal(cutout[..., 3], mask * 255)
    np.testing.assert_array_equal(painted[mask], kept[mask])
    assert (painted[~mask] == (1, 2, 3)).all()
    kept[:] = 0
    np.testing.assert_array_equal(frame, before, err_msg="crops are copies")
    with pytest.raises(UsageError, match="background must be 'keep', 'transparent' or a colour"):
        instances.crops(frame, "white")
    with pytest.raises(DataError, match="give the frame that they were found in"):
        instances.crops(frame[:-1])


def test_json_holds_all_of_it(instances, canvases):
    found = json.loads(tracked(instances).to_json())
    assert (found["height"], found["width"]) == FRAME_HW
    first = found["instances"][0]
    assert list(first) == ["name", "label", "category_id", "score", "box", "track_id", "polygons"]
    assert [first[key] for key in ("name", "label", "category_id", "score", "track_id")] == ["dog", 1, 18, 0.9, 5]
    assert first["box"] == [5.25, 3.25, 22.25, 12.25]
    for entry, canvas in zip(found["instances"], canvases, strict=True):
        rings = [[np.array(ring) for ring in (piece["outer"], *piece["holes"])] for piece in entry["polygons"]]
        filling = sum((filled_rings(piece) for piece in rings), np.zeros(FRAME_HW, bool))
        np.testing.assert_array_equal(filling, canvas)


def filled_rings(rings):
    return filled([Polygon(rings[0], tuple(rings[1:]))], FRAME_HW)


def test_json_with_run_lengths_or_without_masks(instances, canvases):
    found = json.loads(instances.to_json("rle"))["instances"]
    assert all("polygons" not in entry and "track_id" not in entry for entry in found)
    for entry, canvas in zip(found, canvases, strict=True):
        np.testing.assert_array_equal(rle.decode(entry["rle"]), canvas)
    assert list(json.loads(instances.to_json("none"))["instances"][0])[-1] == "box"
    with pytest.raises(UsageError, match="masks must be 'polygons', 'rle' or 'none'"):
        instances.to_json("png")


def test_a_dataframe_has_a_row_per_instance(instances):
    pytest.importorskip("pandas")
    table = tracked(instances).to_dataframe()
    assert list(table) == ["name", "label", "category_id", "score", "x1", "y1", "x2", "y2", "area", "track_id"]
    assert table["name"].tolist() == instances.names and table["area"].tolist() == instances.masks.areas().tolist()
    assert table["x2"].tolist() == instances.boxes[:, 2].tolist() and table["track_id"].tolist()[-1] == 2**40
    assert "track_id" not in instances.to_dataframe() and len(instances.select(np.zeros(4, bool)).to_dataframe()) == 0


@pytest.mark.parametrize(("package", "method"), [("pandas", "to_dataframe"), ("supervision", "to_supervision")])
def test_what_is_not_installed_is_named(instances, monkeypatch, package, method):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=f"^{package} is needed for {method}: pip install {package}\\.$"):
        getattr(instances, method)()


def test_supervision_detections_hold_the_same(instances, canvases):
    pytest.importorskip("supervision")
    found = instances.to_supervision()
    np.testing.assert_array_equal(found.mask, canvases)
    assert found.data["class_name"].tolist() == ["dog", "cat", "dog", "dog"]
    assert len(instances.select(np.zeros(4, bool)).to_supervision()) == 0


def test_supervision_draws_exactly_the_pixels_of_the_masks(instances, canvases):
    supervision = pytest.importorskip("supervision")
    blank = np.zeros((*FRAME_HW, 3), np.uint8)
    drawn = supervision.MaskAnnotator().annotate(blank.copy(), instances.to_supervision())
    np.testing.assert_array_equal((drawn != blank).any(2), canvases.any(0))


def test_supervision_gets_the_track_ids(instances):
    pytest.importorskip("supervision")
    assert tracked(instances).to_supervision().tracker_id.tolist() == [5, 6, 7, 2**40]
    assert instances.to_supervision().tracker_id is None


@pytest.mark.parametrize(
    ("keep", "places"),
    [
        ([0], [0]), ((2, 1), [2, 1]), ([True, False, False, True], [0, 3]), (0, [0]), (np.int64(-1), [3]),
        (slice(0, 2), [0, 1]), (slice(None, None, -2), [3, 1]), (range(2), [0, 1]), ([], []),
        (np.array([3, 3]), [3, 3]),
    ],
)  # fmt: skip
def test_instances_are_chosen_as_from_an_array(instances, keep, places):
    for found in (instances.select(keep), instances[keep]):
        np.testing.assert_array_equal(found.scores, instances.scores[places])
        np.testing.assert_array_equal(found.masks.canvases(), instances.masks.canvases()[places])


@pytest.mark.parametrize(
    ("keep", "sentence"),
    [
        ([True, False], "4 instances need 4 booleans to choose from them, not 2"),
        (4, "There is no instance 4: there are 4"),
        ([0, -5], "There is no instance -5"), (np.array([0.0]), "chosen by places"), (["cat"], "chosen by places"),
        (None, "chosen by places, .* not by None"), (np.zeros((2, 2), int), "chosen by places"),
        ("cat", "not by 'cat'"),
        (slice("a", "b"), "chosen by places"), (True, "not by True"), ([10**400], "chosen by places"),
        ([[0], [1, 2]], "by"),
    ],
)  # fmt: skip
def test_what_chooses_nothing_is_refused_in_one_sentence(instances, keep, sentence):
    for choose in (instances.select, instances.__getitem__, instances.masks.select):
        with pytest.raises(UsageError, match=sentence):
            choose(keep)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"labels": np.array([0, 1, 2, 0], np.int32)}, "labels must be from 0 to 1, .* not 0 to 2"),
        ({"labels": np.array([0, -1, 1, 0], np.int32)}, "labels must be from 0 to 1, .* not -1 to 1"),
        ({"labels": np.zeros(4, np.float32)}, "labels must be whole numbers"),
        ({"scores": np.array([1, np.nan, 0, 0], np.float32)}, "scores must be finite"),
        ({"boxes": np.full((4, 4), np.inf, np.float32)}, "boxes must be finite"),
        ({"boxes": [[0.0] * 4] * 4}, "boxes must be an array of numpy, not list"),
        ({"scores": np.zeros(3, np.float32)}, r"scores must be float32 \[4\], not float32 \[3\]"),
        ({"ids": [1, 2, 3, 4]}, "ids must be an array"),
        ({"frame_hw": (300, 400)}, "masks are of a frame of"),
        ({"frame_hw": (30.5, 40)}, "frame_hw must be height and width"),
        ({"masks": None}, "masks must be BoxMasks, not NoneType"),
    ],
)
def test_instances_that_do_not_fit_together_cannot_be_made(instances, changes, sentence):
    with pytest.raises(DataError, match=sentence):
        dataclasses.replace(instances, **changes)


@pytest.mark.parametrize(
    ("offset", "frame_hw"),
    [
        (None, FRAME_HW), (3, FRAME_HW), ((1, 2, 3), FRAME_HW), (("1", "2"), FRAME_HW), ((0.5, 0), FRAME_HW),
        ((10**30, 0), FRAME_HW), ((float("nan"), 0), FRAME_HW), ((True, 0), FRAME_HW), ((0, 0), None),
        ((0, 0), (0, 40)),
        ((0, 0), (-30, 40)), ((0, 0), (30.5, 40)), ((0, 0), (30,)), ((0, 0), (10**30, 40)),
    ],
)  # fmt: skip
def test_nothing_moves_by_or_into_what_is_no_place(instances, offset, frame_hw):
    for one in (instances, instances.masks):
        with pytest.raises((UsageError, DataError), match=r"whole pixels.*, not "):
            one.moved(offset, frame_hw)


def test_parts_may_come_from_a_generator(instances):
    for one in (instances, instances.masks):
        assert len(type(one).concatenate(one for _ in range(2))) == 8


@pytest.mark.parametrize("parts", [None, 3, [None], ["a"], []])
def test_what_is_no_list_of_parts_is_not_joined(instances, parts):
    for one in (instances, instances.masks):
        with pytest.raises(UsageError, match=r"is joined, not|at least one part"):
            type(one).concatenate(parts)
        with pytest.raises(UsageError, match="is joined, not"):
            type(one).concatenate(one)


def test_a_box_far_outside_is_drawn_without_an_error(instances):
    frame = np.zeros((*FRAME_HW, 3), np.uint8)
    far = dataclasses.replace(instances, boxes=np.full((4, 4), 1e30, np.float32))
    assert far.plot(frame).shape == frame.shape


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda one, frame: one.to_coco("7"), "image_id must be a whole number"),
        (lambda one, frame: one.to_coco(None), "image_id must be a whole number"),
        (lambda one, frame: one.to_json([]), "masks must be"),
        (lambda one, frame: one.plot(frame, None), "style must be a DrawStyle, not NoneType"),
        (lambda one, frame: one.plot(frame, "boxes"), "style must be a DrawStyle, not str"),
        (lambda one, frame: DrawStyle(boxes="no"), "boxes must be True or False, not 'no'"),
        (lambda one, frame: one.crops(frame, None), "background must be"),
        (lambda one, frame: one.crops(frame, (1, 2)), "background must be"),
        (lambda one, frame: one.crops(frame, (1, 2, 999)), "background must be"),
        (lambda one, frame: one.save("", frame), "A picture is named by its path, not by nothing"),
        (lambda one, frame: one.save(None, frame), "not by NoneType"),
        (lambda one, frame: one.save(b"a.png", frame), "not by bytes"),
        (lambda one, frame: one.save("a\0.png", frame), "with a NUL"),
        (lambda one, frame: one.masks.crop(4), "There is no instance 4"),
        (lambda one, frame: one.masks.crop(-5), "There is no instance -5"),
        (lambda one, frame: one.masks.canvas(0.5), "named by its place"),
        (lambda one, frame: one.masks.crop(None), "named by its place"),
    ],
)
def test_a_wrong_argument_is_refused_in_one_sentence(instances, call, sentence):
    with pytest.raises(UsageError, match=sentence):
        call(instances, np.zeros((*FRAME_HW, 3), np.uint8))


def test_a_negative_place_counts_from_the_end(instances):
    np.testing.assert_array_equal(instances.masks.crop(-1), instances.masks.crop(3))
    np.testing.assert_array_equal(instances.masks.canvas(-4), instances.masks.canvas(0))
