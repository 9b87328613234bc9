# SPDX-License-Identifier: Apache-2.0
"""Masks as polygons in GeoJSON, a FeatureCollection per frame, in pixels of the frame: as QuPath reads and writes it.

Outlines go along the edges of pixels and have holes, by reference/polygons.py, so they are exact. x goes right and y
down, from the upper left corner. `properties` of a feature: objectType and classification are QuPath's; name, score,
object (its place in the frame from 1) and track_id (where there are track ids) are as in the other results.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.instances import Instances
from centermask_runtime.partial_file import write_whole
from centermask_runtime.reference.overlay import PALETTE_BGR
from centermask_runtime.reference.polygons import Polygon
from centermask_runtime.sinks.frame_files import FrameFileSink
from centermask_runtime.sources.source import Frame


class GeoJsonSink(FrameFileSink):
    """A Sink that writes the polygons of each frame. An object without pixels has no feature."""

    suffix = ".geojson"

    def write(self, target: Path, frame: Frame, instances: Instances, picture: NDArray[np.uint8] | None) -> None:
        write_whole(target, (json.dumps(feature_collection(instances)) + "\n").encode())


def feature_collection(instances: Instances) -> dict[str, Any]:
    """The instances as a GeoJSON FeatureCollection."""
    ids = [None] * len(instances) if instances.ids is None else instances.ids.tolist()
    features = []
    for index, (pieces, name, label, track) in enumerate(
        zip(instances.masks.polygons(), instances.names, instances.labels.tolist(), ids, strict=True)
    ):
        if not pieces:
            continue
        properties: dict[str, Any] = {
            "objectType": "detection",
            "classification": {"name": name, "color": list(PALETTE_BGR[label % len(PALETTE_BGR)][::-1])},
            "name": name,
            "score": round(float(instances.scores[index]), 6),
            "object": index + 1,
        }
        if track is not None:
            properties["track_id"] = track
        features.append({"type": "Feature", "geometry": _geometry(pieces), "properties": properties})
    return {"type": "FeatureCollection", "features": features}


def _geometry(pieces: list[Polygon]) -> dict[str, Any]:
    polygons = [[_closed(ring) for ring in (piece.outer, *piece.holes)] for piece in pieces]
    if len(polygons) == 1:
        return {"type": "Polygon", "coordinates": polygons[0]}
    return {"type": "MultiPolygon", "coordinates": polygons}


def _closed(ring: NDArray[np.int32]) -> list[list[int]]:
    return [*ring.tolist(), ring[0].tolist()]
