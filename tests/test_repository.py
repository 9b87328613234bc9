# SPDX-License-Identifier: Apache-2.0
"""What holds for the repository as a whole: licences, sizes, names, data that ships with it."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import tomllib
from pathlib import Path

import av
import cv2
import pytest
import yaml
from pycocotools import mask as coco_mask

import centermask
from centermask.config import load_config
from centermask_runtime.checksum import sha256_of
from tests.support.places import NUCLEI, ROOT

PACKAGES = ("centermask", "export/centermask_export", "runtime/centermask_runtime")
FOLDERS = {
    "centermask": "tests",
    "export/centermask_export": "tests/export",
    "runtime/centermask_runtime": "tests/runtime",
}
# Modules that have no test file of their name, and the file that tests them.
TESTED_IN = {
    "centermask/__init__.py": "tests/test_api.py",
    "centermask/version.py": "tests/test_repository.py",
    "centermask/cli/__init__.py": "tests/cli/test_group.py",
    "centermask/cli/benchmark.py": "tests/cli/test_cli.py",
    "centermask/cli/commands.py": "tests/cli/test_group.py",
    "centermask/cli/options.py": "tests/cli/test_suggestions.py",
    "centermask/cli/source_options.py": "tests/cli/test_predict.py",
    "centermask/cli/tables.py": "tests/cli/test_cli.py",
    "centermask/cli/train.py": "tests/cli/test_cli.py",
    "centermask/cli/val.py": "tests/cli/test_cli.py",
    "centermask/data/doctor/entries.py": "tests/data/doctor/test_findings.py",
    "centermask/evaluation/figure.py": "tests/evaluation/test_report.py",
    "centermask/evaluation/plots.py": "tests/evaluation/test_report.py",
    "centermask/model/checkpoint_layouts.py": "tests/model/test_pretrained.py",
    "centermask/model/cost.py": "tests/cli/test_model.py",
    "centermask/model/dla.py": "tests/model/test_network.py",
    "centermask/model/heads.py": "tests/model/test_network.py",
    "centermask/model/movenet.py": "tests/model/test_mobilenet_v2_fpn.py",
    "centermask/training/__init__.py": "tests/test_api.py",
    "centermask/training/callbacks.py": "tests/training/test_options.py",
    "centermask/training/checkpoint.py": "tests/whole/test_crash_safety.py",
    "centermask/training/coordination.py": "tests/training/test_distributed.py",
    "centermask/training/learner.py": "tests/training/test_trainer.py",
    "centermask/training/recorder.py": "tests/training/test_trainer.py",
    "centermask/training/state.py": "tests/training/test_trainer.py",
    "centermask/training/step_source.py": "tests/training/test_trainer.py",
    "centermask/training/validation.py": "tests/training/test_distributed.py",
    "export/centermask_export/batches.py": "tests/export/test_to_int8.py",
    "export/centermask_export/checks/__init__.py": "tests/export/checks/test_outputs.py",
    "export/centermask_export/checks/against_weights.py": "tests/export/test_from_weights.py",
    "export/centermask_export/checks/comparison.py": "tests/export/test_from_onnx.py",
    "export/centermask_export/checks/fixed_batch.py": "tests/cli/test_export.py",
    "export/centermask_export/engines/engine_file.py": "tests/export/engines/test_to_tensorrt.py",
    "export/centermask_export/request.py": "tests/export/test_formats.py",
    "export/centermask_export/to_openvino.py": "tests/runtime/networks/test_openvino_runtime.py",
    "export/centermask_export/to_torchscript.py": "tests/model/test_torchscript_network.py",
    "runtime/centermask_runtime/__init__.py": "tests/runtime/test_imports.py",
    "runtime/centermask_runtime/arguments.py": "tests/runtime/test_instances.py",
    "runtime/centermask_runtime/cuda/bindings_driver.py": "tests/runtime/cuda/test_driver.py",
    "runtime/centermask_runtime/cuda/buffers.py": "tests/runtime/cuda/test_stages.py",
    "runtime/centermask_runtime/cuda/counted_driver.py": "tests/runtime/pipeline/test_slots.py",
    "runtime/centermask_runtime/cuda/fatbin.py": "tests/runtime/cuda/test_compile.py",
    "runtime/centermask_runtime/cuda/frame_slot.py": "tests/runtime/pipeline/test_slots.py",
    "runtime/centermask_runtime/cuda/kernels/__init__.py": "tests/runtime/cuda/test_compile.py",
    "runtime/centermask_runtime/cuda/layouts.py": "tests/runtime/cuda/test_stages.py",
    "runtime/centermask_runtime/cuda/memory.py": "tests/runtime/cuda/test_workspace.py",
    "runtime/centermask_runtime/cuda/results.py": "tests/runtime/cuda/test_cuda_masks.py",
    "runtime/centermask_runtime/feed.py": "tests/runtime/test_predict.py",
    "runtime/centermask_runtime/image_decoding.py": "tests/runtime/test_images.py",
    "runtime/centermask_runtime/image_kinds.py": "tests/runtime/test_images.py",
    "runtime/centermask_runtime/networks/engine_record.py": "tests/runtime/networks/test_gpu_network.py",
    "runtime/centermask_runtime/networks/network.py": "tests/runtime/networks/test_onnx_runtime.py",
    "runtime/centermask_runtime/networks/onnx_runtime_gpu.py": "tests/runtime/networks/test_gpu_network.py",
    "runtime/centermask_runtime/networks/opening.py": "tests/test_opening.py",
    "runtime/centermask_runtime/networks/tensorrt_engine.py": "tests/runtime/networks/test_gpu_network.py",
    "runtime/centermask_runtime/per_process.py": "tests/runtime/test_model.py",
    "runtime/centermask_runtime/pipeline/frame.py": "tests/runtime/pipeline/test_cpu.py",
    "runtime/centermask_runtime/pipeline/gpu_work.py": "tests/runtime/pipeline/test_gpu.py",
    "runtime/centermask_runtime/pipeline/opening.py": "tests/test_opening.py",
    "runtime/centermask_runtime/pil_images.py": "tests/runtime/test_images.py",
    "runtime/centermask_runtime/progress.py": "tests/evaluation/test_evaluate.py",
    "runtime/centermask_runtime/sources/connections.py": "tests/runtime/sources/test_streams.py",
    "runtime/centermask_runtime/sources/decoding.py": "tests/runtime/sources/test_video.py",
    "runtime/centermask_runtime/sources/live.py": "tests/runtime/sources/test_streams.py",
    "runtime/centermask_runtime/sources/options.py": "tests/runtime/sources/test_video.py",
    "runtime/centermask_runtime/sources/parts.py": "tests/runtime/sources/test_opening.py",
    "runtime/centermask_runtime/sources/sequence.py": "tests/runtime/sources/test_listing.py",
    "runtime/centermask_runtime/sinks/live_page.py": "tests/runtime/sinks/test_live_view.py",
    "runtime/centermask_runtime/tracking/by_source.py": "tests/runtime/tracking/test_tracker.py",
    "runtime/centermask_runtime/sources/source.py": "tests/runtime/sources/test_arrays.py",
}
BINARY = {".heic", ".png", ".jpg", ".mp4", ".onnx", ".safetensors"}


def project_files() -> list[Path]:
    """Files that git tracks or would add; everything but caches where this is no git checkout (an sdist)."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [ROOT / name for name in sorted(set(listed.stdout.split("\0"))) if name and (ROOT / name).is_file()]
    parts = (*PACKAGES, "benchmarks", "configs", "docs", "samples", "tests")
    return [path for part in parts for path in sorted((ROOT / part).rglob("*")) if path.is_file()]


