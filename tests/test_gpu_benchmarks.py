# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmarks run on the CPU build, whose times mean nothing, and say in a sentence that there is no GPU."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from benchmarks import gpu_check, kernel_resources, stages
from centermask_runtime.cuda import kernels
from centermask_runtime.cuda.counted_driver import CountedDriver
from tests.cuda_cpu.compare import gpu_is_there
from tests.cuda_cpu.cpu_driver import CpuDriver
from tests.test_gpu_pipeline import UploadedNetwork, given_sets, random_frames

ROOT = Path(__file__).resolve().parents[1]
needs_no_gpu = pytest.mark.skipif(gpu_is_there(), reason="this machine has a GPU")


@pytest.fixture
def driver():
    counted = CountedDriver(CpuDriver())
    yield counted
    assert not any(counted.live.values())
    counted.close()


@pytest.mark.parametrize("level", ["peaks", "heads"])
def test_every_stage_is_timed_and_nothing_stays(driver, cpu_kernels, monkeypatch, level):
    monkeypatch.setattr(stages, "WARMUP", 1)
    monkeypatch.setattr(stages, "BOX", 20)
    names = tuple(f"class {number}" for number in range(3))
    spec = dataclasses.replace(
        stages.SPEC, graph_level=level, input_hw=(128, 128), class_names=names, category_ids=(0, 1, 2),
        saliency_channels=3, max_detections=8, shape_size=8,
    )  # fmt: skip
    times = stages.time_kernels(driver, cpu_kernels, spec, frame_hw=(180, 320), objects=5, rounds=2)
    own = ["top_peaks", "gather_heads"] if level == "heads" else []
    assert list(times) == ["letterbox", *own, "select", "masks", "postprocess", "postprocess, one graph"]
    assert all(0 < median <= high for median, high in times.values())


def test_a_model_is_timed_by_stages_and_as_whole_frames(driver, cpu_kernels, small_spec, monkeypatch):
    monkeypatch.setattr(stages, "WARMUP", 2)
    arrays = next(given_sets(small_spec, 1))
    times, graph = stages.time_model(
        driver, lambda stream: UploadedNetwork(driver, small_spec, arrays), random_frames(1), 3, cpu_kernels
    )
    assert list(times) == ["preprocess", "network", "postprocess", "whole frame", "a frame, two under way"]
    assert graph == "one CUDA graph a frame"


def test_the_verdict_compares_what_both_levels_have():
    times = {"peaks": {"postprocess": (0.2, 0.3)}, "heads": {"postprocess": (0.1, 0.3)}}
    assert stages.verdict(times) == (
        "Graph level 'heads' is faster: postprocess 0.1 ms against 0.2 ms "
        "(kernels alone: the network's own time is not in it)."
    )
    times["peaks"]["whole frame"], times["heads"]["whole frame"] = (1.0, 2.0), (1.5, 1.6)
    assert stages.verdict(times) == "Graph level 'peaks' is faster: whole frame 1.0 ms against 1.5 ms."
    assert stages.verdict({"peaks": {"whole frame": (1.0, 1.0)}}) == "Only one graph level was timed."


@needs_no_gpu
@pytest.mark.parametrize("script", ["stages.py", "gpu_check.py"])
def test_without_a_gpu_a_benchmark_says_so_and_fails(script, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / script)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == "" and list(tmp_path.iterdir()) == []
    assert done.stderr.startswith("Error: A GPU was asked for, but ") and done.stderr.count("\n") == 1


def test_a_report_counts_failures_errors_and_skips():
    root = ElementTree.fromstring(
        "<testsuites><testsuite><testcase classname='a' name='good'/>"
        "<testcase classname='a' name='bad'><failure message='1 == 2'/></testcase>"
        "<testcase classname='a' name='broken'><error message='no fixture'/></testcase>"
        "<testcase classname='a' name='later'><skipped message='needs pycuda'/></testcase></testsuite></testsuites>"
    )
    found = gpu_check.counts(root)
    assert (found.passed, found.failed, found.skipped) == (1, 2, 1)
    text = gpu_check.markdown({"cuda_driver": "x"}, found, {"error": "no model"})
    assert "1 passed, 2 failed, 1 skipped." in text and "FAILED a.bad" in text and "Failed: no model" in text
    benchmark = {"kernel_ms": {"peaks": {"masks": [0.1, 0.2]}}, "model_ms": {}, "verdict": "peaks."}
    assert "| kernels alone | peaks | masks | 0.1 | 0.2 |" in gpu_check.markdown(
        {}, found, json.loads(json.dumps(benchmark))
    )


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc of the CUDA toolkit")
def test_no_kernel_spills_registers():
    used = kernel_resources.resources()
    assert {one.kernel for one in used} >= {"find_peaks", "assemble_masks", "select_detections", "letterbox_bgr"}
    assert [one.kernel for one in used if one.spilled_bytes] == []
    assert all(0 < one.occupancy <= 1 and one.registers <= 255 for one in used)
    assert kernels.SOURCES


def test_occupancy_is_what_the_programming_guide_says():
    assert kernel_resources.occupancy(32, 0, 256) == 1.0  # 32 registers x 2048 threads fill the file exactly
    assert kernel_resources.occupancy(64, 0, 256) == 0.5
    assert kernel_resources.occupancy(16, 100 * 1024, 256) == 0.25  # two blocks of 101 KiB
