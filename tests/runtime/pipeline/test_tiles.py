# SPDX-License-Identifier: Apache-2.0
"""The pipeline around a pipeline: same protocol, the objects that the whole frame shows, K per tile, part by part."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.instances import Instances
from centermask_runtime.pipeline.cpu import LARGEST_BATCH, Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.pipeline.opening import pipeline_of
from centermask_runtime.pipeline.tiles import NO_LIMIT, TOGETHER, TiledPipeline, tiled_selections
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.reference.nv12 import Nv12Frame
from centermask_runtime.reference.overlay import DrawStyle, draw
from tests.support.exact_pipeline import SPEC, ExactPipeline, colour_masks, disc_picture
from tests.support.given_networks import SeeingCpuNetwork, SeeingNetwork, assert_same, given_sets

DISCS = [(int(x), int(y), 9) for y in range(12, 300, 24) for x in range(12, 400, 24)]
PICTURE = disc_picture((300, 400), DISCS)


def tiled(tiling=None, pipeline=None, **words):
    frame, tile = tiled_selections(SPEC, words)
    return TiledPipeline(pipeline or ExactPipeline(tile), tiling or Tiling(96, 24), frame)


def test_tiles_find_what_the_whole_frame_shows_best_first():
    found = tiled()(PICTURE)
    assert len(found) == len(colour_masks(PICTURE)) > 150
    assert (np.diff(found.scores) <= 0).all()
    assert found.frame_hw == (300, 400)
    assert (found.masks.canvases().sum(axis=0) == PICTURE.any(axis=2)).all()


def test_all_ways_to_ask_give_the_same():
    pipeline, other = tiled(), PICTURE[::-1, ::-1]
    expected = [pipeline(PICTURE), pipeline(other)]
    style = DrawStyle(labels=False)
    for found in (
        list(pipeline.each(iter([PICTURE, other]))),
        pipeline.many([PICTURE, other]),
        [pipeline.timed(frame)[0] for frame in (PICTURE, other)],
        [instances for instances, _ in pipeline.drawn([PICTURE, other], style)],
        [Instances.concatenate(pipeline.parts(frame)).best_first() for frame in (PICTURE, other)],
    ):
        for one, truth in zip(found, expected, strict=True):
            assert sorted(one.scores) == sorted(truth.scores) and len(one) == len(truth)
            np.testing.assert_array_equal(one.masks.canvases().sum(axis=0), truth.masks.canvases().sum(axis=0))
    _, picture = next(pipeline.drawn([PICTURE], style))
    np.testing.assert_array_equal(picture, draw(PICTURE, expected[0], style))
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(pipeline, [PICTURE] * 8):
            assert_same(found, expected[0])


def test_a_frame_that_fits_into_a_tile_goes_through_as_it_is():
    inner = ExactPipeline()
    frame, _ = tiled_selections(SPEC, {})
    found = TiledPipeline(inner, Tiling(512, 64), frame)(PICTURE)
    assert inner.sizes == [(300, 400)]
    assert_same(found, ExactPipeline()(PICTURE))


def test_k_counts_per_tile_and_max_det_per_frame():
    spec = replace(SPEC, max_detections=10)
    frame, tile = tiled_selections(spec, {})
    assert (frame.max_detections, tile.max_detections) == (NO_LIMIT, 10)
    frame, tile = tiled_selections(spec, {"max_det": 25})
    assert (frame.max_detections, tile.max_detections) == (25, 10)
    everything, best = tiled()(PICTURE), tiled(max_det=25)(PICTURE)
    assert len(best) == 25
    assert_same(best, everything[:25])


def test_a_part_may_score_lower_than_the_threshold_and_the_whole_may_not():
    frame, tile = tiled_selections(SPEC, {"conf": 0.6})
    assert (frame.score_threshold, tile.score_threshold) == (0.6, pytest.approx(0.3))
    conf = float(np.median(tiled()(PICTURE).scores))
    assert 0 < len(tiled(conf=conf)(PICTURE)) < len(tiled()(PICTURE))
    assert tiled(conf=conf)(PICTURE).scores.min() >= np.float32(conf)


def test_few_tiles_are_in_memory_at_once():
    class Counting(ExactPipeline):
        most = 0

        def many(self, frames):
            self.most = max(self.most, len(frames))
            return super().many(frames)

    inner = Counting()
    tiled(Tiling(32, 8), inner)(np.zeros((40, 700, 3), np.uint8))
    assert inner.most == TOGETHER == LARGEST_BATCH


def test_closing_closes_the_pipeline_of_the_tiles_and_what_is_no_frame_is_refused():
    inner = ExactPipeline()
    with tiled(pipeline=inner) as pipeline:
        with pytest.raises(DataError, match="A frame must be uint8"):
            pipeline(np.zeros((300, 400), np.uint8))
        with pytest.raises(DataError, match="A frame must be an array"):
            pipeline("picture.png")
        assert pipeline.description == "exact, tiles of 96 that share 24"
    assert inner.closed


def test_around_a_network_tiles_are_scaled_to_its_input_and_a_refused_selection_closes_it(small_spec):
    class Network(SeeingCpuNetwork):
        closed = False

        def close(self):
            self.closed = True

    network = Network(small_spec, next(given_sets(small_spec, 1)))
    frame = np.random.default_rng(1).integers(0, 256, (150, 210, 3), dtype=np.uint8)
    with pipeline_of(network, {"conf": 0.2}, Tiling(50, 10)) as pipeline:  # of no multiple of anything
        found = pipeline(frame)
        assert isinstance(pipeline, TiledPipeline) and isinstance(pipeline.pipeline, Pipeline)
        assert len(found) > 0 and found.frame_hw == (150, 210) and found.scores.min() >= np.float32(0.2)
        assert pipeline.selection.score_threshold == 0.2
        nv12 = Nv12Frame(np.random.default_rng(3).integers(0, 256, (90, 80), dtype=np.uint8))
        assert_same(pipeline(nv12), pipeline(nv12.to_bgr()))
    assert network.closed
    refused = Network(small_spec, ())
    with pytest.raises(UsageError, match="conf must be"):
        pipeline_of(refused, {"conf": 2}, Tiling(50, 10))
    assert refused.closed


@pytest.mark.parametrize("batch", [1, 3])
def test_tiles_on_a_gpu_give_what_tiles_on_the_cpu_give(small_spec, driver, cpu_kernels, batch):
    arrays = next(given_sets(small_spec, 1))
    picture = np.random.default_rng(2).integers(0, 256, (150, 210, 3), dtype=np.uint8)
    frame, tile = tiled_selections(small_spec, {"conf": 0.2})
    with TiledPipeline(Pipeline(SeeingCpuNetwork(small_spec, arrays), tile), Tiling(64, 16), frame) as pipeline:
        expected = pipeline(picture)
    network = SeeingNetwork(driver, small_spec, arrays, batch)
    with TiledPipeline(GpuPipeline(driver, network, tile, kernels=cpu_kernels), Tiling(64, 16), frame) as pipeline:
        assert_same(pipeline(picture), expected)
    assert len(expected) > 10
