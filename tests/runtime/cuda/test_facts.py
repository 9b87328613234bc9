# SPDX-License-Identifier: Apache-2.0
"""What is said of a machine's GPUs: with two of them, which a stub of libcuda has, and with none."""

from __future__ import annotations

import importlib.util
import json

import pytest

from centermask_runtime.cuda import facts
from centermask_runtime.cuda.facts import Gpu, gpu_facts, gpus
from tests.support.cuda_cpu.build import compiler
from tests.support.cuda_stub.build import build, run_python

has_bindings = importlib.util.find_spec("cuda") is not None and importlib.util.find_spec("cuda.bindings") is not None
needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs g++")
needs_stub = pytest.mark.skipif(compiler() is None or not has_bindings, reason="needs g++ and cuda-bindings")
LIST = "from centermask_runtime.cuda.facts import gpus\nprint([(gpu.name, gpu.architecture) for gpu in gpus()])"


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    return build(tmp_path_factory.mktemp("stub"))


@pytest.mark.process
@needs_compiler
def test_the_driver_alone_lists_the_gpus_without_a_context(stub, tmp_path):
    log = tmp_path / "log"
    hidden = "import sys\nsys.modules.update(torch=None, cuda=None, onnxruntime=None)\n"  # neither is needed
    listed = run_python(stub, hidden + LIST, STUB_LOG=str(log))
    assert listed.strip() == "[('Stub GPU 0', 'sm90'), ('Stub GPU 1', 'sm90')]"
    assert "cuDevicePrimaryCtxRetain" not in log.read_text().split()


@pytest.mark.process
@needs_compiler
def test_a_driver_that_fails_has_no_gpus(stub):
    assert run_python(stub, LIST, STUB_FAIL="cuInit").strip() == "[]"


def test_a_machine_without_a_driver_has_no_gpus(monkeypatch):
    monkeypatch.setattr(facts, "LIBRARIES", ("libno-such-driver.so",))
    assert gpus() == [] and gpu_facts()["gpu"] == "none"


def test_an_architecture_is_written_as_compilers_write_it():
    assert Gpu("NVIDIA L4", (8, 9)).architecture == "sm89" and Gpu("B200", (10, 0)).architecture == "sm100"


def test_the_facts_of_a_machine_are_sentences_and_no_exceptions():
    found = gpu_facts()
    assert list(found) == ["gpu", "cuda_driver", "cuda_kernels", "tensorrt", "tensorrt_rtx", "onnxruntime_cuda"]
    assert all(fact and "\n" not in fact for fact in found.values())


@pytest.mark.process
@needs_stub
def test_the_facts_of_a_machine_with_gpus_name_them_the_provider_and_the_kernels(stub):
    script = "import json\nfrom centermask_runtime.cuda.facts import gpu_facts\nprint(json.dumps(gpu_facts()))"
    found = json.loads(run_python(stub, script))
    assert found["gpu"] == "0: Stub GPU 0, sm90, 1: Stub GPU 1, sm90"
    assert found["cuda_driver"].startswith("cuda-bindings ") and "on Stub GPU 0; installed: " in found["cuda_driver"]
    assert found["cuda_kernels"].startswith(("NVRTC", "fatbin"))
