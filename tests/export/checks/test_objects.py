# SPDX-License-Identifier: Apache-2.0
"""compare and the AP gate: differences that were put in are what comes out; order and ties do not count."""

from __future__ import annotations

import dataclasses
import json

import cv2
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from centermask.cli import main
from centermask.cli.compare_pictures import ONLY_A_BGR, ONLY_B_BGR, side_by_side
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.evaluation.pictures import CAPTION_HEIGHT, GAP
from centermask_export.checks.ap import ApDropError, ApReport, compare_ap
from centermask_export.checks.objects import Limits, compare_frame, match_objects, start
from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import UsageError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.instances import Instances
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.reference.overlap import box_iou
from centermask_runtime.selection import Selection
from centermask_runtime.spec import ModelSpec
from tests.runtime.networks.test_onnx_runtime import tiny_graph
from tests.support.places import NUCLEI

WHITE = np.full((64, 96, 3), 255, np.uint8)


class Fixed:
    """A network that has one answer."""

    description, batch = "fixed", 1

    def __init__(self, spec: ModelSpec, outputs: PeakOutputs) -> None:
        self.spec, self.outputs = spec, outputs

    def run(self, images):
        return self.outputs

    def close(self):
        pass


def changed(outputs: PeakOutputs, order=None, **parts) -> PeakOutputs:
    """The outputs with some parts replaced, their detections in another order."""
    outputs = dataclasses.replace(outputs, **parts)
    rows = np.arange(outputs.scores.shape[1]) if order is None else np.asarray(order)
    return dataclasses.replace(
        outputs, **{name: getattr(outputs, name)[:, rows] for name in ("scores", "labels", "boxes", "shapes")}
    )


def difference(spec, a, b, frame=WHITE, **thresholds):
    one, other = (Pipeline(Fixed(spec, outputs), Selection.of(spec, **thresholds)) for outputs in (a, b))
    result = start(one, other)
    return result, compare_frame(result, one, other, frame)


@pytest.fixture
def apart(small_spec, small_outputs) -> PeakOutputs:
    """Eight boxes that do not touch: four columns, two rows."""
    corners = np.array([[[x, y] for y in (4, 36) for x in (4, 28, 52, 76)]] * 2, np.float32)
    return dataclasses.replace(small_outputs, boxes=np.concatenate((corners, corners + 16), axis=2))


def test_an_artefact_differs_from_itself_in_nothing_whatever_the_order(small_spec, apart):
    tied = changed(apart, scores=np.full_like(apart.scores, 0.5))
    result, _ = difference(small_spec, tied, changed(tied, order=[3, 1, 0, 2, 7, 6, 5, 4]))
    assert (result.objects, len(result.pairs), result.margins) == ([8, 8], 8, [])
    assert {name: max(values) for name, values in result.outputs.items()} == dict.fromkeys(
        ("scores", "boxes", "shapes", "saliency"), 0
    )
    assert result.summary()["mask_iou"] == {"mean": 1, "smallest": 1}
    assert result.failures(Limits(score=0, box=0, mask_iou=1, unmatched=0)) == []


def test_a_difference_that_was_put_in_comes_out(small_spec, apart):
    scores, boxes = apart.scores.copy(), apart.boxes.copy()
    scores[0, 2] += 0.03
    boxes[0, 5] += 0.75
    frame = np.full((128, 192, 3), 255, np.uint8)  # twice the input: 0.75 input pixels are 1.5 source pixels
    result, _ = difference(small_spec, apart, changed(apart, scores=scores, boxes=boxes), frame, conf=0)
    assert result.summary()["score"]["largest"] == pytest.approx(0.03, abs=1e-6)
    assert result.summary()["box"]["largest"] == pytest.approx(1.5, abs=1e-5)
    assert max(result.outputs["boxes"]) == pytest.approx(0.75, abs=1e-5)
    assert len(result.pairs) == 8
    assert result.failures(Limits(score=0.04, box=2)) == []
    (words,) = result.failures(Limits(score=0.01, box=2))
    assert words == "scores by 0.03 (allowed 0.01)"
    (words,) = result.failures(Limits(score=0.04, box=1))
    assert words == "boxes by 1.5 pixels (allowed 1)"


def test_an_object_next_to_the_threshold_is_forgiven_and_another_is_not(small_spec, apart):
    scores = np.linspace(0.9, 0.55, 8, dtype=np.float32)[None].repeat(2, 0)
    near, far = scores.copy(), scores.copy()
    near[0, 7] = 0.549  # below 0.55, as rounding may put it
    far[0, 7] = 0.2
    for other, alone in ((near, 0), (far, 1)):
        spec = dataclasses.replace(small_spec, score_threshold=0.55 if other is near else 0.5)
        result, (_, _, found) = difference(spec, changed(apart, scores=scores), changed(apart, scores=other))
        assert len(found.only_a) == 1 and found.only_b == ()
        assert result.unmatched(0.002) == alone
        assert bool(result.failures(Limits(score=0.002))) == bool(alone)
        assert result.failures(Limits(score=0.002, unmatched=1)) == []


