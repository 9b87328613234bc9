# SPDX-License-Identifier: Apache-2.0
"""The peak kernels equal reference/peaks.py bit for bit, on the CPU and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from centermask_runtime.cuda.stages import LEAST_SORTED
from centermask_runtime.reference.peaks import top_peaks
from tests.support.cuda_cpu.compare import DenseHeads, peaks_equal_reference, peaks_of_heads, spec_of_grid

SPEC = spec_of_grid(3, (16, 24), 12, shape_size=8, channels=3)  # input 64 x 96


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def noise(rng, *shape):
    return rng.normal(0, 2, shape).astype(np.float32)


@pytest.mark.parametrize("grid_hw", [(8, 8), (16, 24), (40, 32)])
@pytest.mark.parametrize("k", [1, 7, 150])
def test_peaks_of_random_maps(cuda_device, rng, grid_hw, k):
    peaks_equal_reference(cuda_device, noise(rng, 2, 3, *grid_hw), k)


@pytest.mark.parametrize("candidates", [1, 5, 60])
def test_more_peaks_than_are_remembered_are_right_too(cuda_device, rng, candidates):
    heatmaps = noise(rng, 2, 2, 24, 16)
    heatmaps[1] = np.nan  # one image overflows, the other has nothing
    peaks_equal_reference(cuda_device, heatmaps, 20, candidates=candidates)


@pytest.mark.parametrize("candidates", [50, 10_000])
def test_more_candidates_than_are_sorted_are_searched_for_the_best(cuda_device, rng, candidates):
    many = noise(rng, 1, 20, 32, 32)
    assert (top_peaks(many[0], LEAST_SORTED + 1).scores > 0).all()
    rounded = np.round(many * 2) / 2  # a lot of equal scores at the limit
    for heatmaps in (many, rounded):
        peaks_equal_reference(cuda_device, heatmaps, 40, candidates=candidates)


@pytest.mark.parametrize("k", [1, 100, 1100])
@pytest.mark.parametrize("candidates", [64, 10_000])
def test_a_flat_map_gives_the_first_cells_in_order(cuda_device, k, candidates):
    peaks_equal_reference(cuda_device, np.zeros((1, 5, 16, 16), np.float32), k, candidates=candidates)


def test_peaks_among_nan_and_infinity(cuda_device, rng):
    heatmap = noise(rng, 2, 2, 16, 16)
    heatmap[rng.random(heatmap.shape) < 0.2] = np.nan
    heatmap[0, 0, 3, 3], heatmap[0, 1, 4, 4], heatmap[0, 1, 5, 5] = np.inf, -np.inf, 1e30
    heatmap[1, 0] = np.nan
    heatmap[1, 1] = -np.inf
    peaks_equal_reference(cuda_device, heatmap, 50)


def test_peaks_below_the_least_score_are_left_out(cuda_device, rng):
    peaks_equal_reference(cuda_device, noise(rng, 2, 2, 16, 16), 30, least_score=0.9)
    peaks_equal_reference(cuda_device, noise(rng, 2, 2, 16, 16), 30, least_score=1.0, candidates=4)


def test_heads_are_read_at_the_peaks(cuda_device, rng):
    dense = DenseHeads(*(noise(rng, 2, channels, 16, 24) for channels in (3, 2, 2, 64)))
    dense.sizes[0, 0, :, ::2] = np.nan
    dense.offsets[1, 1, ::3] = np.inf
    peaks_of_heads(cuda_device, dense, SPEC)
