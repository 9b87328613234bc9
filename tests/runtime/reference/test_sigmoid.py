# SPDX-License-Identifier: Apache-2.0
"""The sigmoid of single operations against float64."""

from __future__ import annotations

import numpy as np
import pytest

from centermask_runtime.reference.sigmoid import BLOCK, sigmoid


def exact(v):
    v = v.astype(np.float64)
    e = np.exp(-np.abs(v))
    return np.where(v >= 0, 1, e) / (1 + e)


def test_the_error_is_below_1e_7():
    v = np.concatenate([np.linspace(-120, 120, 300_001), np.linspace(-1, 1, 100_001)]).astype(np.float32)
    assert np.abs(sigmoid(v) - exact(v)).max() < 1e-7


def test_special_values():
    v = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 3e38, -3e38, 1e-45], np.float32)
    found = sigmoid(v)
    assert found[[0, 1, 3, 4, 5, 7]].tolist() == [0, 1, 0.5, 0.5, 1, 0.5]
    assert (found[[2, 6]] >= 0).all() and (found[[2, 6]] < 2e-38).all()


def test_it_never_falls_by_more_than_its_error():
    v = np.linspace(-20, 20, 200_001, dtype=np.float32)
    assert np.diff(sigmoid(v)).min() > -2e-7


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3, 5), (BLOCK - 1,), (BLOCK,), (2, BLOCK + 3)])
def test_any_shape_and_size(shape):
    v = np.random.default_rng(0).normal(0, 4, shape).astype(np.float32)
    found = sigmoid(v)
    assert found.shape == shape and found.dtype == np.float32
    np.testing.assert_allclose(found, exact(v), atol=1e-7)


def test_the_input_is_not_changed_and_may_be_strided():
    v = np.random.default_rng(0).normal(0, 4, (40, 60)).astype(np.float32)
    before = v.copy()
    np.testing.assert_array_equal(sigmoid(v[::2, ::3]), sigmoid(v)[::2, ::3])
    np.testing.assert_array_equal(v, before)