FILES = project_files()
PYTHON_FILES = [path for path in FILES if path.suffix == ".py"]


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_licence_is_apache_2_word_for_word_and_the_package_says_so() -> None:
    published = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # at apache.org/licenses
    assert sha256_of(ROOT / "LICENSE") == published
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE", "NOTICE"])


def test_every_python_file_begins_with_its_licence() -> None:
    mark = "# SPDX-License-Identifier: Apache-2.0"
    assert PYTHON_FILES
    assert [short(path) for path in PYTHON_FILES if mark not in path.read_text().splitlines()[:2]] == []


def test_no_module_is_longer_than_a_sitting() -> None:
    packages = tuple(ROOT / package for package in PACKAGES)
    sizes = {
        short(path): len(path.read_text().splitlines())
        for path in PYTHON_FILES
        if any(path.is_relative_to(package) for package in packages)
    }
    assert len(sizes) > 10
    assert {name: lines for name, lines in sizes.items() if lines > 350} == {}


def test_a_module_is_tested_in_the_file_of_its_name_or_in_the_one_that_the_list_names() -> None:
    """Of centermask/data/loader.py that is tests/data/test_loader.py; an __init__.py counts if it defines any."""
    own, others = set(), set()
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            defines = any(line.startswith(("def ", "class ")) for line in path.read_text().splitlines())
            if path.name == "__main__.py" or (path.name == "__init__.py" and not defines):
                continue
            test = ROOT / folder / path.relative_to(ROOT / package).with_name(f"test_{path.name}")
            (own if test.is_file() else others).add(short(path))
    assert sorted(others - set(TESTED_IN)) == [], "have neither a test file of their name nor a place in TESTED_IN"
    assert sorted(set(TESTED_IN) - others) == [], "stand in TESTED_IN, but are gone or have a test file of their name"
    assert sorted(test for test in set(TESTED_IN.values()) if not (ROOT / test).is_file()) == []
    assert len(own) > len(others)


