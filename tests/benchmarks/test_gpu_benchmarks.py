# SPDX-License-Identifier: Apache-2.0
"""The GPU benchmarks run on the CPU build, whose times mean nothing, and say in a sentence that there is no GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import click
import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks import gpu_check, kernel_resources, stages
from benchmarks.gpu_check import CaseCounts, Report, markdown
from centermask.cli import cli
from centermask_runtime.cuda import kernels, workspace
from centermask_runtime.cuda.compile import KernelImage
from centermask_runtime.cuda.facts import gpus
from centermask_runtime.errors import UsageError
from centermask_runtime.images import read_image
from centermask_runtime.pipeline.gpu import GpuPipeline
from tests.support.cuda_cpu.build import signatures
from tests.support.cuda_stub.build import WITHOUT_PYCUDA
from tests.support.given_networks import UploadedNetwork, given_sets, random_frames
from tests.support.places import ROOT
from tests.support.ptxas import ptxas_usage

needs_no_gpu = pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")


class SharedDriver:
    """A driver that whoever closes it leaves open for the fixture's last look."""

    def __init__(self, driver):
        self._driver = driver

    def __getattr__(self, name):
        return getattr(self._driver, name)

    def close(self):
        pass


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
    names = ["letterbox", *own, "select", "masks", "runs", "draw", "postprocess"]
    assert list(times) == [*names, *(f"{name}, one graph" for name in names)]
    assert all(0 < median <= high for median, high in times.values())


def test_a_model_is_timed_by_stages_and_as_whole_frames(driver, cpu_kernels, small_spec, monkeypatch):
    monkeypatch.setattr(stages, "WARMUP", 2)
    arrays = next(given_sets(small_spec, 1))
    timed = stages.time_model(
        driver, lambda stream: UploadedNetwork(driver, small_spec, arrays), random_frames(1), 3, cpu_kernels
    )
    assert list(timed.times) == ["preprocess", "network", "postprocess", "whole frame", "a frame, two under way"]
    with GpuPipeline(driver, UploadedNetwork(driver, small_spec, arrays), kernels=cpu_kernels) as pipeline:
        assert timed.objects == len(pipeline(random_frames(1)[0])) > 0
    assert (timed.graph, timed.network, timed.model) == ("one CUDA graph per frame", "uploaded", "small, 64 x 96")


def test_a_model_is_timed_on_a_picture_and_not_on_noise():
    frame, image = stages.sample_frame((1080, 1920)), read_image(stages.SAMPLE)
    height, width = image.shape[:2]
    assert frame.shape == (1080, 1920, 3) and frame.flags.c_contiguous
    np.testing.assert_array_equal(frame[:height, :width], image)
    np.testing.assert_array_equal(frame[height : 2 * height, 2 * width :], image[:, : 1920 - 2 * width])


def test_the_target_is_judged_by_the_graph_where_there_is_one():
    times = {
        "peaks": {"postprocess": (0.2, 0.3), "postprocess, one graph": (0.15, 0.3)},
        "heads": {"postprocess": (0.16, 0.2)},
    }
    assert stages.target_verdict(times, "an L4") == (
        "Postprocess within 0.15 ms on an H100, 100 objects at 1080p: met at level 'peaks' (postprocess, one graph: "
        "0.15 ms), missed at level 'heads' (postprocess: 0.16 ms); kernels alone, on an L4."
    )


def test_the_ratio_is_that_of_frames_one_at_a_time():
    times = {"whole frame": (20.0, 25.0), "a frame, two under way": (10.0, 10.0)}
    assert stages.speed(times) == {"fps": 50.0, "fps_two_under_way": 100.0, "ratio_to_reported": 1.98}


def test_the_verdict_compares_what_both_levels_have():
    times = {"peaks": {"postprocess": (0.2, 0.3)}, "heads": {"postprocess": (0.1, 0.3)}}
    assert stages.verdict(times) == (
        "Graph level 'heads' is faster: postprocess 0.1 ms against 0.2 ms "
        "(kernels alone: the network's own time is not in it)."
    )
    times["peaks"]["whole frame"], times["heads"]["whole frame"] = (1.0, 2.0), (1.5, 1.6)
    assert stages.verdict(times) == "Graph level 'peaks' is faster: whole frame 1.0 ms against 1.5 ms."
    assert stages.verdict({"peaks": {"whole frame": (1.0, 1.0)}}) == "Only one graph level was timed."


@pytest.mark.process
@needs_no_gpu
@pytest.mark.parametrize("script", ["stages.py", "gpu_check.py"])
def test_without_a_gpu_a_benchmark_says_so_and_fails(script, tmp_path):
    path = str(ROOT / "benchmarks" / script)
    run = f"import runpy; sys.argv = [{path!r}]; runpy.run_path({path!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYCUDA + run], cwd=tmp_path, capture_output=True, text=True)
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
    report = Report({"cuda_driver": "x"}, found)
    text = markdown(report)
    assert "1 passed, 2 failed, 1 skipped." in text and "- test a.bad: 1 == 2" in text
    assert "- test a.later: needs pycuda" in text and "No network was timed." in text and "Not timed." in text


def test_all_passed_is_said_only_where_nothing_was_left_out():
    passed, skipped = CaseCounts(3, 0, 0, (), ()), CaseCounts(3, 0, 1, (), ("a: needs pycuda",))
    assert Report({}, passed).headline == "All passed"
    assert Report({}, skipped).headline == "What ran passed, but 1 not run"
    assert Report({}, passed, left_out=["networks on TensorRT: not installed"]).headline.endswith("but 1 not run")
    assert Report({}, skipped, failed=["times of kernels alone: no memory"]).headline == "FAILED: 1, and 1 not run"
    assert Report({}, CaseCounts(0, 0, 0, (), ())).headline == "FAILED: 1"


