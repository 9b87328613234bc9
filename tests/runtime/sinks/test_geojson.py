# SPDX-License-Identifier: Apache-2.0
"""GeoJSON polygons are exact, and what RFC 7946 and QuPath want."""

from __future__ import annotations

import json

import cv2
import numpy as np

from centermask_runtime.sinks.geojson import GeoJsonSink
from tests.support.awkward_masks import HW, awkward_masks, frame_called, instances_of


def written(tmp_path, instances):
    with GeoJsonSink(tmp_path) as sink:
        sink.add(frame_called("slide.tif"), instances)
    return json.loads((tmp_path / "slide.geojson").read_text())


def rings_of(geometry):
    several = geometry["type"] == "MultiPolygon"
    return [ring for polygon in (geometry["coordinates"] if several else [geometry["coordinates"]]) for ring in polygon]


def test_the_rings_filled_by_the_even_odd_rule_are_the_masks(tmp_path):
    """At twice the size, so that OpenCV's filling, which takes centres, meets no edge but the last row and column."""
    instances = instances_of(awkward_masks())
    features = written(tmp_path, instances)["features"]
    assert [feature["properties"]["object"] for feature in features] == list(range(1, len(instances)))
    for place, feature in enumerate(features):
        parity = np.zeros((HW[0] * 4, HW[1] * 4), bool)
        for ring in rings_of(feature["geometry"]):
            one = np.zeros(parity.shape, np.uint8)
            cv2.fillPoly(one, [np.array(ring) * 4], 1)
            parity ^= one.astype(bool)
        np.testing.assert_array_equal(parity[2::4, 2::4], instances.masks.canvas(place))


def test_rings_are_closed_and_turn_as_the_standard_says(tmp_path):
    for feature in written(tmp_path, instances_of(awkward_masks()))["features"]:
        geometry = feature["geometry"]
        several = geometry["type"] == "MultiPolygon"
        for outer, *holes in geometry["coordinates"] if several else [geometry["coordinates"]]:
            for ring, sign in ((outer, 1), *((hole, -1) for hole in holes)):
                x, y = np.array(ring).T
                assert ring[0] == ring[-1] and len(ring) >= 4
                assert np.sign((x[:-1] * y[1:] - x[1:] * y[:-1]).sum()) == sign  # RFC 7946, 3.1.6


def test_properties_are_those_of_qupath_and_of_the_other_results(tmp_path):
    instances = instances_of(awkward_masks()[:2], ids=np.array([41, 7]))
    first, second = (feature["properties"] for feature in written(tmp_path, instances)["features"])
    assert first["objectType"] == "detection" and first["classification"]["name"] == first["name"] == "cat"
    assert len(first["classification"]["color"]) == 3 and first["classification"] != second["classification"]
    assert (first["score"], first["object"], first["track_id"], second["track_id"]) == (0.95, 1, 41, 7)


def test_no_objects_are_an_empty_collection(tmp_path):
    assert written(tmp_path, instances_of([])) == {"type": "FeatureCollection", "features": []}
