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
BINARY = {".png", ".jpg", ".mp4", ".onnx", ".safetensors"}


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
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])


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
