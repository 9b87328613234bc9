# SPDX-License-Identifier: Apache-2.0
"""Names that say what a file is, and places that nothing half-made reaches."""

from __future__ import annotations

from pathlib import Path

import pytest

from centermask_export.formats import FORMATS
from centermask_export.options import ExportOptions
from centermask_export.output import Target, data_file, publish, whole_folder, workshop
from centermask_runtime.errors import ExportError, UsageError


def name(stem="nuclei", precision=None, of_artefact=False, **wishes) -> str:
    options = ExportOptions(**wishes)
    target = Target(Path("folder"), stem, FORMATS[options.format].ending, of_artefact=of_artefact)
    path = target.path(options, precision)
    assert path.parent == Path("folder")
    return path.name


def test_names_say_what_is_in_a_file():
    assert name() == "nuclei.onnx"
    assert name(precision="fp16", graph="heads") == "nuclei_fp16_heads.onnx"
    assert name(format="trt-rtx") == "nuclei_rtx.engine"
    assert name(format="triton") == "nuclei_triton"


def test_an_engine_is_named_by_the_precision_it_was_built_in():
    options = ExportOptions(format="trt", precision="fp16")
    assert Target(Path(), "nuclei", ".engine").path(options, "int8") == Path("nuclei_int8.engine")


def test_no_two_graphs_have_one_name():
    wishes = (
        {}, {"precision": "fp16"}, {"graph": "heads"}, {"imgsz": (320, 320)}, {"imgsz": (320, 640)},
        {"dynamic_imgsz": ((320, 320), (640, 640), (960, 960))}, {"dynamic_imgsz": ((96, 96), (320, 640), (960, 960))},
        {"dynamic": True}, {"batch": 2}, {"dynamic": True, "batch": 2}, {"opset": 20},
        {"dynamic": True, "imgsz": (320, 320)}, {"precision": "bf16", "graph": "heads", "batch": 2},
    )  # fmt: skip
    names = [name(**wish) for wish in wishes]
    assert len(set(names)) == len(names)
    assert name(imgsz=(320, 640), dynamic=True) == "nuclei_320x640_dynamic.onnx"
    assert name(format="trt-rtx", targets=("sm86", "sm89")) == "nuclei_sm86_sm89_rtx.engine"


def test_the_name_of_what_an_artefact_becomes_says_nothing_twice():
    assert name("nuclei_fp16_320x320", format="trt-rtx", of_artefact=True, precision="fp16") == (
        "nuclei_fp16_320x320_rtx.engine"
    )
    assert name("nuclei_fp16", precision="fp16") == "nuclei_fp16_fp16.onnx"  # weights may be called anything


def test_a_name_that_is_given_is_taken_as_it_is():
    assert Target(Path("folder"), "nuclei", ".onnx", Path("a/b.onnx")).path(ExportOptions(batch=2)) == Path("a/b.onnx")


# ---- drafts ---------------------------------------------------------------------------------------------------------


def test_a_workshop_lies_beside_the_output_and_leaves_nothing(tmp_path):
    output = tmp_path / "new" / "m.onnx"
    with pytest.raises(RuntimeError), workshop(output) as shop:
        assert shop.parent == output.parent
        (shop / "m.onnx").write_text("half")
        raise RuntimeError
    assert list(output.parent.iterdir()) == []


def test_a_draft_is_published_with_the_files_beside_it(tmp_path):
    for draft, output, expected in (
        ("engine", "m.engine", ["m.engine", "m.engine.json"]),
        ("d.xml", "m.xml", ["m.bin", "m.xml"]),
        ("m.onnx", "m.onnx", ["m.onnx", "m.onnx.data"]),
    ):
        drafts, folder = tmp_path / f"{output} drafts", tmp_path / output
        drafts.mkdir()
        folder.mkdir()
        for file in expected:
            (drafts / file.replace(output, draft).replace("m.bin", "d.bin")).write_text(file)
        publish(drafts / draft, folder / output)
        assert sorted(path.name for path in folder.iterdir()) == expected
        assert all(path.read_text() == path.name for path in folder.iterdir())
        assert list(drafts.iterdir()) == []


def test_a_small_model_in_place_of_a_large_one_leaves_no_weights(tmp_path):
    draft, output = tmp_path / "draft" / "m.onnx", tmp_path / "m.onnx"
    draft.parent.mkdir()
    draft.write_text("small")
    data_file(output).write_text("weights of the large one")
    publish(draft, output)
    assert output.read_text() == "small" and not data_file(output).exists()


def test_a_folder_takes_no_file_s_name(tmp_path):
    (tmp_path / "draft").write_text("x")
    with pytest.raises(UsageError, match="it is a folder"):
        publish(tmp_path / "draft", tmp_path)


# ---- folders --------------------------------------------------------------------------------------------------------


def fill(folder: Path, text: str, fail: type[Exception] | None = None) -> None:
    with whole_folder(folder, "mark") as draft:
        (draft / "mark").write_text(text)
        if fail is not None:
            raise fail("no space left")


def test_a_folder_appears_whole_and_replaces_one_of_its_kind(tmp_path):
    folder = tmp_path / "a" / "model"
    fill(folder, "old")
    (folder / "rest").write_text("of the old one")
    fill(folder, "new")
    assert [path.name for path in folder.iterdir()] == ["mark"] and (folder / "mark").read_text() == "new"
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_folder_that_fails_leaves_the_old_one(tmp_path):
    fill(tmp_path / "model", "old")
    with pytest.raises(ExportError):
        fill(tmp_path / "model", "new", OSError)
    assert (tmp_path / "model" / "mark").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_somebody_else_s_folder_is_not_replaced(tmp_path):
    (tmp_path / "notes").mkdir()
    with pytest.raises(UsageError, match="a folder without mark, so it is not replaced: choose another output"):
        fill(tmp_path / "notes", "new")
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="a file, not a folder with mark"):
        fill(tmp_path / "file", "new")
