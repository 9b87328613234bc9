# SPDX-License-Identifier: Apache-2.0
"""The AP gate opens for what is as good as its source, and says what fell where something did."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask_export.checks import CheckError
from centermask_export.checks.ap import ApReport, compare_ap
from centermask_runtime.errors import UsageError
from centermask_runtime.geometry import Letterbox
from centermask_runtime.networks.network import PeakOutputs
from tests.support.fixed_networks import Fixed
from tests.support.places import NUCLEI


def metrics(box: float, mask: float):
    return {"bbox": {"AP": box}, "segm": {"AP": mask}}


def test_the_gate_opens_for_better_and_equal_and_closes_for_worse(tmp_path):
    source = metrics(0.5, 0.4)
    for box, mask, ok in ((0.5, 0.4, True), (0.9, 0.9, True), (0.496, 0.396, True), (0.5, 0.394, False)):
        report = ApReport(7, source, metrics(box, mask), 0.005)
        assert report.ok is ok
        if ok:
            report.require(tmp_path / "m.xml")
    with pytest.raises(CheckError, match=r"mask AP is 0\.3940 where its source has 0\.4000 .*max_ap_drop") as error:
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
    with pytest.raises(UsageError, match=r"^max_ap_drop must lie between 0 and 1"):
        compare_ap(Fixed(spec, whole), Fixed(spec, whole), dataset, max_ap_drop=5)
