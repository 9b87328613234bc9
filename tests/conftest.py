# SPDX-License-Identifier: Apache-2.0
"""One thread per worker, slow files first, and what several files share: real data, kernels, a small specification."""

from __future__ import annotations

import os

# Before PyTorch is loaded. One thread: sums come in another order on more, and each core has its worker.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # where a test asks for more, they sleep while they wait

# Before huggingface_hub is loaded. Trainings that name no weights would else start from what the hub or a cache has.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_CACHE"] = os.path.join(os.devnull, "hub")

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from centermask_runtime.cuda.counted_driver import CountedDriver
from centermask_runtime.cuda.facts import gpus
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.spec import ModelSpec
from tests.support.cuda_cpu.build import build, compiler
from tests.support.cuda_cpu.compare import Device
from tests.support.cuda_cpu.cpu_driver import CpuDriver
from tests.support.made_once import begin, made_once
from tests.support.places import ROOT
from tests.support.starting_weights import Folder

pytest.register_assert_rewrite("tests.support.given_networks")  # its asserts show both values, too


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs data or published weights; puts long files first, so that no worker ends long after the rest."""
    for item in items:
        if {"shared_data", "starting_weights"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.data)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (item.path.parent.name != "whole", -slow[item.path]))


@pytest.fixture(scope="session", autouse=True)
def run_folder(request, tmp_path_factory) -> None:
    """The folder of this run, which its workers share."""
    mine = tmp_path_factory.getbasetemp()
    begin(mine.parent if hasattr(request.config, "workerinput") else mine)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images and videos: CENTERMASK_DATASETS, else shared/data beside the checkout."""
    chosen = os.environ.get("CENTERMASK_DATASETS")
    folder = Path(chosen) if chosen else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs real data: {folder} is no folder; set CENTERMASK_DATASETS")
    return folder


@pytest.fixture(scope="session")
def starting_weights() -> Folder:
    """Published weights to compare with: CENTERMASK_STARTING_WEIGHTS, else shared/weights beside the checkout."""
    chosen = os.environ.get("CENTERMASK_STARTING_WEIGHTS")
    folder = Path(chosen) if chosen else ROOT.parent / "shared" / "weights"
    if not folder.is_dir():
        pytest.skip(f"needs published weights: {folder} is no folder; set CENTERMASK_STARTING_WEIGHTS")
    return Folder(folder)


@pytest.fixture(scope="session")
def cpu_kernels() -> bytes:
    """The CUDA kernels compiled for the CPU, for CpuDriver; CENTERMASK_CPU_KERNELS names a library instead."""
    chosen = os.environ.get("CENTERMASK_CPU_KERNELS")
    if chosen:
        return Path(chosen).read_bytes()
    if compiler() is None:
        pytest.skip("needs g++ to compile the CUDA kernels for the CPU")
    return (made_once("cpu_kernels", lambda folder: build(folder / "kernels.so")) / "kernels.so").read_bytes()


@pytest.fixture
def driver() -> Iterator[CountedDriver]:
    """CpuDriver with everything counted; in the end all of it must have been given back."""
    counted = CountedDriver(CpuDriver())
    yield counted
    live = counted.live
    counted.close()
    assert not any(live.values()), f"not given back: {live}"


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)] if gpus() else ["cpu"], scope="module")
def cuda_device(request) -> Iterator[Device]:
    """A driver and the kernels for it: the CPU build, and a GPU where there is one."""
    if request.param == "gpu" and not gpus():
        pytest.skip("needs an NVIDIA GPU and its driver; the kernels' CPU build is compared everywhere")
    if request.param == "cpu":
        cpu = CpuDriver()
        yield Device(cpu, request.getfixturevalue("cpu_kernels"))
        assert not cpu.allocated, "device memory was not given back"
        cpu.close()
    else:
        from centermask_runtime.cuda.bindings_driver import BindingsDriver
        from centermask_runtime.cuda.compile import kernel_image

        gpu = BindingsDriver()
        yield Device(gpu, kernel_image(gpu.compute_capability).code)
        gpu.close()


@pytest.fixture
def small_spec() -> ModelSpec:
    """Three classes, class-specific saliency, 64 x 96 input, K = 8, S = 8."""
    return ModelSpec(
        name="small",
        class_names=("cat", "dog", "kite"),
        category_ids=(17, 18, 38),
        input_hw=(64, 96),
        mean_bgr=(0.4, 0.45, 0.47),
        std_bgr=(0.29, 0.27, 0.28),
        shape_size=8,
        saliency_channels=3,
        max_detections=8,
        score_threshold=0.25,
        mask_threshold=0.3,
    )


@pytest.fixture
def small_outputs(small_spec: ModelSpec) -> PeakOutputs:
    """What a network of small_spec could give for two images: scores fall, boxes lie mostly inside."""
    spec = small_spec
    rng = np.random.default_rng(7)
    n, k, size = 2, spec.max_detections, spec.shape_size
    centres = rng.uniform(10, (86, 54), (n, k, 2))
    halves = rng.uniform(4, 24, (n, k, 2))
    return PeakOutputs(
        scores=-np.sort(-rng.uniform(0.05, 0.95, (n, k)).astype(np.float32), axis=1),
        labels=rng.integers(0, spec.num_classes, (n, k), dtype=np.int32),
        boxes=np.concatenate((centres - halves, centres + halves), axis=2).astype(np.float32),
        shapes=rng.normal(1, 2, (n, k, size, size)).astype(np.float32),
        saliency=rng.normal(1, 2, (n, spec.saliency_channels, *spec.grid_hw)).astype(np.float32),
    )
