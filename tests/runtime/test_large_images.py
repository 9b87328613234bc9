# SPDX-License-Identifier: Apache-2.0
"""A TIFF of any size: results part by part, equal to those of the image in memory, a small picture, bounded memory."""

from __future__ import annotations

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tifffile
from pycocotools.coco import COCO

from centermask_runtime import CenterMask, UsageError, large_images, tiff_windows
from centermask_runtime.errors import DataError
from centermask_runtime.images import read_image
from centermask_runtime.large_images import reduced, save_large
from centermask_runtime.pipeline.tiles import TiledPipeline, tiled_selections
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.tiff_windows import TiffWindows
from tests.support.exact_pipeline import SPEC, ExactPipeline, disc_picture
from tests.support.exported_models import tiny_onnx
from tests.support.given_networks import assert_same
from tests.support.places import ROOT

PICTURE = disc_picture((500, 370), [(x, y, 8) for y in range(10, 500, 23) for x in range(10, 370, 23)])


@pytest.fixture
def slide(tmp_path):
    path = tmp_path / "slide.tif"
    tifffile.imwrite(path, PICTURE[:, :, ::-1], photometric="rgb", tile=(64, 64), compression="zlib")
    return path


def pipeline_of_tiles(**words):
    frame, tile = tiled_selections(SPEC, words)
    return TiledPipeline(ExactPipeline(tile), Tiling(96, 24), frame)


def saved(slide, folder, style=None, **words):
    with TiffWindows(slide) as image, pipeline_of_tiles(**words) as pipeline:
        return save_large(pipeline, image, folder, style=style)


def test_windows_of_a_file_give_what_the_image_in_memory_gives(slide):
    with TiffWindows(slide) as image, pipeline_of_tiles() as pipeline:
        assert_same(pipeline(image), pipeline(PICTURE))


def test_results_are_a_coco_file_with_masks_of_the_whole_image(slide, tmp_path):
    told = []
    with TiffWindows(slide) as image, pipeline_of_tiles() as pipeline:
        summary = save_large(pipeline, image, tmp_path / "out", style=None, progress=lambda *now: told.append(now))
        expected = pipeline(PICTURE)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.json"]
    coco = COCO(str(tmp_path / "out" / "predictions.json"))
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["height"], image["width"]) == ("slide.tif", 500, 370)
    annotations = coco.loadAnns(coco.getAnnIds())
    assert len(annotations) == len(expected) == summary.objects == told[-1][1] > 300
    assert [done for done, _ in told] == list(range(1, len(told) + 1)) and told[2][1] > 0
    union = np.sum([coco.annToMask(annotation) for annotation in annotations], axis=0)
    np.testing.assert_array_equal(union, PICTURE.any(axis=2))
    assert sorted(annotation["score"] for annotation in annotations) == pytest.approx(sorted(expected.scores))


def test_the_picture_is_the_drawn_image_made_smaller(slide, tmp_path, monkeypatch):
    style = DrawStyle(boxes=False, labels=False)
    saved(slide, tmp_path / "whole", style)
    with pipeline_of_tiles() as pipeline:
        found = pipeline(PICTURE)
    drawn = cv2.imread(str(tmp_path / "whole" / "slide.tif.png"))
    np.testing.assert_array_equal(drawn > 0, draw(PICTURE, found, style) > 0)
    monkeypatch.setattr(large_images, "PICTURE_SIDE", 170)
    saved(slide, tmp_path / "small", style)
    small = cv2.imread(str(tmp_path / "small" / "slide.tif.png"))
    assert small.shape == (167, 124, 3)
    np.testing.assert_array_equal(small.any(axis=2), PICTURE[::3, ::3].any(axis=2))


def test_reduced_masks_are_every_third_pixel():
    with pipeline_of_tiles() as pipeline:
        found = pipeline(PICTURE)
    small = reduced(found, 3)
    np.testing.assert_array_equal(small.masks.canvases(), found.masks.canvases()[:, ::3, ::3])


def test_the_best_of_the_whole_image_are_kept_where_a_number_is_asked_for(slide, tmp_path):
    assert saved(slide, tmp_path / "out", max_det=7).objects == 7
    content = json.loads((tmp_path / "out" / "predictions.json").read_text())
    with pipeline_of_tiles() as pipeline:
        best = pipeline(PICTURE)[:7]
    assert [one["score"] for one in content["annotations"]] == pytest.approx(best.scores.tolist(), abs=1e-6)


def test_nothing_stays_of_a_damaged_image_and_the_image_itself_is_never_replaced(slide, tmp_path):
    content = bytearray(slide.read_bytes())
    with tifffile.TiffFile(slide) as file:
        offset, count = file.pages.first.dataoffsets[-1], file.pages.first.databytecounts[-1]
    content[offset : offset + count] = b"\xff" * count
    slide.write_bytes(content)
    with pytest.raises(DataError, match="is damaged in block 47"):
        saved(slide, tmp_path / "out", DrawStyle())
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "predictions.json").symlink_to(slide)
    with pytest.raises(UsageError, match="is the source itself"):
        saved(slide, tmp_path / "results")


def test_the_public_class_reads_a_large_file_by_windows(slide, monkeypatch):
    monkeypatch.setattr(tiff_windows, "LARGE", 1)
    with CenterMask(tiny_onnx(), conf=0.3, tile=160, overlap=32) as model:
        found = model(str(slide))
        assert_same(found, model(read_image(slide)))
        parts = list(model.parts(slide))
        assert len(parts) > 2 and sum(map(len, parts)) == len(found) > 0
        assert [len(part) for part in model.parts(read_image(slide))] == [len(found)]
        with pytest.raises(UsageError, match="several were given"):
            next(model.parts([read_image(slide)]))


MEMORY = """
import re, sys
from pathlib import Path
from centermask_runtime.large_images import save_large
from centermask_runtime.pipeline.tiles import TiledPipeline, tiled_selections
from centermask_runtime.pipeline.tiling import Tiling
from centermask_runtime.tiff_windows import TiffWindows
from tests.support.exact_pipeline import SPEC, ExactPipeline

def peak():  # of this process alone: ru_maxrss begins with that of the parent
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) >> 10

frame, tile = tiled_selections(SPEC, {})
with TiffWindows(sys.argv[1]) as image, TiledPipeline(ExactPipeline(tile), Tiling(512, 64), frame) as pipeline:
    start = peak()
    summary = save_large(pipeline, image, Path(sys.argv[2]), style=None)
print(summary.objects, peak() - start)
"""


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process its peak")
def test_memory_is_that_of_a_row_of_tiles_not_of_the_image(tmp_path):
    """8000 x 8000: 192 MB as an array; a row of tiles takes 12 MB, and the drawn picture is left out."""
    discs, nowhere = [(x, y, 9) for y in range(20, 256, 60) for x in range(20, 256, 60)], (-99, -99, 0)
    kinds = [disc_picture((256, 256), [nowhere] * 16 * kind + discs)[:, :, ::-1] for kind in range(16)]
    side = 8000
    places = np.ndindex(-(-side // 256), -(-side // 256))
    blocks = (np.ascontiguousarray(kinds[row % 4 * 4 + column % 4]) for row, column in places)
    path = tmp_path / "slide.tif"
    tifffile.imwrite(
        path, blocks, shape=(side, side, 3), dtype=np.uint8, photometric="rgb", tile=(256, 256), compression="zlib"
    )
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "out")], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    objects, megabytes = map(int, done.stdout.split())
    assert objects > 15_000 and megabytes < 100
