# SPDX-License-Identifier: Apache-2.0
"""predict, val, compare and benchmark with --device cuda: the same files and numbers as on the CPU.

The commands run whole. What they open is replaced at the bottom only: the driver by the one that executes the kernels'
CPU build, ONNX Runtime's CUDA provider by its CPU one on the same memory, TensorRT by its imitation.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from centermask.cli import main
from centermask_runtime import CenterMask
from centermask_runtime.cuda import providers as cuda_device_module
from centermask_runtime.cuda import workspace
from centermask_runtime.cuda.counted_driver import CountedDriver
from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.cuda.facts import gpus
from centermask_runtime.cuda.providers import open_driver
from centermask_runtime.errors import CenterMaskError, ModelError, UsageError
from centermask_runtime.networks import onnx_runtime_gpu
from centermask_runtime.networks.engine_record import record_path
from centermask_runtime.networks.gpu_network import as_network
from centermask_runtime.networks.network import PEAKS_OUTPUTS
from centermask_runtime.networks.onnx_runtime import CPU
from centermask_runtime.networks.onnx_runtime_gpu import OnnxRuntimeGpuNetwork
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.selection import Selection
from tests.support import fake_tensorrt_runtime
from tests.support.cuda_cpu.build import compiler
from tests.support.cuda_cpu.cpu_driver import CpuDriver
from tests.support.exported_models import released_onnx
from tests.support.given_networks import (
    CpuNetwork,
    GivenNetwork,
    OnStream,
    assert_same,
    fill_memory_after,
    given_sets,
    peak_outputs,
    random_frames,
)
from tests.support.places import NUCLEI

ONE_THREAD = "--threads", 1

needs_compiler = pytest.mark.skipif(compiler() is None, reason="needs g++ to compile the kernels for the CPU")
without_gpu = pytest.mark.skipif(bool(gpus()), reason="is about machines without a GPU, and this one has one")


class Gpu:
    """What commands find instead of a GPU, and what they did with it."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, int]] = []
        self.left: list[dict[str, int]] = []  # handed out when the command closed each driver
        self.driver = self._new()

    def open(self, name: str, device: int) -> CountedDriver:
        self.opened.append((name, device))
        driver, self.driver = self.driver, self._new()
        return driver

    def network(self, path, stream, *, device):
        return OnStream(self.last, OnnxRuntimeGpuNetwork(path, 0, provider=CPU))

    def _new(self) -> CountedDriver:
        self.last = getattr(self, "driver", None)
        driver = CountedDriver(CpuDriver())
        close = driver.close

        def closed() -> None:
            self.left.append(driver.live)
            close()

        driver.close = closed
        return driver


@pytest.fixture
def gpu(monkeypatch, cpu_kernels):
    found = Gpu()
    image = type("Image", (), {"code": cpu_kernels})
    monkeypatch.setattr(cuda_device_module, "open_driver", found.open)
    monkeypatch.setattr(workspace, "kernel_image", lambda capability: image)
    monkeypatch.setattr(onnx_runtime_gpu, "OnnxRuntimeGpuNetwork", found.network)
    yield found
    assert len(found.left) == len(found.opened), "a driver was not closed"
    assert not any(count for live in found.left for count in live.values()), f"not given back before: {found.left}"


def run(*arguments: object) -> None:
    main([str(argument) for argument in arguments])


def last_json(capsys) -> dict:
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


