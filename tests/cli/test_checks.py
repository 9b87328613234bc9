# SPDX-License-Identifier: Apache-2.0
"""`centermask checks` knows the extras of pyproject.toml and says what is missing of them."""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib

import pytest

from centermask.cli import main
from centermask.cli.checks import PACKAGES
from centermask_runtime.cuda.facts import gpus
from tests.support.places import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_it_lists_the_packages_of_every_extra_that_users_install():
    declared = {"base": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}
    del declared["dev"]
    names = {extra: {re.match(r"[\w-]+", line)[0] for line in lines} for extra, lines in declared.items()}
    assert {extra: set(packages) for extra, packages in PACKAGES.items()} == names


def test_json_has_the_versions_that_are_installed(capsys):
    main(["checks", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["packages"]["base"]["numpy"] == importlib.metadata.version("numpy") == facts["numpy"]
    assert facts["packages"]["train"]["torch"] == importlib.metadata.version("torch")


def test_what_is_missing_comes_with_the_command_that_installs_it(capsys, monkeypatch):
    def version(package: str) -> str:
        if package == "openvino":
            raise importlib.metadata.PackageNotFoundError(package)
        return "9.9"

    monkeypatch.setattr(importlib.metadata, "version", version)
    monkeypatch.setenv("COLUMNS", "200")
    main(["checks"])
    rows = {line.split("│")[1].strip(): line for line in capsys.readouterr().out.splitlines() if line.count("│") == 4}
    assert "missing: openvino; pip install 'centermask[openvino]'" in rows["openvino"]
    assert "ready" in rows["export"] and "onnx 9.9" in rows["export"]


@pytest.mark.skipif(bool(gpus()), reason="this machine has a GPU")
def test_without_a_gpu_nothing_is_said_as_if_one_had_been_asked_for(capsys):
    main(["checks", "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts["gpu"] == "none" and facts["cuda_driver"].startswith("no GPU to drive")
    assert "asked for" not in json.dumps(facts)


def test_the_tables_fit_a_terminal_of_80_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["checks"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80
