# SPDX-License-Identifier: Apache-2.0
"""The sigmoid from single IEEE float32 operations: a kernel compiled without fused multiply-add gives equal bits.

sigma(v) = 1 / (1 + e) for v >= 0 and e / (1 + e) below, with e = exp(-|v|). The exponential is Cephes' expf: argument
reduction by multiples of ln 2 in two parts, then a polynomial of degree 5 in Horner form. |v| is cut at 87, where 1 -
sigma is far below one ulp and 2^n of the reduction is still a normal number. NaN gives 0: what the network does not
know is not an object. The largest error against float64 is below 1e-7.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

LOG2_E = np.float32(1.44269504)
LN2_HIGH = np.float32(0.693359375)
LN2_LOW = np.float32(-2.12194440e-4)
POLYNOMIAL = tuple(
    np.float32(c)
    for c in (
        1.9875691500e-4,
        1.3981999507e-3,
        8.3334519073e-3,
        4.1665795894e-2,
        1.6666665459e-1,
        5.0000001201e-1,
    )
)
LARGEST = np.float32(87)
ONE = np.float32(1)
BLOCK = 16384  # elements: the scratch arrays stay in the second-level cache


def sigmoid(logits: NDArray[Any]) -> NDArray[np.float32]:
    """float32 [...] -> float32 [...] of the same shape, in [0, 1]; NaN -> 0. Always a new array."""
    flat = np.ascontiguousarray(logits, np.float32).reshape(-1)
    result = np.empty_like(flat)
    scratch = np.empty((3, min(BLOCK, flat.size)), np.float32)
    for start in range(0, flat.size, BLOCK):
        _sigmoid_block(flat[start : start + BLOCK], result[start : start + BLOCK], scratch)
    return result.reshape(np.shape(logits))


def _sigmoid_block(v: NDArray[np.float32], e: NDArray[np.float32], scratch: NDArray[np.float32]) -> None:
    """v -> e, both [n]; scratch [3, >= n]. Each line is one operation of the definition."""
    n, r, t = scratch[:, : v.size]
    np.abs(v, out=r)
    np.fmin(r, LARGEST, out=r)  # fmin: NaN becomes 87
    np.negative(r, out=r)
    np.multiply(r, LOG2_E, out=n)
    np.rint(n, out=n)
    np.multiply(n, LN2_HIGH, out=t)
    np.subtract(r, t, out=r)
    np.multiply(n, LN2_LOW, out=t)
    np.subtract(r, t, out=r)
    e.fill(POLYNOMIAL[0])
    for coefficient in POLYNOMIAL[1:]:
        np.multiply(e, r, out=e)
        np.add(e, coefficient, out=e)
    np.multiply(r, r, out=t)
    np.multiply(e, t, out=e)
    np.add(e, r, out=e)
    np.add(e, ONE, out=e)
    power = n.astype(np.int32)  # 2^n by its bits: n + 127 is the exponent field, 1 or more
    power += 127
    power <<= 23
    np.multiply(e, power.view(np.float32), out=e)
    np.add(e, ONE, out=t)
    np.divide(ONE, t, out=t)
    np.multiply(e, t, out=e)
    np.copyto(e, t, where=v >= 0)
    np.copyto(e, np.float32(0), where=np.isnan(v))
