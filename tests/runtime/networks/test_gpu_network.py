# SPDX-License-Identifier: Apache-2.0
"""Networks on the device: TensorRT engines and ONNX Runtime with bound memory, inside the pipeline and when wrong.

TensorRT runs nowhere without a GPU, so its interface is imitated (fake_tensorrt_runtime.py) and checked against the
real one. ONNX Runtime is real, on the CPU provider, whose device memory is the CPU driver's.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest

from centermask_runtime.errors import CenterMaskError, ModelError, UsageError
from centermask_runtime.networks import onnx_runtime
from centermask_runtime.networks.engine_record import read_record, record_path
from centermask_runtime.networks.network import PEAKS_OUTPUTS
from centermask_runtime.networks.onnx_runtime import CPU, OnnxRuntimeNetwork, open_session
from centermask_runtime.networks.onnx_runtime_gpu import NO_CPU_NODES, OnnxRuntimeGpuNetwork, open_on_device
from centermask_runtime.networks.tensorrt_engine import TensorRTEngine
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.pipeline.gpu import GpuPipeline
from centermask_runtime.selection import Selection
from tests.runtime.networks.test_onnx_runtime import tiny_graph
from tests.support import fake_tensorrt_runtime
from tests.support.given_networks import CpuNetwork, OnStream, assert_same, given_sets, random_frames

AZURE = "AzureExecutionProvider"
SHAPE = [1, 64, 96, 3]
STATIC = {"shape": SHAPE, "profiles": [[SHAPE, SHAPE, SHAPE]]}


def sized(batch):
    return [batch, 64, 96, 3]


@pytest.fixture
def arrays(small_spec):
    return next(given_sets(small_spec, 1))


@pytest.fixture
def write(tmp_path, small_spec):
    """An engine file and its record."""

    def write(plan=STATIC, **changes):
        path = tmp_path / "small.engine"
        path.write_text(json.dumps(plan))
        record = {
            "spec": json.loads(small_spec.to_json()), "builder": "TensorRT", "builder_version": "10.9",
            "gpu": "NVIDIA L4", "precision": "fp16", "source_sha256": "00",
            "plan_sha256": hashlib.sha256(path.read_bytes()).hexdigest(), **changes,
        }  # fmt: skip
        record_path(path).write_text(json.dumps(record))
        return path

    return write


@pytest.fixture
def fake(driver, small_spec, arrays):
    return fake_tensorrt_runtime.library(driver.driver, small_spec, dict(zip(PEAKS_OUTPUTS, arrays, strict=True)))


# ---- TensorRT -------------------------------------------------------------------------------------------------------


def test_an_engine_gives_the_results_of_the_cpu_pipeline(driver, cpu_kernels, small_spec, arrays, write, fake):
    frames = random_frames(5, sizes=((97, 61),))
    cpu = Pipeline(CpuNetwork(small_spec, [arrays]))
    with TensorRTEngine(write(), driver, library=fake) as engine:
        network = engine.network()
        assert network.description == "TensorRT 10.99 engine, fp16"
        before = driver.live_bytes["memory"]
        with GpuPipeline(driver, network, kernels=cpu_kernels, slots=2) as pipeline:
            for found, frame in zip(pipeline.each(frames), frames, strict=True):
                assert_same(found, cpu(frame))
                assert len(found)
            assert pipeline.graph == "one CUDA graph per frame"  # TensorRT's contexts can be captured
        (context,) = fake.engines[0].contexts
    assert before >= 1000 and context.memory[1] == 1000  # its working memory is the driver layer's
    assert len(context.calls) == 1 + len(PEAKS_OUTPUTS)  # addresses are set once
    assert context.shape == ("images", (1, 64, 96, 3))


@pytest.mark.parametrize(("capturable", "graph"), [(True, "one CUDA graph"), (False, "no CUDA graph: TensorRT")])
def test_an_engine_that_says_whether_it_can_be_captured_is_believed(
    driver, cpu_kernels, small_spec, arrays, write, capturable, graph
):
    outputs = dict(zip(PEAKS_OUTPUTS, arrays, strict=True))
    library = fake_tensorrt_runtime.library(driver.driver, small_spec, outputs, capturable)
    with (
        TensorRTEngine(write(), driver, library=library) as engine,
        GpuPipeline(driver, engine.network(), kernels=cpu_kernels) as pipeline,
    ):
        for frame in random_frames(3, sizes=((97, 61),)):
            pipeline(frame)
        assert pipeline.graph.startswith(graph)


def test_several_videos_share_an_engine_and_have_a_context_each(driver, write, fake):
    with TensorRTEngine(write(), driver, library=fake) as engine:
        networks = engine.network(), engine.network()
        assert len(fake.engines) == 1 and len(fake.engines[0].contexts) == 2
        first, second = (context.memory[0] for context in fake.engines[0].contexts)
        assert first != second
        for network in networks:
            network.close()
            network.close()


@pytest.mark.parametrize(("batch", "profile"), [(1, 0), (4, 1), (3, 1), (8, 2)])
def test_the_profile_is_the_one_tuned_for_the_shape_or_else_one_that_takes_it(driver, write, fake, batch, profile):
    plan = {
        "shape": [-1, 64, 96, 3],
        "profiles": [
            [sized(1), sized(1), sized(1)],
            [sized(1), sized(4), sized(4)],
            [sized(1), sized(8), sized(16)],
        ],
    }
    with TensorRTEngine(write(plan), driver, library=fake) as engine:
        network = engine.network(batch)
        assert fake.engines[0].contexts[0].profile == profile == network.profile
        assert fake.engines[0].contexts[0].memory[1] == 1000 * (profile + 1)
        network.close()
        with pytest.raises(ModelError, match=r"takes images 1 x 64 x 96 x 3 to .*; .*, not 32 x 64 x 96 x 3"):
            engine.network(32)


def test_an_engine_of_one_size_refuses_another(driver, write, fake):
    engine = TensorRTEngine(write(), driver, library=fake)
    with pytest.raises(ModelError, match="takes images 1 x 64 x 96 x 3, not 2 x 64 x 96 x 3: export it"):
        engine.network(2)


@pytest.mark.parametrize(("side", "batch"), [(4, 4), (-1, 1)])
def test_an_engine_is_opened_for_its_own_batch_or_for_one_where_that_is_open(driver, write, fake, side, batch):
    plan = {"shape": [side, 64, 96, 3], "profiles": [[sized(1), sized(4), sized(4)]]}
    with TensorRTEngine(write(plan), driver, library=fake) as engine:
        network = engine.network()
        assert network.batch == batch and fake.engines[0].contexts[0].shape == ("images", (batch, 64, 96, 3))
        network.close()


def test_an_engine_that_fails_to_run_says_what_tensorrt_said(driver, write, fake, cpu_kernels):
    engine = TensorRTEngine(write({**STATIC, "fails": True}), driver, library=fake)
    with (
        GpuPipeline(driver, engine.network(), kernels=cpu_kernels) as pipeline,
        pytest.raises(CenterMaskError, match="did not run, enqueueV3 failed: the device is lost"),
    ):
        pipeline(random_frames(1)[0])


def test_an_engine_that_this_tensorrt_refuses_names_both_versions(driver, write, fake):
    words = r"tensorrt 10.99 on .* cannot load .*, built by TensorRT 10.9 on NVIDIA L4 \(The engine plan file is not"
    with pytest.raises(ModelError, match=words):
        TensorRTEngine(write({**STATIC, "refused": True}), driver, library=fake)


def test_an_engine_without_an_output_is_refused(driver, write, fake):
    with pytest.raises(ModelError, match=r"must take 'images' uint8 and give scores, labels.*export the engine again"):
        TensorRTEngine(write({**STATIC, "without": "shapes"}), driver, library=fake)


def test_the_record_beside_an_engine_is_read(write, small_spec):
    record = read_record(write())
    assert record.spec == small_spec and (record.builder, record.gpu) == ("TensorRT", "NVIDIA L4")


def test_code_of_an_engine_runs_on_the_host_only_where_the_engine_is_version_compatible(driver, write, fake):
    asked = []
    fake.Runtime.__setattr__ = lambda self, name, value: (asked.append((name, value)), vars(self).update({name: value}))
    with TensorRTEngine(write(), driver, library=fake):
        assert not [name for name, _ in asked if name == "engine_host_code_allowed"]
    with TensorRTEngine(write(options={"version_compatible": True}), driver, library=fake):
        assert ("engine_host_code_allowed", True) in asked


def test_a_record_that_is_missing_damaged_or_of_another_engine_is_one_sentence(driver, write, tmp_path):
    path = write()
    record = json.loads(record_path(path).read_text())
    for content, words in (
        (None, r"has no small.engine.json beside it"),
        ("{", "is damaged"),
        ("[]", "is damaged"),
        (json.dumps({key: value for key, value in record.items() if key != "gpu"}), "is damaged"),
        (json.dumps({**record, "spec": {}}), "is damaged"),
        (json.dumps({**record, "plan_sha256": "0"}), "describes another engine"),
    ):
        record_path(path).unlink(missing_ok=True)
        if content is not None:
            record_path(path).write_text(content)
        with pytest.raises(ModelError, match=words) as raised:
            TensorRTEngine(path, driver)
        assert "\n" not in str(raised.value) and "export the" in str(raised.value)
    with pytest.raises(ModelError, match="There is no engine"):
        TensorRTEngine(tmp_path / "none.engine", driver)


def test_a_library_that_is_missing_or_unknown_is_named(driver, write):
    with pytest.raises(ModelError, match="was built by 'TVM', which this release does not know"):
        TensorRTEngine(write(builder="TVM"), driver)
    try:
        import tensorrt  # noqa: F401
    except ImportError:
        with pytest.raises(ModelError, match=r"needs TensorRT, .*: pip install 'centermask\[trt\]'"):
            TensorRTEngine(write(builder="TensorRT"), driver)


def test_the_imitation_has_nothing_that_the_real_interface_lacks(driver, small_spec):
    real = pytest.importorskip("tensorrt_rtx")
    fake = fake_tensorrt_runtime.library(driver.driver, small_spec, {}, capturable=True)
    for kind in ("Runtime", "ICudaEngine", "IExecutionContext"):
        methods = {name for name in vars(getattr(fake, kind)) if not name.startswith("_")}
        assert methods and methods <= set(dir(getattr(real, kind)))
    for properties, kind in ((("num_optimization_profiles", "num_io_tensors"), real.ICudaEngine),):
        assert set(properties) <= set(dir(kind))
    for kind in ("DataType", "TensorIOMode", "ExecutionContextAllocationStrategy"):
        for member in getattr(fake, kind):
            assert int(getattr(real, kind).__members__[member.name]) == member.value
    for member in fake.ILogger.Severity:
        assert member.name in real.ILogger.Severity.__members__


def test_the_real_tensorrt_rtx_says_why_it_cannot_load_a_plan(driver, write):
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(ModelError, match=r"tensorrt_rtx 1\..* cannot load .*, built by TensorRT-RTX .*\(.+\): export"):
        TensorRTEngine(write(builder="TensorRT-RTX"), driver)


# ---- ONNX Runtime ---------------------------------------------------------------------------------------------------


@pytest.fixture
def onnx_file(small_spec, small_outputs, tmp_path):
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs), path)
    return path


def test_bound_memory_gives_the_results_of_the_cpu_pipeline(driver, cpu_kernels, onnx_file):
    """The scores of this graph are the brightness of what it is given: the letterbox is in the comparison too."""
    frames = [np.full_like(frame, 200) // (2 + frame % 3) for frame in random_frames(5)]
    network = OnStream(driver, OnnxRuntimeGpuNetwork(onnx_file, 0, provider=CPU))
    selection = Selection.of(network.spec, conf=0.05)
    cpu = Pipeline(OnnxRuntimeNetwork(onnx_file, threads=1), selection)
    with GpuPipeline(driver, network, selection, kernels=cpu_kernels, slots=2) as pipeline:
        found = list(pipeline.each(frames))
    for one, frame in zip(found, frames, strict=True):
        assert_same(one, cpu(frame))
    assert sum(map(len, found)) > 5


@pytest.mark.parametrize(("axis", "asked", "batch"), [(4, None, 4), ("N", 4, 4), ("N", None, 1)])
def test_frames_go_through_onnx_runtime_in_batches(
    driver, cpu_kernels, small_spec, small_outputs, tmp_path, axis, asked, batch
):
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs, batch=axis), path)
    frames = [frame // 4 + np.uint8(20 * index) for index, frame in enumerate(random_frames(6, sizes=((97, 61),)))]
    gpu = OnnxRuntimeGpuNetwork(path, 0, provider=CPU, batch=asked)
    selection = Selection.of(small_spec, conf=0.05)
    with (
        GpuPipeline(driver, OnStream(driver, gpu), selection, kernels=cpu_kernels) as pipeline,
        Pipeline(OnnxRuntimeNetwork(path, threads=1), selection) as cpu,
    ):
        assert gpu.batch == batch
        expected = [cpu(frame) for frame in frames]
        for found in (pipeline.many(frames), list(pipeline.each(frames))):
            for one, other in zip(found, expected, strict=True):
                assert_same(one, other)
    assert len({len(one) for one in expected}) > 1


def test_a_cuda_provider_that_is_not_there_is_an_error_and_never_the_cpu(onnx_file):
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        with pytest.raises(ModelError, match="CUDAExecutionProvider was asked for, but this installation offers"):
            OnnxRuntimeGpuNetwork(onnx_file, 1)


def test_a_cuda_provider_that_only_claims_to_be_there_is_an_error_and_never_the_cpu(onnx_file, monkeypatch):
    """onnxruntime-gpu lists it on every machine; what counts is what the session says after it has started."""

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path, options, providers, provider_options):
            super().__init__(path, options, [CPU])

    monkeypatch.setattr(onnx_runtime.ort, "get_available_providers", lambda: ["CUDAExecutionProvider", CPU])
    monkeypatch.setattr(onnx_runtime.ort, "InferenceSession", Session)
    with pytest.raises(ModelError, match="CUDAExecutionProvider was asked for but could not start, only CPU"):
        OnnxRuntimeGpuNetwork(onnx_file, 1)


@pytest.mark.skipif(AZURE not in onnxruntime.get_available_providers(), reason=f"needs {AZURE}")
def test_nodes_that_a_provider_leaves_to_the_cpu_are_named(onnx_file, tmp_path, monkeypatch):
    """Azure's provider, in each wheel for the CPU, takes no node of ours: ONNX Runtime's own refusal is seen."""
    with pytest.raises(ModelError, match="fallback to CPU EP has been explicitly disabled"):
        open_session(onnx_file, None, (AZURE,), [{}], {NO_CPU_NODES: "1"})
    session, remark = open_on_device(onnx_file, AZURE, {})
    assert session.get_providers()[0] == AZURE and remark == " with nodes on the CPU, which Azure does not take"
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(ModelError, match="is not an ONNX model"):
        open_on_device(broken, AZURE, {})

    class Session(onnxruntime.InferenceSession):
        """One whose provider takes all nodes, but on the CPU."""

        def __init__(self, path, options, providers, provider_options):
            assert options.get_session_config_entry(NO_CPU_NODES) == "1"
            super().__init__(path, onnxruntime.SessionOptions(), [CPU])
            self.get_providers = lambda: [*providers, CPU]

    monkeypatch.setattr(onnx_runtime.ort, "InferenceSession", Session)
    assert open_on_device(onnx_file, AZURE, {})[1] == ""


def test_another_provider_than_cuda_is_refused(onnx_file):
    with pytest.raises(
        UsageError, match="runs ONNX Runtime on CUDAExecutionProvider or CPUExecutionProvider, not on X"
    ):
        OnnxRuntimeGpuNetwork(onnx_file, 1, provider="X")


def test_a_graph_that_is_not_what_its_specification_says_is_refused(small_spec, small_outputs, tmp_path):
    path = tmp_path / "tiny.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs, names=PEAKS_OUTPUTS[:-1]), path)
    with pytest.raises(ModelError, match=r"must take 'images' and give scores.* export the model again"):
        OnnxRuntimeGpuNetwork(path, 0, provider=CPU)
    onnx.save(tiny_graph(small_spec, small_outputs, batch=2), path)
    with pytest.raises(ModelError, match="is for batches of 2, and 1 was asked for"):
        OnnxRuntimeGpuNetwork(path, 0, batch=1, provider=CPU)
