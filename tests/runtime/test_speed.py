# SPDX-License-Identifier: Apache-2.0
"""How speed is summed up: medians of the frames after the warm-up, by stage where the pipeline takes their times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.pipeline.frame import StageTimes
from centermask_runtime.speed import REPORTED_FPS, machine, measure


class Given:
    """A pipeline of one object per frame whose stages take what they are told; None: it takes no times."""

    description = "given"

    def __init__(self, spec, times):
        self.spec = spec
        self.times = iter(times)

    def timed(self, frame):
        return [object()], next(self.times)


def stages(total):
    return StageTimes(preprocess_ms=1.0, network_ms=total - 3.0, postprocess_ms=2.0, total_ms=total)


def frames(count):
    return [np.zeros((40, 60, 3), np.uint8)] * count


def test_the_median_of_each_stage_leaves_the_warm_up_out(small_spec):
    times = [stages(1e4), stages(1e4), stages(10.0), stages(30.0), stages(20.0), stages(1e4)]
    report = measure(Given(small_spec, times), frames(6), warmup=2, limit=3)
    assert [(one.stage, one.median_ms) for one in report.stages] == [
        ("preprocess", 1.0), ("network", 17.0), ("postprocess", 2.0), ("total", 20.0),
    ]  # fmt: skip
    assert report.stages[-1].p95_ms == pytest.approx(29.0)  # linear between 20 and 30
    assert (report.frames, report.frame_hw, report.objects_median, report.objects_max) == (3, (40, 60), 1.0, 1)
    assert report.fps == 50.0 and report.has_stage_times
    assert report.to_dict()["ratio_to_reported"] == round(50.0 / REPORTED_FPS, 3)


def test_a_pipeline_that_takes_no_times_is_timed_as_a_whole(small_spec):
    report = measure(Given(small_spec, [None] * 4), frames(4), warmup=1)
    assert [one.stage for one in report.stages] == ["total"] and report.fps > 0 and not report.has_stage_times
    staged = measure(Given(small_spec, [stages(10.0)] * 4), frames(4), warmup=1)
    both = report.with_stages_of(staged)
    assert both.stages == (*staged.stages[:-1], report.stages[-1])
    assert replace(both, network=report.network, stages=report.stages) == report


def test_a_source_shorter_than_the_warm_up_is_one_sentence(small_spec):
    with pytest.raises(DataError, match="no frame left to time after 3 to warm up"):
        measure(Given(small_spec, [None] * 3), frames(3), warmup=3)


def test_a_number_comes_with_the_machine_it_was_taken_on():
    found = machine()
    assert found["numpy"] == np.__version__ and all(found.values())
