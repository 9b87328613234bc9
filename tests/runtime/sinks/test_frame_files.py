# SPDX-License-Identifier: Apache-2.0
"""A frame's files are called after it, and no two frames share one."""

from __future__ import annotations

import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.sinks.geojson import GeoJsonSink
from centermask_runtime.sinks.mask_pictures import MaskSink
from centermask_runtime.sources.source import SourceInfo
from tests.support.awkward_masks import frame_called, instances_of
from tests.support.small_pictures import names_in, write_video


def written(folder, names, info=None):
    with GeoJsonSink(folder, info) as sink:
        for name in names:
            sink.add(frame_called(name), instances_of([]))
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.geojson"))]


def test_the_suffix_of_an_image_is_replaced_and_dots_elsewhere_stay(tmp_path):
    assert written(tmp_path, ["day/a.JPG", "clip.v2_000007", "b.tiff", "c.1"]) == [
        "b.geojson", "c.1.geojson", "clip.v2_000007.geojson", "day/a.geojson",
    ]  # fmt: skip


def test_images_that_differ_in_their_suffix_alone_keep_it(tmp_path):
    names = ["a.jpg", "a.png", "b.png"]
    info = SourceInfo("folder", files=tuple((name, tmp_path / name) for name in names))
    assert written(tmp_path, names, info) == ["a.jpg.geojson", "a.png.geojson", "b.geojson"]


def test_a_file_never_overwrites_its_source_nor_leaves_the_folder(tmp_path):
    write_video(tmp_path / "a.png", count=1)
    info = SourceInfo("folder", files=(("a.png", tmp_path / "a.png"),))
    with pytest.raises(UsageError, match="is the source itself"):
        MaskSink(tmp_path, info)
    with pytest.raises(UsageError, match="leads out of the folder"):
        written(tmp_path / "out", ["../../a.png"])
    assert names_in(tmp_path) == ["a.png"]
