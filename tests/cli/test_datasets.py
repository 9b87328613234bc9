# SPDX-License-Identifier: Apache-2.0
"""`centermask datasets` lists what --data finds by name: each layout with its numbers, and what is damaged."""

from __future__ import annotations

import json

from benchmarks.three_layouts import write_three
from centermask.cli import main
from tests.support.nuclei_polygons import CLASSES, write_polygons
from tests.support.written_layouts import opened, write_voc


def main_ok(arguments: list[str]) -> None:
    try:
        main(arguments)
    except SystemExit as stopped:
        assert not stopped.code


def test_datasets_lists_every_layout_with_its_numbers(tmp_path, monkeypatch, capsys):
    root = tmp_path / "sets"
    write_three(write_polygons(tmp_path / "source"), root)
    write_voc(root / "pascal", ["2007_000032"])
    (root / "broken").mkdir()
    (root / "broken" / "data.yaml").write_text("names: [")
    monkeypatch.setenv("CENTERMASK_DATASETS", str(root))
    main_ok(["datasets", "--json"])
    rows = {(row["name"], row["split"]): row for row in json.loads(capsys.readouterr().out)["datasets"]}
    expected = opened(root / "coco", "val")
    for folder, layout in (("coco", "COCO"), ("roboflow", "Roboflow COCO"), ("yolo", "YOLO-seg")):
        row = rows[folder, "val"]
        assert (row["layout"], row["images"], row["classes"]) == (layout, 3, list(CLASSES))
        assert row["objects"] == sum(len(expected.objects(index)) for index in range(3))
    assert rows["pascal", "val"]["layout"] == "VOC" and "not YAML" in rows["broken", ""]["error"]
    main_ok(["datasets", str(root)])
    assert "pascal" in capsys.readouterr().out
    (tmp_path / "empty").mkdir()
    main_ok(["datasets", str(tmp_path / "empty")])
    assert "No data set" in capsys.readouterr().out
