# SPDX-License-Identifier: Apache-2.0
"""`centermask formats` says of every format what export says, and of this machine what is true."""

from __future__ import annotations

import ctypes.util
import importlib.metadata
import json
import tomllib

import pytest

from centermask.cli import main
from centermask_export.formats import FORMATS
from tests.support.places import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def output(capsys, *arguments) -> str:
    main(["formats", *arguments])
    return str(capsys.readouterr().out)


@pytest.fixture
def listed(capsys):
    return {entry["format"]: entry for entry in json.loads(output(capsys, "--json"))["formats"]}


def test_it_lists_the_table(listed):
    assert list(listed) == list(FORMATS)
    for name, kind in FORMATS.items():
        for field in ("precisions", "graphs", "dynamic", "packages"):
            assert tuple(listed[name][field]) == getattr(kind, field)
        assert (listed[name]["needs_gpu"], listed[name]["runs_on"]) == (kind.needs_gpu, kind.runs_on)


def test_versions_are_those_that_are_installed(listed):
    for entry in listed.values():
        for package, version in entry["installed"].items():
            if version is None:
                with pytest.raises(importlib.metadata.PackageNotFoundError):
                    importlib.metadata.version(package)
            else:
                assert importlib.metadata.version(package) == version
        assert entry["ready"] == (entry["missing"] is None)
        assert entry["ready"] <= (None not in entry["installed"].values())


def test_a_machine_without_a_gpu_cannot_write_tensorrt_engines(listed):
    if ctypes.util.find_library("cuda"):
        pytest.skip("this machine has an NVIDIA driver")
    assert not listed["trt"]["ready"] and "NVIDIA GPU" in listed["trt"]["missing"]
    assert listed["trt-rtx"]["missing"] is None or "GPU" not in listed["trt-rtx"]["missing"]


@pytest.mark.parametrize("name", FORMATS)
def test_the_extras_install_the_packages(name):
    needs = [need for extra in FORMATS[name].extra.split(",") for need in EXTRAS[extra]]
    offered = {need.partition(">")[0] for need in needs}
    assert {package.replace("_", "-") for package in FORMATS[name].packages} <= offered


def test_what_is_missing_comes_with_the_command(capsys, monkeypatch):
    def version(package):
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(importlib.metadata, "version", version)
    found = {entry["format"]: entry for entry in json.loads(output(capsys, "--json"))["formats"]}
    assert found["openvino"]["missing"].endswith("openvino (pip install 'centermask[export,openvino]')")
    monkeypatch.setenv("COLUMNS", "200")
    assert "pip install 'centermask[export,openvino]'" in output(capsys)  # brackets are not taken for markup


def test_the_table_fits_a_terminal_of_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    lines = output(capsys).splitlines()
    assert max(map(len, lines[:-1])) <= 80 and not any("…" in line for line in lines)
    assert all(any(line.startswith(f"│ {name} ") for line in lines) for name in FORMATS)
