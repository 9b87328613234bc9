# SPDX-License-Identifier: Apache-2.0
"""Says when the kernels were not run on a GPU: the other tests of them then ran on the CPU build alone."""

from __future__ import annotations

import pytest

from tests.support.cuda_cpu.compare import gpu_is_there


def test_the_kernels_are_compared_on_a_gpu_too(request):
    if not gpu_is_there():
        pytest.skip("needs an NVIDIA GPU and its driver; the kernels' CPU build is compared everywhere")
    assert request.getfixturevalue("cuda_device") is not None