def test_another_class_or_place_is_no_partner(small_spec, apart):
    labels, boxes = apart.labels.copy(), apart.boxes.copy()
    labels[0, 0] = (labels[0, 0] + 1) % 3
    boxes[0, 1] += 10
    result, (_, _, found) = difference(small_spec, apart, changed(apart, labels=labels, boxes=boxes), conf=0.0)
    assert (found.only_a, found.only_b) == ((0, 1), (0, 1))
    assert len(result.pairs) == 6


def test_nothing_found_by_either_is_no_success(small_spec, apart):
    nothing = changed(apart, scores=np.zeros_like(apart.scores))
    result, _ = difference(small_spec, nothing, nothing)
    assert result.failures(Limits(mask_iou=0.9)) == ["no object was found by both"]
    assert result.failures(Limits()) == []
    assert json.loads(json.dumps(result.to_dict()))["mask_iou"] == {"mean": None, "smallest": None}


def test_models_of_other_classes_or_sizes_are_told_apart(small_spec, apart):
    other = dataclasses.replace(small_spec, class_names=("dog", "cat", "kite"))
    with pytest.raises(UsageError, match="of the same classes"):
        start(Pipeline(Fixed(small_spec, apart)), Pipeline(Fixed(other, apart)))
    coarse = dataclasses.replace(small_spec, shape_size=4)
    halved = changed(apart, shapes=apart.shapes[:, :, ::2, ::2])
    result = start(Pipeline(Fixed(small_spec, apart)), Pipeline(Fixed(coarse, halved)))
    compare_frame(result, Pipeline(Fixed(small_spec, apart)), Pipeline(Fixed(coarse, halved)), WHITE)
    assert result.skipped == ("shapes",) and set(result.outputs) == {"scores", "boxes", "saliency"}


def random_instances(rng: np.random.Generator, count: int) -> Instances:
    low = rng.integers(0, 12, (count, 2))
    rects = np.concatenate((low, low + rng.integers(0, 9, (count, 2))), axis=1).astype(np.int32)
    crops = [rng.random((y1 - y0, x1 - x0)) < 0.6 for x0, y0, x1, y1 in rects]
    boxes = rects.astype(np.float32)
    scores = -np.sort(-rng.random(count).astype(np.float32))
    masks = BoxMasks.from_crops((20, 20), rects, crops)
    return Instances((20, 20), boxes, scores, np.zeros(count, np.int32), masks, ("thing",), (1,))


@given(st.integers(0, 10_000))
def test_each_object_has_at_most_one_partner_and_is_counted_once(seed):
    rng = np.random.default_rng(seed)
    a, b = random_instances(rng, 5), random_instances(rng, 6)
    found = match_objects(a, b, 0.0, 100)
    assert sorted([pair.row_a for pair in found.pairs] + list(found.only_a)) == list(range(5))
    assert sorted([pair.row_b for pair in found.pairs] + list(found.only_b)) == list(range(6))
    assert all(box_iou(a.boxes, b.boxes)[pair.row_a, pair.row_b] >= 0.5 for pair in found.pairs)


# ---- pictures and the command ---------------------------------------------------------------------------------------


def test_pictures_show_what_only_one_side_has(small_spec, apart):
    frame = np.full((640, 960, 3), 90, np.uint8)
    full = changed(apart, shapes=np.full_like(apart.shapes, 9), saliency=np.full_like(apart.saliency, 9))
    scores = full.scores.copy()
    scores[0] = np.linspace(0.9, 0.5, 8)
    fewer, shifted = scores.copy(), full.boxes.copy()
    fewer[0, 0] = 0
    shifted[0, 4, [0, 2]] += 2  # two columns of input pixels, twenty of the frame
    a, b = changed(full, scores=scores), changed(full, scores=fewer, boxes=shifted)
    _, (found_a, found_b, found) = difference(small_spec, a, b, frame)
    picture = side_by_side(frame, found_a, found_b, found, ("a.onnx", "b.xml"))
    assert picture.shape == (640 + CAPTION_HEIGHT, 3 * 960 + 2 * GAP, 3)
    panel = picture[CAPTION_HEIGHT:, -960:]
    only_a, only_b = (np.all(panel == colour, axis=2).sum() for colour in (ONLY_A_BGR, ONLY_B_BGR))
    assert (only_a, only_b) == (160 * 160 + 20 * 160, 20 * 160)
    edges = [picture[CAPTION_HEIGHT + 440, start + 35 : start + 45] for start in (0, 960 + GAP)]
    assert not np.array_equal(*edges)  # A's box begins at 40, B's at 60


@pytest.fixture
def two_files(small_spec, apart, tmp_path):
    """The same graph twice, and one with scores that are 2 % lower."""
    for name, factor in (("a", 1.0), ("b", 1.0), ("c", 0.98)):
        outputs = changed(apart, scores=np.linspace(0.9, 0.4, 8, dtype=np.float32)[None] * np.float32(factor))
        onnx.save(tiny_graph(small_spec, outputs), tmp_path / f"{name}.onnx")
    cv2.imwrite(str(tmp_path / "white.png"), WHITE)
    return tmp_path


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = int(error.code or 0)
    return code, *capsys.readouterr()


