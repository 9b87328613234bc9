# SPDX-License-Identifier: Apache-2.0
"""The table of formats: all that is known of a format, once; a new one is a writer and a row."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from centermask.cli import main
from centermask.model.weights import save_weights
from centermask_export import from_weights
from centermask_export.checks import CheckError
from centermask_export.formats import FORMATS, Format
from centermask_export.from_onnx import convert_onnx
from centermask_export.from_weights import export_model
from centermask_export.onnx_file import read_spec
from centermask_export.options import PRECISIONS, ExportOptions
from centermask_export.request import Request, Written
from centermask_export.to_deepstream import NETWORK_MODES
from centermask_runtime.errors import UsageError
from centermask_runtime.spec import GRAPH_LEVELS
from tests.support.exported_models import CONFIG, quick_export, tiny_model, tiny_onnx, tiny_spec
from tests.support.places import ROOT
from tests.support.processes import environment

# ---- the rows -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_holds_together(name):
    kind = FORMATS[name]
    assert kind.name == name and set(kind.precisions) <= set(PRECISIONS) and set(kind.graphs) <= set(GRAPH_LEVELS)
    assert set(kind.dynamic) <= {"batch", "imgsz"} and set(kind.rounds) < set(kind.precisions)
    assert not (kind.engine and kind.backends), "it is an engine, or it serves one"
    fields = set(ExportOptions.__dataclass_fields__)
    for engine in filter(None, (kind.engine, *kind.backends.values())):
        assert set(engine.options) <= fields


def test_names_of_artefacts_end_apart():
    endings = [kind.ending for kind in FORMATS.values()]
    assert len(set(endings)) == len(endings)


@pytest.mark.parametrize("name", FORMATS)
def test_the_next_step_names_the_artefact(name):
    step = FORMATS[name].next_step(Path("my models/x"), ExportOptions(name))
    assert "'my models" in step and "{" not in step


def test_the_next_step_of_what_no_processor_runs_leads_elsewhere():
    heads, bf16 = ExportOptions(graph="heads"), ExportOptions(precision="bf16")
    assert "--device cuda" in FORMATS["onnx"].next_step(Path("x.onnx"), heads)
    assert FORMATS["onnx"].next_step(Path("x.onnx"), bf16) == "centermask export --model x.onnx --format trt-rtx"


def test_deepstream_has_a_mode_for_each_of_its_precisions():
    assert set(NETWORK_MODES) == set(FORMATS["deepstream"].precisions)


@pytest.mark.process
def test_looking_at_the_table_loads_none_of_the_libraries():
    heavy = {"torch", "onnx", "onnxruntime", "openvino", "tensorrt_rtx", "cv2"}
    program = "import json, sys, centermask_export.refusals; print(json.dumps([*sys.modules]))"
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), capture_output=True, text=True, check=True
    )
    assert heavy & set(json.loads(done.stdout)) == set()


def test_the_table_in_the_documentation_is_this_table():
    """Where this fails, the assertion shows the lines to put into docs/export.md."""

    def line(kind: Format) -> str:
        precisions, graphs = " ".join(kind.precisions), " ".join(kind.graphs)
        return f"| `{kind.name}` | {kind.files} | {precisions} | {graphs} | {' '.join(kind.dynamic)} | {shown(kind)} |"

    def shown(kind: Format) -> str:
        return kind.compared or "its ONNX file"

    page = (ROOT / "docs" / "export.md").read_text().splitlines()
    first = next(number for number, text in enumerate(page) if text.startswith("| `--format`"))
    expected = [line(kind) for kind in FORMATS.values()]
    assert page[first + 2 : first + 2 + len(expected) + 1] == [*expected, ""]


# ---- a new one ------------------------------------------------------------------------------------------------------


def write_toy(request: Request) -> Written:
    """What a new module would hold."""
    spec = read_spec(request.source)
    request.output.write_text(f"{spec.name} {request.spec.input_hw} {request.options.precision}")
    return Written(request.output, request.options.precision)


TOY = Format(
    name="toy",
    ending=".toy",
    files=".toy",
    runs_on="toys",
    write=write_toy,
    next="play {output}",
    precisions=("fp32", "fp16"),
    rounds=("fp16",),
)


@pytest.fixture
def toy(monkeypatch):
    """The row."""
    monkeypatch.setitem(FORMATS, TOY.name, TOY)
    monkeypatch.setattr(from_weights, "export_onnx", quick_export)


@pytest.fixture
def weights(tmp_path):
    save_weights(tmp_path / "tiny.safetensors", tiny_model().state_dict(), tiny_spec(), CONFIG)
    return tmp_path / "tiny.safetensors"


@pytest.mark.slow
def test_a_new_format_is_written_of_weights(toy, weights, tmp_path):
    report = export_model(weights, tmp_path, options=ExportOptions("toy", "fp16"))
    assert report.written.output == tmp_path / "tiny_fp16.toy" and report.written.precision == "fp16"
    assert report.written.output.read_text() == "tiny (96, 128) fp16"
    assert report.outputs.ok and not report.artefact_ran  # its ONNX file was compared
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.safetensors", "tiny_fp16.toy"]


@pytest.mark.slow
def test_a_new_format_is_written_of_an_onnx_file(toy, tmp_path):
    written = convert_onnx(tiny_onnx(), tmp_path, None, ExportOptions("toy")).written
    assert written.output.read_text() == "tiny (96, 128) fp32" and written.output.name == "tiny.toy"


@pytest.mark.slow
def test_a_new_format_refuses_what_its_row_lacks(toy, tmp_path):
    for wish, words in (
        (
            {"precision": "int8", "calib_data": tmp_path},
            "The format toy cannot have precision int8; it takes fp32, fp16",
        ),
        ({"graph": "heads"}, "which has peaks; leave it out, or choose onnx, trt, trt-rtx"),
        ({"dynamic": True}, "whose graph has one batch"),
        ({"targets": ("sm86",)}, "targets is for the format trt-rtx, not toy"),
    ):
        with pytest.raises(UsageError, match=words):
            convert_onnx(tiny_onnx(), tmp_path, None, ExportOptions("toy", **wish))


@pytest.mark.slow
def test_the_commands_know_a_new_format(toy, weights, tmp_path, capsys):
    main(["formats", "--json"])
    listed = {entry["format"]: entry for entry in json.loads(capsys.readouterr().out)["formats"]}
    assert listed["toy"]["runs_on"] == "toys" and listed["toy"]["precisions"] == ["fp32", "fp16"]
    found = importlib.util.find_spec("centermask.cli.export")
    assert found is not None and found.loader is not None
    command = importlib.util.module_from_spec(found)  # a fresh one: choices are made when it is imported
    found.loader.exec_module(command)
    command.export.main(["--model", str(weights), "--format", "toy", "--half"], standalone_mode=False)
    assert capsys.readouterr().out.splitlines()[-1] == f"Next: play {tmp_path / 'tiny_fp16.toy'}"


@pytest.mark.slow
def test_a_new_format_that_runs_here_is_published_only_if_it_agrees(toy, weights, tmp_path, monkeypatch):
    def write_wrong(request: Request) -> Written:
        """A graph, but of other numbers than the weights have: 0.05 more in each shape."""
        import numpy as np
        import onnx

        graph = onnx.load(request.source)
        bias = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("shape.2.bias"))
        more = onnx.numpy_helper.to_array(bias) + np.float32(0.05)
        bias.CopyFrom(onnx.numpy_helper.from_array(more, bias.name))
        onnx.save(graph, request.output)
        return Written(request.output, "fp32")

    wrong = Format("wrong", "_wrong.onnx", ".onnx", "ONNX Runtime", write_wrong, "", compared="ONNX Runtime")
    monkeypatch.setitem(FORMATS, wrong.name, wrong)
    (tmp_path / "tiny_wrong.onnx").write_text("the older good one")
    with pytest.raises(CheckError, match=r"tiny_wrong\.onnx does not give .* shapes by 0\.05"):
        export_model(weights, tmp_path, options=ExportOptions("wrong"))
    assert (tmp_path / "tiny_wrong.onnx").read_text() == "the older good one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.safetensors", "tiny_wrong.onnx"]
