# SPDX-License-Identifier: Apache-2.0
"""Names of devices, and which files run on which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from centermask_runtime.device import Device, check_threads
from centermask_runtime.errors import UsageError


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("auto", Device("auto")), ("cpu", Device("cpu")), ("CPU", Device("cpu")), ("cuda", Device("cuda", 0)),
        ("cuda:0", Device("cuda", 0)), ("cuda:12", Device("cuda", 12)), ("0", Device("cuda", 0)),
        ("1", Device("cuda", 1)), (1, Device("cuda", 1)), (np.int64(1), Device("cuda", 1)),
        (Device("cuda", 2), Device("cuda", 2)),
    ],
)  # fmt: skip
def test_a_device_has_a_name_or_the_number_of_a_gpu(name, device):
    assert Device.of(name) == device


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:", "cuda1", "", "-1", -1, 1.0, True, None, "cuda:1000"])
def test_another_name_is_refused(name):
    with pytest.raises(UsageError, match=r"There is no device .*: give auto, cpu, cuda, or the number of a GPU"):
        Device.of(name)


@pytest.mark.parametrize(
    ("given", "file", "sentence"),
    [
        (("cpu", "pycuda"), "a.onnx", "makes no sense on device cpu"),
        (("cpu", "auto"), "a.engine", "is an engine, which only a GPU runs"),
        (("cuda", "auto"), "a.xml", "runs on the CPU only"),
        (("cuda:1", "auto"), "a.torchscript", "runs on the CPU only"),
        (("auto", "pycuda"), "a.onnx", "would not use it"),
        (("cuda", "pycuda"), "a.safetensors", "would not use it"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(given, file, sentence):
    with pytest.raises(UsageError, match=sentence):
        Device.of(*given).runs_gpu_network(Path(file))


@pytest.mark.parametrize(
    ("device", "file", "on_gpu"),
    [
        ("auto", "a.engine", True), ("auto", "a.plan", True), ("auto", "a.onnx", False), ("auto", "a.xml", False),
        ("auto", "a.safetensors", False), ("cuda", "a.onnx", True), ("cuda:1", "a.engine", True),
        ("cpu", "a.onnx", False), ("cuda", "a.safetensors", False),
    ],
)  # fmt: skip
def test_auto_takes_the_gpu_for_engines_only(device, file, on_gpu):
    assert Device.of(device).runs_gpu_network(Path(file)) is on_gpu


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**9, 1.0, "4", True])
def test_an_absurd_number_of_threads_is_refused(threads):
    with pytest.raises(UsageError, match="threads must be a whole number from 1 to 1024, not"):
        check_threads(threads)


def test_a_number_of_threads_may_be_numpys():
    assert check_threads(np.int64(4)) == 4 and check_threads(None) is None
