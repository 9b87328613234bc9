# SPDX-License-Identifier: Apache-2.0
"""The loop: frames meet their own results, whatever the pipeline has under way, and sinks get what they asked for."""

from __future__ import annotations

import dataclasses
from collections import deque

import numpy as np
import pytest

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import DataError
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.predict import Result, results, run
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sources.arrays import ArraySource
from tests.support.exported_models import frames, tiny_onnx
from tests.support.given_networks import assert_same


class Ahead(Pipeline):
    """A pipeline with three frames under way, as a GPU has, which draws by itself."""

    draws = True

    def each(self, frames):
        return (found for found, _ in self._ahead(frames))

    def drawn(self, frames, style):
        for found, frame in self._ahead(frames):
            picture = draw(frame, found, style)
            picture[0, 0] = (1, 2, 3)  # a mark of its own
            yield found, picture

    def _ahead(self, frames):
        waiting = deque()
        for frame in frames:
            waiting.append(frame)
            if len(waiting) > 3:
                yield self(waiting[0]), waiting.popleft()
        while waiting:
            yield self(waiting[0]), waiting.popleft()


class Kept(AllOrNothing):
    """A sink that remembers."""

    def __init__(self, style=None):
        self.style, self.added, self.end = style, [], None

    def add(self, frame, instances, picture=None):
        self.added.append((frame, instances, picture))

    def close(self):
        self.end = "finished"

    def discard(self):
        self.end = "given up"


class Numbering:
    """A tracker that counts."""

    def __init__(self):
        self.count = 0

    def update(self, frame, instances):
        ids = np.arange(self.count, self.count + len(instances), dtype=np.int64)
        self.count += len(instances)
        return dataclasses.replace(instances, ids=ids)


@pytest.fixture(params=[Pipeline, Ahead])
def pipeline(request):
    from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork

    with request.param(OnnxRuntimeNetwork(tiny_onnx())) as opened:
        yield opened


def test_each_frame_meets_its_own_result(pipeline):
    found = list(results(pipeline, ArraySource(frames(5))))
    assert [result.frame.name for result in found] == [f"{index:06d}" for index in range(5)]
    for result, picture in zip(found, frames(5), strict=True):
        assert_same(result.instances, pipeline(picture))
        np.testing.assert_array_equal(result.frame.image, picture)


def test_sinks_get_the_style_that_they_asked_for(pipeline):
    plain, boxes, same, masks = Kept(), Kept(DrawStyle(masks=False)), Kept(DrawStyle(masks=False)), Kept(DrawStyle())
    told: list[Result] = []
    summary = run(pipeline, ArraySource(frames(5)), [plain, boxes, same, masks], progress=told.append)
    assert summary.frames == len(told) == len(summary.times_ms) == 5
    assert summary.objects == sum(len(result.instances) for result in told) > 0
    for sink in (plain, boxes, same, masks):
        assert sink.end == "finished" and [frame.index for frame, _, _ in sink.added] == list(range(5))
        for frame, instances, picture in sink.added:
            assert_same(instances, pipeline(frame.image))
            if sink.style is None:
                assert picture is None
            else:
                np.testing.assert_array_equal(picture, draw(frame.image, instances, sink.style))


def test_a_pipeline_that_draws_is_let_draw_where_no_ids_are_missing(pipeline):
    marked = Kept(DrawStyle())
    run(pipeline, ArraySource(frames(2)), [marked])
    assert all(tuple(picture[0, 0]) == (1, 2, 3) for _, _, picture in marked.added) is pipeline.draws


def test_a_tracker_gives_ids_in_order_and_they_are_drawn(pipeline):
    sink = Kept(DrawStyle())
    summary = run(pipeline, ArraySource(frames(4)), [sink], tracker=Numbering())
    ids = np.concatenate([instances.ids for _, instances, _ in sink.added])
    np.testing.assert_array_equal(ids, np.arange(summary.objects))
    for frame, instances, picture in sink.added:
        np.testing.assert_array_equal(picture, draw(frame.image, instances, DrawStyle()))


def test_an_error_gives_all_sinks_up(pipeline):
    def broken():
        yield frames(1)[0]
        raise DataError("The end of the tape.")

    sinks = [Kept(), Kept()]
    with pytest.raises(DataError, match="tape"):
        run(pipeline, ArraySource(broken()), sinks)
    assert [sink.end for sink in sinks] == ["given up"] * 2


def test_sinks_are_made_when_the_first_frame_is_there(pipeline):
    made = []

    def sinks():
        made.append(True)
        yield Kept()

    def nothing():
        raise DataError("No frame.")
        yield

    with pytest.raises(DataError):
        run(pipeline, ArraySource(nothing()), sinks())
    assert made == []
    run(pipeline, ArraySource(frames(1)), sinks())
    assert made == [True]
