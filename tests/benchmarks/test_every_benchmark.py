# SPDX-License-Identifier: Apache-2.0
"""Benchmarks keep up with the code: each can be imported, and most are commands that tell what they measure."""

from __future__ import annotations

import importlib
import os
import sys

import click
import pytest
from click.testing import CliRunner

from tests.support.places import ROOT

OF_THE_SYSTEM = {"rtsp_server"}  # run by the system's Python, which has GStreamer
NAMES = sorted({path.stem for path in (ROOT / "benchmarks").glob("*.py")} - OF_THE_SYSTEM)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_can_be_imported_and_tells_what_it_does(name, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # some take one thread, for themselves alone
        monkeypatch.setenv(variable, os.environ.get(variable, "1"))
    module = importlib.import_module(f"benchmarks.{name}")
    assert module.__doc__ and len(module.__doc__) > 40
    if isinstance(command := getattr(module, "main", None), click.Command):
        shown = CliRunner().invoke(command, ["--help"])
        assert shown.exit_code == 0 and "--help" in shown.output