@pytest.fixture
def pictures(tmp_path) -> Path:
    """Random frames of several sizes as files."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index, frame in enumerate(random_frames(5)):
        cv2.imwrite(str(folder / f"{index}.png"), frame)
    return folder


@pytest.fixture
def clip(tmp_path) -> Path:
    from centermask_runtime.sinks.video_writer import VideoWriter

    image = cv2.imread(str(next((NUCLEI / "val").glob("*.png"))))[:128, :160]
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, (128, 160), 10) as writer:
        for index in range(6):
            writer.write(np.roll(image, 4 * index, 1), index / 10)
    return path


@pytest.fixture
def engine(tmp_path, small_spec):
    """An engine of the imitation and its record."""
    shape = [1, *small_spec.input_hw, 3]
    path = tmp_path / "small.engine"
    path.write_text(json.dumps({"shape": shape, "profiles": [[shape] * 3]}))
    record = {
        "spec": json.loads(small_spec.to_json()), "builder": "TensorRT", "builder_version": "10.9", "gpu": "NVIDIA L4",
        "precision": "fp16", "source_sha256": "00", "plan_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }  # fmt: skip
    record_path(path).write_text(json.dumps(record))
    return path


@pytest.fixture
def outputs(gpu, monkeypatch, small_spec):
    """What every engine computes from now on."""
    arrays = next(given_sets(small_spec, 1))
    named = dict(zip(PEAKS_OUTPUTS, arrays, strict=True))
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt_runtime.library(gpu.driver.driver, small_spec, named))
    return arrays


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("source", ["images", "video"])
def test_predict_on_the_gpu_writes_the_files_of_the_cpu(gpu, tmp_path, capsys, clip, source):
    model = released_onnx("fp32")
    wanted = clip if source == "video" else NUCLEI / "val"
    for device in ("cpu", "cuda:1"):
        output = tmp_path / device.replace(":", "")
        run("predict", "--model", model, "--source", wanted, "--output", output, "--device", device, *ONE_THREAD)
    printed = capsys.readouterr().out
    one, other = ((tmp_path / name / "predictions.json").read_bytes() for name in ("cpu", "cuda1"))
    assert one == other and len(json.loads(one)["annotations"]) > 20
    names = sorted(path.name for path in (tmp_path / "cpu").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "cuda1").iterdir()) and len(names) > 1
    for name in names:
        if name.endswith(".png"):
            assert (tmp_path / "cpu" / name).read_bytes() == (tmp_path / "cuda1" / name).read_bytes()
    assert gpu.opened == [("auto", 1)]
    assert "kernels compiled for the CPU, one CUDA graph per frame; results in" in " ".join(printed.split())


@needs_compiler
def test_an_engine_runs_on_the_gpu_unasked_and_is_released(gpu, tmp_path, pictures, engine, outputs, small_spec):
    output = tmp_path / "out"
    run("predict", "--model", engine, "--source", pictures, "--output", output, "--conf", 0.3, "--no-save")
    cpu = Pipeline(CpuNetwork(small_spec, [outputs]), Selection.of(small_spec, conf=0.3))
    found = json.loads((output / "predictions.json").read_text())
    ids = {image["file_name"]: image["id"] for image in found["images"]}
    expected = [
        result for path in sorted(pictures.iterdir()) for result in cpu(cv2.imread(str(path))).to_coco(ids[path.name])
    ]
    keys = ("image_id", "category_id", "bbox", "score", "segmentation")
    assert [{key: one[key] for key in keys} for one in found["annotations"]] == [
        {key: one[key] for key in keys} for one in expected
    ]
    assert len(expected) > 5 and gpu.opened == [("auto", 0)]


@pytest.mark.slow
@needs_compiler
def test_val_on_the_gpu_gives_the_ap_of_the_cpu(gpu, capsys):
    given = "val", "--model", released_onnx("fp32"), "--data", NUCLEI, "--json", *ONE_THREAD
    run(*given, "--device", "cpu")
    expected = last_json(capsys)
    run(*given, "--device", "cuda")
    assert last_json(capsys) == expected and expected["segm"]["AP"] > 0.1
    assert gpu.opened == [("auto", 0)]


@pytest.mark.slow
@needs_compiler
def test_two_models_are_compared_on_one_gpu_each_with_a_driver(gpu, capsys, clip):
    model = released_onnx("fp32")
    run("compare", model, model, "--source", clip, "--frames", 2, "--max-score-diff", 0, "--device", "cuda", "--json")
    found = last_json(capsys)
    assert found["ok"] and found["frames"] == 2 and len(gpu.opened) == 2


@pytest.mark.slow
@needs_compiler
def test_benchmark_times_the_whole_with_the_graph_and_the_stages_without(gpu, capsys, clip):
    model = released_onnx("fp32")
    run("benchmark", "--model", model, "--source", clip, "--warmup", 2, "--frames", 3, "--device", "cuda", "--json")
    found = last_json(capsys)
    stages = {stage["stage"]: stage["median_ms"] for stage in found["stages"]}
    assert list(stages) == ["preprocess", "network", "postprocess", "total"] and min(stages.values()) > 0
    assert found["frames"] == 3 and found["fps"] == pytest.approx(1e3 / stages["total"], abs=0.01)
    assert found["network"].endswith(
        "kernels compiled for the CPU, one CUDA graph per frame; stages are GPU times of a second pass without a graph"
    )
    assert len(gpu.opened) == 2


@needs_compiler
@pytest.mark.usefixtures("outputs")
def test_a_wrong_class_gives_back_what_was_opened(gpu, capsys, pictures, engine):
    with pytest.raises(SystemExit) as stopped:
        run("predict", "--model", engine, "--source", pictures, "--classes", "zebra")
    assert stopped.value.code == UsageError.exit_code and "zebra" in capsys.readouterr().err
    assert len(gpu.opened) == len(gpu.left) == 1


@pytest.mark.slow
@needs_compiler
def test_the_public_class_runs_on_the_gpu_that_was_asked_for(gpu, pictures):
    path = released_onnx("fp32")
    frames = [cv2.imread(str(file)) for file in sorted(pictures.iterdir())]
    with CenterMask(path, conf=0.05, threads=1) as cpu, CenterMask(path, device=1, conf=0.05) as cuda:
        for one, other in zip(cuda(frames), cpu(frames), strict=True):
            assert_same(one, other)
        for result, expected in zip(cuda(iter(frames)), cpu(frames), strict=True):
            assert_same(result.instances, expected)
    assert gpu.opened == [("auto", 1)]


@needs_compiler
@pytest.mark.parametrize("level", ["peaks", "heads"])
def test_the_host_sees_what_the_reference_finds_in_the_same_outputs(cpu_kernels, small_spec, level):
    spec = dataclasses.replace(small_spec, graph_level=level)
    sets = list(given_sets(spec, 3))
    driver = CountedDriver(CpuDriver())
    stream = driver.create_stream()
    network = GivenNetwork(driver, spec, sets)
    images = np.zeros((1, *spec.input_hw, 3), np.uint8)
    with as_network(driver, network, stream, kernels=cpu_kernels) as view:
        found = [view.run(images) for _ in sets]
        with pytest.raises(ModelError, match="takes images uint8"):
            view.run(images[:, :32])
    view.close()
    for outputs, arrays in zip(found, sets, strict=True):
        expected = peak_outputs(spec, arrays)
        for name in PEAKS_OUTPUTS:
            np.testing.assert_array_equal(getattr(outputs, name), getattr(expected, name), err_msg=name)
    driver.destroy_stream(stream)
    assert network.closed and not any(driver.live.values())
    driver.close()


@needs_compiler
def test_a_network_for_the_host_that_cannot_be_made_gives_everything_back(small_spec, cpu_kernels):
    driver = CountedDriver(CpuDriver())
    fill_memory_after(driver, 1)
    network = GivenNetwork(driver, small_spec, [])
    with pytest.raises(DriverError, match="out of memory"):
        as_network(driver, network, 0, kernels=cpu_kernels)
    assert network.closed and not any(driver.live.values())
    driver.close()


@without_gpu
@pytest.mark.parametrize("command", ["predict", "benchmark", "val", "compare"])
@pytest.mark.parametrize("kind", ["onnx", "engine"])
def test_without_a_gpu_a_command_ends_with_one_sentence(capsys, tmp_path, pictures, clip, engine, command, kind):
    model = tmp_path / "model.onnx" if kind == "onnx" else engine
    if kind == "onnx":
        model.write_bytes(b"it is not read")
    where = ("--data", NUCLEI) if command == "val" else ("--source", clip if command == "benchmark" else pictures)
    models = (model, model) if command == "compare" else ("--model", model)
    device = ("--device", "cuda") if kind == "onnx" else ()
    with pytest.raises(CenterMaskError) as known:
        open_driver()
    with pytest.raises(SystemExit) as stopped:
        run(command, *models, *where, *device)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error: ")]
    reason = str(known.value)
    if kind == "engine":
        reason = (
            f"{model} is an engine, which needs an NVIDIA GPU ({reason.removesuffix('.')}); without one, run the "
            ".onnx file that it was built from."
        )
    assert errors == [f"Error: {reason}"] and stopped.value.code == CenterMaskError.exit_code


@without_gpu
def test_weights_on_a_gpu_that_pytorch_does_not_see_are_refused(capsys, pictures):
    with pytest.raises(SystemExit) as stopped:
        run("predict", "--model", "nuclei_dla_46c", "--source", pictures, "--device", "cuda:3")
    assert stopped.value.code == UsageError.exit_code
    assert "Device cuda:3 was asked for, but PyTorch finds no GPU here" in capsys.readouterr().err