def test_the_command_prints_numbers_and_writes_pictures(two_files, capsys):
    a, b, source = two_files / "a.onnx", two_files / "b.onnx", two_files / "white.png"
    code, out, _ = run(capsys, "compare", a, b, "--source", source, "--output", two_files / "out", "--json")
    found = json.loads(out.splitlines()[-1])
    assert code == 0 and found["ok"]
    assert (found["objects"], found["matched"], found["unmatched"], found["frames"]) == ([8, 8], 8, 0, 1)
    assert cv2.imread(str(two_files / "out" / "white.png")).shape[2] == 3
    code, out, _ = run(capsys, "compare", a, b, "--source", source)
    assert code == 0 and "8 objects in A, 8 in B, 8 in both, 0 in one only" in " ".join(out.split())


def test_a_limit_that_is_passed_ends_in_exit_code_5(two_files, capsys):
    arguments = "compare", two_files / "a.onnx", two_files / "c.onnx", "--source", two_files / "white.png"
    assert run(capsys, *arguments)[0] == 0  # no limit, no gate
    assert run(capsys, *arguments, "--max-score-diff", 0.02)[0] == 0
    code, out, err = run(capsys, *arguments, "--max-score-diff", 0.01, "--json")
    assert code == 5 and "scores by 0.018 (allowed 0.01)" in err
    assert json.loads(out)["failures"] == ["scores by 0.018 (allowed 0.01)"]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("none.onnx", "a.onnx"), 4, "There is no model file"),
        (("a.onnx", "b.onnx", "--source", "nowhere"), 3, "no file or folder"),
        (("a.onnx", "b.onnx", "--source", "rtsp://camera"), 2, "record it"),
        (("a.onnx", "b.onnx", "--min-mask-iou", "2"), 2, "min-mask-iou"),
        (("a.onnx",), 2, "Missing argument"),
    ],
)
def test_wrong_use_is_one_sentence(two_files, capsys, monkeypatch, arguments, code, words):
    monkeypatch.chdir(two_files)
    given = arguments if "--source" in arguments else (*arguments, "--source", "white.png")
    found, _, err = run(capsys, "compare", *given)
    assert found == code and words in err and "Traceback" not in err


# ---- the AP gate ----------------------------------------------------------------------------------------------------


def metrics(box: float, mask: float):
    return {"bbox": {"AP": box}, "segm": {"AP": mask}}


def test_the_gate_opens_for_better_and_equal_and_closes_for_worse(tmp_path):
    source = metrics(0.5, 0.4)
    for box, mask, ok in ((0.5, 0.4, True), (0.9, 0.9, True), (0.496, 0.396, True), (0.5, 0.394, False)):
        report = ApReport(7, source, metrics(box, mask), 0.005)
        assert report.ok is ok
        if ok:
            report.require(tmp_path / "m.xml")
    with pytest.raises(ApDropError, match=r"mask AP is 0\.3940 where its source has 0\.4000 .*--max-ap-drop") as error:
        report.require(tmp_path / "m.xml")
    assert error.value.exit_code == 5 and "box AP" not in str(error.value)
    assert not ApReport(7, source, metrics(float("nan"), 0.4), 0.005).ok


def test_ap_falls_where_half_of_the_detections_are_taken_away(small_spec):
    """Both networks answer with the true boxes of one image; the second one loses every other object."""
    dataset = load_dataset(find_split(NUCLEI, "val"))
    dataset = dataclasses.replace(dataset, images=dataset.images[:1])
    boxes = np.array([found.rect for found in dataset.objects(0)], np.float32)
    count, side = len(boxes), 256
    spec = dataclasses.replace(
        small_spec, class_names=("nucleus",), category_ids=dataset.category_ids, saliency_channels=1,
        max_detections=count, input_hw=(side, side),
    )  # fmt: skip
    letterbox = Letterbox.fit(dataset.image(0).shape[:2], (side, side))
    whole = PeakOutputs(
        np.full((1, count), 0.9, np.float32), np.zeros((1, count), np.int32),
        letterbox.to_input(boxes.reshape(-1, 2)).reshape(1, count, 4), np.full((1, count, 8, 8), 9, np.float32),
        np.full((1, 1, side // 4, side // 4), 9, np.float32),
    )  # fmt: skip
    scores = whole.scores.copy()
    scores[:, ::2] = 0
    report = compare_ap(Fixed(spec, whole), Fixed(spec, dataclasses.replace(whole, scores=scores)), dataset)
    assert report.images == 1 and not report.ok and min(report.drops.values()) > 0.005
    assert compare_ap(Fixed(spec, whole), Fixed(spec, whole), dataset, max_ap_drop=0).ok
    with pytest.raises(UsageError, match="--max-ap-drop must lie between 0 and 1"):
        compare_ap(Fixed(spec, whole), Fixed(spec, whole), dataset, max_ap_drop=5)
