# SPDX-License-Identifier: Apache-2.0
"""The door to all exports: what is given decides the way, and what cannot be exported is told why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from centermask_export import from_weights
from centermask_export.checks import Checks
from centermask_export.export import export
from centermask_export.options import ExportOptions
from centermask_runtime import packages
from centermask_runtime.errors import ModelError, UsageError
from tests.support.exported_models import RELEASED, SMALL, exporter_of, released_onnx, tiny_onnx


@pytest.mark.slow
def test_a_released_model_is_exported_into_the_folder_where_one_is(tmp_path, monkeypatch):
    monkeypatch.setattr(from_weights, "export_onnx", exporter_of("fp32"))
    monkeypatch.chdir(tmp_path)
    report = export(RELEASED, ExportOptions(imgsz=SMALL))
    assert report.written.output == Path(f"{RELEASED}_128x128.onnx") and report.written.output.is_file()
    assert report.outputs is not None and report.outputs.ok and report.artefact_ran


@pytest.mark.slow
def test_an_onnx_file_is_taken_as_it_is_and_its_artefact_lies_beside_it(tmp_path):
    source = tmp_path / "mine.onnx"
    shutil.copyfile(released_onnx("fp32"), source)
    report = export(source, ExportOptions("triton"))
    assert report.outputs is None and report.written.output == tmp_path / "mine_triton" / RELEASED
    with pytest.raises(UsageError, match=r"compare with weights, and .*mine\.onnx is exported already"):
        export(source, ExportOptions("triton"), checks=Checks(source=tmp_path))


@pytest.mark.slow
def test_what_else_is_exported_already_is_refused(tmp_path):
    (tmp_path / "m.xml").write_text("")
    with pytest.raises(ModelError, match=r"m\.xml is exported already: export the \.safetensors weights"):
        export(tmp_path / "m.xml", ExportOptions("triton"))
    with pytest.raises(ModelError, match="is exported already; the format onnx is made of"):
        export(tiny_onnx(), ExportOptions())


def test_a_package_that_is_missing_comes_with_its_command(tmp_path, monkeypatch):
    monkeypatch.setattr(packages, "is_installed", lambda module: module != "onnxscript")
    with pytest.raises(UsageError, match=r"onnxscript is needed for exporting: pip install 'centermask\[export\]'"):
        export(RELEASED, ExportOptions(), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []
