# SPDX-License-Identifier: Apache-2.0
"""The loop: frames meet their own results, whatever the pipeline has under way, and sinks get what they asked for."""

from __future__ import annotations

import dataclasses
from collections import deque
from fractions import Fraction

import cv2
import numpy as np
import pytest

from centermask_runtime.closing import AllOrNothing
from centermask_runtime.errors import CenterMaskError, DataError
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.predict import Result, Summary, results, run
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sinks.video import VideoWriter
from centermask_runtime.sources.arrays import ArraySource
from centermask_runtime.sources.opening import open_source
from tests.support.exported_models import frames, tiny_onnx
from tests.support.given_networks import assert_same


class Ahead(Pipeline):
    """A pipeline with three frames under way, as a GPU has, which draws by itself."""

    draws = True

    def each(self, frames, *, ahead=False):
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


def test_an_interrupt_finishes_the_sinks_with_what_was_computed_and_is_raised_then(pipeline):
    sink, summary, polled = Kept(DrawStyle()), Summary(), []

    def poll():
        polled.append(True)
        if len(polled) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(pipeline, ArraySource(frames(5)), [sink], summary=summary, poll=poll)
    assert sink.end == "finished" and 3 <= len(sink.added) == summary.frames < 5


def test_an_interrupt_while_a_result_is_told_is_one_too(pipeline):
    def stop(result):
        raise KeyboardInterrupt

    sink = Kept()
    with pytest.raises(KeyboardInterrupt):
        run(pipeline, ArraySource(frames(5)), [sink], progress=stop)
    assert sink.end == "finished" and len(sink.added) == 1


def test_an_array_that_is_filled_again_is_drawn_as_it_was(pipeline):
    def filled_again():
        array = np.empty_like(frames(1)[0])
        for index in range(4):
            array[:] = index * 20
            yield array

    sink = Kept(DrawStyle(masks=False, boxes=False, labels=False))
    run(pipeline, ArraySource(filled_again()), [sink])
    assert [int(frame.image[5, 5, 0]) for frame, _, _ in sink.added] == [0, 20, 40, 60]
    assert [int(picture[5, 5, 0]) for _, _, picture in sink.added] == [0, 20, 40, 60]


def test_an_error_of_a_sink_is_raised_where_the_run_was_started(pipeline):
    class Full(Kept):
        def add(self, frame, instances, picture=None):
            super().add(frame, instances, picture)
            raise CenterMaskError("The disk is full.")

    full, other = Full(), Kept()
    with pytest.raises(CenterMaskError, match="disk is full"):
        run(pipeline, ArraySource(frames(5)), [full, other])
    assert (full.end, other.end, len(full.added), other.added) == ("given up", "given up", 1, [])


def test_frames_of_several_streams_go_through_the_network_together(tmp_path):
    """Two films of the same model's pictures; every result is compared with a call of its own."""
    from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork

    films = {"a": frames(3), "b": frames(5)[2:]}
    for name, film in films.items():
        with VideoWriter(tmp_path / f"{name}.mp4", film[0].shape[:2], Fraction(10)) as writer:
            for image in film:
                writer.write(cv2.resize(image, film[0].shape[1::-1]))
    (tmp_path / "all.streams").write_text("a.mp4\nb.mp4\n")
    sink = Kept()
    with Pipeline(OnnxRuntimeNetwork(tiny_onnx())) as pipeline, open_source(tmp_path / "all.streams") as source:
        summary = run(pipeline, source, [sink])
        for frame, instances, _ in sink.added:
            assert_same(instances, pipeline(frame.image))
    assert summary.frames == 6 and summary.objects > 0
    for name in films:
        assert [frame.index for frame, _, _ in sink.added if frame.source.name == name] == [0, 1, 2]
