# SPDX-License-Identifier: Apache-2.0
"""Files of zones and lines: YAML and GeoJSON say the same, and what is wrong in one is said in a sentence."""

from __future__ import annotations

import json
import os

import pytest

from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.tracking.regions_file import read_regions

YAML = """
zones:
  - name: yard
    points: [[10, 20], [100, 20], [100, 90.5], [10, 90.5]]
lines:
  - name: gate
    points: [[0, 50], [120, 50]]
    classes: [car]
    anchor: centre
    margin: 0
"""
GEOJSON = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "properties": {"name": "yard", "stroke": "#ff0000"},
            "geometry": {
                "type": "Polygon",
                "coordinates": [[[10, 20], [100, 20], [100, 90.5], [10, 90.5], [10, 20]]],
            },
        },
        {
            "type": "Feature",
            "properties": {"name": "gate", "classes": ["car"], "anchor": "centre", "margin": 0},
            "geometry": {"type": "LineString", "coordinates": [[0, 50, 0], [120, 50, 0]]},
        },
    ],
}


def regions_of(tmp_path, text, name="regions.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_regions(path)


def test_yaml_and_geojson_say_the_same_whatever_the_files_are_called(tmp_path):
    found = regions_of(tmp_path, YAML)
    assert found == regions_of(tmp_path, json.dumps(GEOJSON)) == regions_of(tmp_path, b"\xef\xbb\xbf" + YAML.encode())
    yard, gate = found.regions
    assert (yard.kind, yard.points[2], yard.classes, yard.anchor, yard.margin) == (
        "zone",
        (100, 90.5),
        None,
        "bottom",
        0.1,
    )
    assert (gate.kind, gate.points, gate.classes, gate.anchor, gate.margin) == (
        "line", ((0, 50), (120, 50)), ("car",), "centre", 0,
    )  # fmt: skip


def test_points_for_another_size_are_scaled(tmp_path):
    found = regions_of(tmp_path, "frame: [200, 100]\n" + YAML)
    assert found.frame_hw == (100, 200)
    assert found.within((50, 400))[1].points == ((0, 25), (240, 25))
    assert regions_of(tmp_path, YAML).within((200, 300)) == found.regions
    with pytest.raises(DataError, match="outside the frame of 50 x 100 pixels"):
        regions_of(tmp_path, YAML).within((100, 50))


ZONE = "zones: [{name: z, points: [[0, 0], [9, 0], [9, 9]]"
LINE = "lines: [{name: l, points: "


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it must have a list 'zones' or 'lines', and is empty."),
        ("[1, 2]", "it must have a list 'zones' or 'lines', and is a list."),
        ("zones: []", "there is no zone and no line in it."),
        ("zone: []", "there is no key 'zone' for the file; did you mean 'zones'?"),
        ("zones: 3", "'zones' must be a list, not a int."),
        ("zones: [3]", "the zone number 1 must be a mapping with a name and points, not a int."),
        ("zones: [{points: [[0, 0]]}]", "the zone number 1 must have a name, which is text, not None."),
        (ZONE + ", colour: red}]", "there is no key 'colour' for the zone 'z'"),
        (ZONE + ", anchor: center}]", "'anchor' of the zone 'z' must be bottom or centre, not 'center'."),
        (ZONE + ", classes: car}]", "'classes' of the zone 'z' must be a list of names, not 'car'."),
        (ZONE + ", margin: .nan}]", "'margin' of the zone 'z' must be a number between 0 and 1, not nan."),
        (ZONE + "}, {name: z, points: [[0, 0], [9, 0], [9, 9]]}]", "the name 'z' stands there twice"),
        ("frame: [0, 5]\n" + ZONE + "}]", "'frame' must be width and height in pixels, as [960, 540], not [0, 5]."),
        (LINE + "[[0, 0], [.nan, 5]]}]", "point 2 of the line 'l' must be two finite numbers, [x, y], not [nan, 5]."),
        (LINE + "[[0, 0], [.inf, 5]]}]", "point 2 of the line 'l' must be two finite numbers, [x, y], not [inf, 5]."),
        (LINE + "[[0, 0], [true, 5]]}]", "point 2 of the line 'l' must be two finite numbers, [x, y], not [True, 5]."),
        (LINE + "[[0, 0], 5]}]", "point 2 of the line 'l' must be two finite numbers, [x, y], not 5."),
        (LINE + "[[0, 0]]}]", "the line 'l' must have two different points, not 1 points"),
        (LINE + "[[3, 3], [3, 3]]}]", "the line 'l' must have two different points, not 1 points"),
        (LINE + "[[0, 0], [1, 1], [2, 0]]}]", "the line 'l' must have two different points, not 3 points"),
        (LINE + "none}]", "'points' of the line 'l' must be a list of [x, y], not 'none'."),
        (
            "zones: [{name: z, points: [[0, 0], [9, 9], [9, 0], [0, 9]]}]",
            "the outline of the zone 'z' crosses or touches",
        ),
        ("zones: [", "neither valid YAML nor JSON"),
        ('{"type": "Topology"}', "geoJSON must be a FeatureCollection or a Feature, not 'Topology'."),
        ('{"type": "FeatureCollection"}', "geoJSON must be a FeatureCollection or a Feature"),
        ('{"type": "Feature"}', "feature 1 must be a Polygon or a LineString, not None."),
        ('{"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}', "not 'Point'."),
        (
            '{"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[], []]}}',
            "feature 1 is a polygon with holes",
        ),
        (b"\xff\xfe\x00zones", "is no text in UTF-8"),
    ],
)
def test_what_makes_no_sense_is_one_sentence(tmp_path, text, sentence):
    with pytest.raises(UsageError) as refusal:
        regions_of(tmp_path, text)
    assert sentence in str(refusal.value) and str(tmp_path / "regions.txt") in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_file_that_is_not_there_and_a_folder_are_refused(tmp_path):
    for path, reason in ((tmp_path / "none.yaml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(UsageError, match=f"cannot be read \\({reason}"):
            read_regions(path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs a device without an end")
def test_a_device_without_an_end_is_not_read_to_it():
    with pytest.raises(UsageError, match="/dev/zero is too large for a file of zones and lines"):
        read_regions("/dev/zero")
