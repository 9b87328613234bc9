# SPDX-License-Identifier: Apache-2.0
"""JSON lines: a line per frame, which pandas and pycocotools read."""

from __future__ import annotations

import json

import numpy as np
import pandas
from pycocotools import mask as coco_mask

from centermask_runtime.sinks.json_lines import JsonLinesSink
from tests.support.awkward_masks import HW, awkward_masks, frame_called, instances_of


def write(path):
    found = [instances_of(awkward_masks()), instances_of([]), instances_of(awkward_masks(1), ids=np.arange(9) + 5)]
    with JsonLinesSink(path) as sink:
        for index, instances in enumerate(found):
            sink.add(frame_called(f"v_{index:06d}", index, index / 3), instances)
    return found


def test_pandas_reads_a_row_per_frame(tmp_path):
    write(tmp_path / "r.jsonl")
    table = pandas.read_json(tmp_path / "r.jsonl", lines=True)
    assert table["frame"].tolist() == ["v_000000", "v_000001", "v_000002"] and table["index"].tolist() == [0, 1, 2]
    assert table["time_s"].tolist() == [0, 0.333333, 0.666667] and (table["height"] == HW[0]).all()
    objects = pandas.json_normalize(table.to_dict("records"), "instances", ["frame", "time_s"])
    assert len(objects) == 18 and objects["track_id"].dropna().tolist() == list(range(5, 14))
    assert objects["name"].value_counts().to_dict() == {"cat": 6, "dog/cat": 6, "traffic light": 6}


def test_each_mask_is_there_bit_for_bit(tmp_path):
    found = write(tmp_path / "r.jsonl")
    for line, instances in zip((tmp_path / "r.jsonl").read_text().splitlines(), found, strict=True):
        entries = json.loads(line)["instances"]
        assert len(entries) == len(instances)
        for place, entry in enumerate(entries):
            np.testing.assert_array_equal(coco_mask.decode(entry["rle"]), instances.masks.canvas(place))


def test_without_a_path_lines_go_to_the_standard_output_at_once(tmp_path, capsys):
    sink = JsonLinesSink(None)
    with sink:
        sink.add(frame_called("a.png"), instances_of([]))
        first = capsys.readouterr().out
        assert json.loads(first) == {
            "frame": "a.png", "index": 0, "time_s": None, "height": HW[0], "width": HW[1], "instances": [],
        }  # fmt: skip
    assert first.count("\n") == 1 and capsys.readouterr().out == ""