def test_no_file_names_a_place_on_one_machine() -> None:
    places = re.compile(r"/(work|home|root|Users)/|bash[_]jobs")
    found = [
        f"{short(path)}:{number}: {line.strip()}"
        for path in FILES
        if path.suffix not in BINARY
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if places.search(line)
    ]
    assert found == []


def test_no_module_has_the_name_of_a_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = [*project["dependencies"], *(n for extra in project["optional-dependencies"].values() for n in extra)]
    names = {re.split(r"[\[<>=]", need)[0].lower().replace("-", "_") for need in needed} - {"centermask"}
    names |= {"cv2", "yaml", "lightning"}
    modules = [path for path in PYTHON_FILES if not path.is_relative_to(ROOT / "tests")]
    assert [short(path) for path in modules if path.stem in names] == []


@pytest.mark.parametrize("package", [Path(package).name for package in PACKAGES])
def test_package_can_be_imported(package: str) -> None:
    assert importlib.import_module(package).__name__ == package


def test_version_is_the_one_of_the_changelog() -> None:
    latest = re.search(r"^## ([\d.]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert latest is not None and latest.group(1) == centermask.__version__


def test_every_direct_dependency_is_pinned_for_ci() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    needed = [*project["dependencies"], *(n for extra in project["optional-dependencies"].values() for n in extra)]
    names = {re.split(r"[\[<>=]", need)[0].lower() for need in needed} - {"centermask"}
    assert names - pinned == set()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_config_is_complete_and_named_after_its_file(path: Path) -> None:
    config = load_config(path)
    assert config.name and yaml.safe_load(path.read_text())
    assert config.name.replace("-", "_") == path.stem.replace("-", "_")


@pytest.mark.parametrize("split", ["train", "val"])
def test_sample_data_set_is_whole(split: str) -> None:
    data = json.loads((NUCLEI / "annotations" / f"instances_{split}.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    assert sorted(i["file_name"] for i in data["images"]) == sorted(p.name for p in (NUCLEI / split).iterdir())
    for image in data["images"]:
        pixels = cv2.imread(str(NUCLEI / split / image["file_name"]))
        assert pixels is not None and pixels.shape[:2] == sizes[image["id"]]
    assert {a["image_id"] for a in data["annotations"]} == set(sizes)
    for annotation in data["annotations"]:
        segmentation = annotation["segmentation"]
        assert tuple(segmentation["size"]) == sizes[annotation["image_id"]]
        assert int(coco_mask.area(segmentation)) == annotation["area"] > 0
        assert coco_mask.toBbox(segmentation).tolist() == annotation["bbox"]


def test_sample_images_and_video_can_be_read() -> None:
    images = sorted((ROOT / "samples" / "images").glob("*.png"))
    assert len(images) == 4
    assert all(cv2.imread(str(path)) is not None for path in images)
    with av.open(str(ROOT / "samples" / "nuclei_scan.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.pix_fmt == "yuv420p"
        assert sum(1 for _ in container.decode(stream)) == 300


def test_architecture_page_names_only_files_that_exist() -> None:
    named = set(re.findall(r"[\w/]+\.py\b", (ROOT / "docs" / "architecture.md").read_text()))
    paths = [f"/{short(path)}" for path in FILES]
    assert len(named) > 20
    assert [name for name in sorted(named) if not any(path.endswith(f"/{name}") for path in paths)] == []