def test_the_report_has_fps_ratio_caveat_and_target(driver, cpu_kernels, small_spec, monkeypatch, tmp_path):
    """What stages.py prints, on the CPU build, is what the report reads."""
    monkeypatch.setattr(stages, "WARMUP", 2)
    monkeypatch.setattr(stages, "time_kernels", lambda *arguments, **options: {"postprocess": (0.1, 0.2)})
    monkeypatch.setattr(stages, "open_driver", lambda *arguments: SharedDriver(driver))
    monkeypatch.setattr(stages, "kernel_image", lambda capability: KernelImage(cpu_kernels, "CPU build"))
    monkeypatch.setattr(workspace, "kernel_image", lambda capability: KernelImage(cpu_kernels, "CPU build"))
    arrays = next(given_sets(small_spec, 1))
    monkeypatch.setattr(
        stages, "open_gpu_network", lambda path, driver, stream, device: UploadedNetwork(driver, small_spec, arrays)
    )
    done = CliRunner().invoke(stages.main, ["--json", "--rounds", "2", "--peaks", "x.onnx"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    report = Report({}, CaseCounts(1, 0, 0, (), ()), {"kernels alone": {**found, "models": {}}, "ONNX Runtime": found})
    text, (one,) = markdown(report), found["models"].values()
    assert one["objects_found"] > 0
    row = f"| ONNX Runtime | peaks | {one['fps']} | {one['fps_two_under_way']} | {one['ratio_to_reported']} |"
    assert row in text and "over the 25.2 FPS" in text and "a GPU we could not establish" in text
    assert "Postprocess within 0.15 ms on an H100, 100 objects at 1080p: met at level 'peaks'" in text
    assert "| kernels alone | heads | postprocess | 0.1 | 0.2 |" in text
    assert "| ONNX Runtime | peaks | whole frame |" in text and "include the host's gaps" in text


@pytest.mark.parametrize(
    ("device", "visible", "expected"), [(1, None, "1"), (0, "3", "3"), (1, "2, 5", "5"), (0, "GPU-8a,GPU-9b", "GPU-8a")]
)
def test_tests_and_facts_see_only_the_chosen_gpu(device, visible, expected):
    given = {"HOME": "/x"} | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    environment = gpu_check.environment_of(device, given)
    assert environment["CUDA_VISIBLE_DEVICES"] == expected
    assert environment["HOME"] == "/x"


@pytest.mark.parametrize("format_", ["onnx", "trt", "trt-rtx"])
def test_the_export_command_takes_what_it_is_given(format_, tmp_path):
    command, *arguments = gpu_check.export_arguments("m", format_, "heads", tmp_path / "m.engine")
    parsed = cli.get_command(click.Context(cli), command).make_context(command, arguments).params
    assert (parsed["format_"], parsed["output"], parsed["model"]) == (format_, tmp_path / "m.engine", "m")
    assert parsed["graph"] == ("heads" if format_ == "onnx" else "peaks")


def test_what_cannot_be_exported_or_timed_is_in_the_report(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check, "MODEL", str(tmp_path / "gone.safetensors"))
    monkeypatch.setattr(gpu_check.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    monkeypatch.setattr(gpu_check, "ENGINES", (("TensorRT", "no_such_package", "trt"),))
    facts = {"onnxruntime_cuda": "not in this onnxruntime", "no_such_package": "not installed"}
    report = Report(facts, CaseCounts(1, 0, 0, (), ()))
    assert gpu_check.export_networks(tmp_path, gpu_check.environment_of(0, os.environ), report) == {}
    assert len(report.failed) == 2 and all("gone.safetensors" in one for one in report.failed), report.failed
    assert report.left_out == [
        "networks on ONNX Runtime: not in this onnxruntime",
        "networks on TensorRT: not installed",
    ]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc of the CUDA toolkit")
def test_the_table_of_resources_has_every_kernel_and_what_ptxas_says_of_it():
    blocks = re.split(r"(?=ptxas info *: Compiling entry function)", ptxas_usage())
    used = kernel_resources.resources_of("".join(block for block in blocks if "for 'sm_90'" in block))
    declared = {name for source in kernels.SOURCES for name in signatures((kernels.FOLDER / source).read_text())}
    assert {one.kernel for one in used} == declared and len(used) == len(declared)
    for one in used:
        (block,) = (block for block in blocks if f"'{one.kernel}' for 'sm_90'" in block)
        assert f"Used {one.registers} registers" in block
        assert 0 < one.occupancy <= 1


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc of the CUDA toolkit")
def test_an_architecture_that_nvcc_does_not_know_is_one_sentence():
    with pytest.raises(UsageError, match=r"^nvcc cannot compile the kernels for sm_1: nvcc fatal .*sm_1"):
        kernel_resources.resources("sm_1")


def test_occupancy_is_what_the_programming_guide_says():
    assert kernel_resources.occupancy(32, 0, 256) == 1.0  # 32 registers x 2048 threads fill the file exactly
    assert kernel_resources.occupancy(64, 0, 256) == 0.5
    assert kernel_resources.occupancy(16, 100 * 1024, 256) == 0.25  # two blocks of 101 KiB
