# SPDX-License-Identifier: Apache-2.0
"""A YAML or GeoJSON file -> Regions. What a file is, its content says: JSON that has a "type" is GeoJSON.

    frame: [960, 540]          # width and height for which the points are; without it, the frames' own
    zones:
      - name: car park
        points: [[10, 300], [400, 300], [400, 520], [10, 520]]
    lines:
      - name: exit
        points: [[100, 400], [860, 400]]
        classes: [car, truck]  # all without it
        anchor: centre         # bottom without it
        margin: 0.05           # 0.1 without it

In GeoJSON, a FeatureCollection or a Feature, polygons are zones and line strings are lines; coordinates are pixels, and
name, classes, anchor and margin are properties. Other properties, which drawing programs add, are left aside.
"""

from __future__ import annotations

import json
import math
import numbers
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from centermask_runtime.arguments import path_of, short
from centermask_runtime.errors import UsageError, did_you_mean, shown
from centermask_runtime.tracking.regions import Kind, Point, Region, check_shape

MOST_POINTS = 1000  # of an outline: each pair of edges is compared
LARGEST_FILE = 10_000_000  # bytes
KEYS = ("frame", "zones", "lines")
REGION_KEYS = ("name", "points", "classes", "anchor", "margin")


@dataclass(frozen=True)
class Regions:
    """The zones and lines of a file, in their order there."""

    regions: tuple[Region, ...]
    frame_hw: tuple[int, int] | None = None  # for which the points are; None for the frames' own size

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Raises DataError where one of them counts a class that is not there."""
        for region in self.regions:
            region.labels(class_names)

    def within(self, frame_hw: tuple[int, int]) -> tuple[Region, ...]:
        """The regions in a frame of this height and width. Raises DataError for those that reach out of it."""
        own = self.frame_hw or frame_hw
        for region in self.regions:
            region.check_inside(own)
        across, down = frame_hw[1] / own[1], frame_hw[0] / own[0]
        return tuple(region.scaled(across, down) for region in self.regions)


def read_regions(path: str | os.PathLike[str]) -> Regions:
    """The zones and lines of a file. Raises UsageError for what cannot be read or makes no sense.

    for region in read_regions("street.yaml").regions:
        print(region.kind, region.name, region.points)
    """
    file = path_of(path, "A file of zones and lines")
    values = _parsed(file)
    try:
        if not isinstance(values, dict):
            raise UsageError(f"It must have a list 'zones' or 'lines', and is {_kind(values)}.")
        return _of_geojson(values) if "type" in values else _of_yaml(values)
    except UsageError as error:
        text = str(error)
        raise UsageError(f"{shown(file)}: {text[0].lower()}{text[1:]}") from error


def _parsed(file: Path) -> Any:
    try:
        with file.open("rb") as stream:
            content = stream.read(LARGEST_FILE + 1)  # a device has no size, and may have no end
        if len(content) > LARGEST_FILE:
            raise UsageError(f"{shown(file)} is too large for a file of zones and lines: check the path.")
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{shown(file)} cannot be read ({error.strerror}): check the path.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(file)} is no text in UTF-8: zones and lines stand in YAML or GeoJSON.") from error
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{shown(file)} is neither valid YAML nor JSON: {reason}.") from error


def _of_yaml(values: dict[Any, Any]) -> Regions:
    _check_keys(values, KEYS, "the file")
    found = []
    for key, kind in (("zones", "zone"), ("lines", "line")):
        entries = values.get(key) or []
        if not isinstance(entries, list):
            raise UsageError(f"'{key}' must be a list, not {_kind(entries)}.")
        found += [_region(entry, kind, place) for place, entry in enumerate(entries, 1)]  # type: ignore[arg-type]
    return _regions(found, values.get("frame"))


def _of_geojson(values: dict[Any, Any]) -> Regions:
    features = values.get("features") if values["type"] == "FeatureCollection" else [values]
    if values["type"] not in ("FeatureCollection", "Feature") or not isinstance(features, list):
        raise UsageError(f"GeoJSON must be a FeatureCollection or a Feature, not {short(values['type'])}.")
    found = []
    for place, feature in enumerate(features, 1):
        geometry = feature.get("geometry") if isinstance(feature, dict) else None
        kind, coordinates = (
            (geometry.get("type"), geometry.get("coordinates")) if isinstance(geometry, dict) else (0, 0)
        )
        if kind == "Polygon" and isinstance(coordinates, list) and len(coordinates) > 1:
            raise UsageError(f"Feature {place} is a polygon with holes: give two zones without.")
        if kind == "Polygon" and isinstance(coordinates, list) and coordinates:
            points: Any = coordinates[0]
        elif kind == "LineString":
            points = coordinates
        else:
            raise UsageError(f"Feature {place} must be a Polygon or a LineString, not {short(kind or geometry)}.")
        properties = feature.get("properties") or {}
        if not isinstance(properties, dict):
            raise UsageError(f"The properties of feature {place} must be a mapping, not {_kind(properties)}.")
        known = {key: value for key, value in properties.items() if key in REGION_KEYS and key != "points"}
        found.append(_region({**known, "points": points}, "zone" if kind == "Polygon" else "line", place))
    return _regions(found, values.get("frame"))


def _regions(found: list[Region], frame: Any) -> Regions:
    if not found:
        raise UsageError("There is no zone and no line in it.")
    names = [region.name for region in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"The name '{name}' stands there twice: give each zone and line a name of its own.")
    if frame is None:
        return Regions(tuple(found))
    sides = frame if isinstance(frame, list) else []
    if len(sides) != 2 or not all(_is_number(side) and side > 0 and side == int(side) for side in sides):
        raise UsageError(f"'frame' must be width and height in pixels, as [960, 540], not {short(frame)}.")
    return Regions(tuple(found), (int(sides[1]), int(sides[0])))


def _region(entry: Any, kind: Kind, place: int) -> Region:
    if not isinstance(entry, dict):
        raise UsageError(f"The {kind} number {place} must be a mapping with a name and points, not {_kind(entry)}.")
    name = entry.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UsageError(f"The {kind} number {place} must have a name, which is text, not {short(name)}.")
    what = f"the {kind} '{name}'"
    _check_keys(entry, REGION_KEYS, what)
    classes, anchor, margin = entry.get("classes"), entry.get("anchor", "bottom"), entry.get("margin", 0.1)
    if classes is not None and not (
        isinstance(classes, list) and classes and all(isinstance(each, str) for each in classes)
    ):
        raise UsageError(f"'classes' of {what} must be a list of names, not {short(classes)}.")
    if anchor not in ("bottom", "centre"):
        raise UsageError(f"'anchor' of {what} must be bottom or centre, not {short(anchor)}.")
    if not _is_number(margin) or not 0 <= margin <= 1:
        raise UsageError(f"'margin' of {what} must be a number between 0 and 1, not {short(margin)}.")
    region = Region(
        name, kind, _points(entry.get("points"), kind, what), None if classes is None else tuple(classes), anchor,
        float(margin),
    )  # fmt: skip
    check_shape(region)
    return region


def _points(given: Any, kind: Kind, what: str) -> tuple[Point, ...]:
    if not isinstance(given, list) or not given:
        raise UsageError(f"'points' of {what} must be a list of [x, y], not {short(given)}.")
    if len(given) > MOST_POINTS:
        raise UsageError(f"{what[0].upper()}{what[1:]} has {len(given)} points, and {MOST_POINTS} are the most.")
    points: list[Point] = []
    for number, point in enumerate(given, 1):
        if not isinstance(point, list) or len(point) < 2 or not all(_is_number(value) for value in point[:2]):
            raise UsageError(f"Point {number} of {what} must be two finite numbers, [x, y], not {short(point)}.")
        if not points or points[-1] != (point[0], point[1]):
            points.append((float(point[0]), float(point[1])))
    if kind == "zone" and len(points) > 1 and points[0] == points[-1]:  # as GeoJSON closes its rings
        points.pop()
    return tuple(points)


def _check_keys(values: dict[Any, Any], known: tuple[str, ...], what: str) -> None:
    for key in values:
        if key not in known:
            raise UsageError(f"There is no key {short(key)} for {what}; {did_you_mean(str(key), known)}")


def _is_number(value: Any) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value) and abs(value) < 1e9


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"
