# SPDX-License-Identifier: Apache-2.0
"""Drawn frames become picture files beside, and never over, the images that they were made of."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from centermask_runtime.box_masks import BoxMasks
from centermask_runtime.errors import UsageError
from centermask_runtime.images import read_image
from centermask_runtime.instances import Instances
from centermask_runtime.reference.overlay import DrawStyle, draw
from centermask_runtime.sinks.pictures import PictureSink
from centermask_runtime.sources.files import FileSource
from centermask_runtime.sources.opening import open_source
from centermask_runtime.sources.source import Frame
from tests.support.small_pictures import SIZE_HW, names_in, picture


def square():
    rects = np.array([(20, 20, 50, 40)], np.int32)
    masks = BoxMasks.from_crops(SIZE_HW, rects, [np.ones((20, 30), bool)])
    scores = np.array([0.9], np.float32)
    return Instances(SIZE_HW, rects.astype(np.float32), scores, np.zeros(1, np.int32), masks, ("cell",), (1,))


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for index, name in enumerate(["a.png", "b.jpg", "c.bmp"]):
        cv2.imwrite(str(folder / name), picture(index))
    return folder


def test_each_frame_becomes_a_picture_of_its_name(images, tmp_path):
    style = DrawStyle(labels=False)
    with open_source(images) as source, PictureSink(tmp_path / "out", source.info, style) as sink:
        for frame in source:
            sink.add(frame, square())
    assert names_in(tmp_path / "out") == ["a.png", "b.jpg", "c.bmp.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "a.png"), draw(picture(0), square(), style))


def test_a_picture_that_is_given_is_written_as_it_is(tmp_path):
    with PictureSink(tmp_path) as sink:
        sink.add(Frame(picture(0), "deep/000000", 0, None), square(), picture(5))
    np.testing.assert_array_equal(read_image(tmp_path / "deep" / "000000.png"), picture(5))


@pytest.mark.parametrize("name", ["../a.png", "/a.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises(UsageError, match="leads out of the folder"), PictureSink(tmp_path / "out") as sink:
        sink.add(Frame(picture(0), name, 0, None), square())
    assert names_in(tmp_path) == []


def test_what_was_written_before_an_error_stays(tmp_path):
    with pytest.raises(ZeroDivisionError), PictureSink(tmp_path) as sink:
        sink.add(Frame(picture(0), "a.png", 0, None), square())
        raise ZeroDivisionError
    assert names_in(tmp_path) == ["a.png"]


def test_the_folder_of_the_images_is_refused_before_anything_is_written(images, tmp_path):
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    (tmp_path / "link").symlink_to(images)
    with open_source(images) as source:
        for folder in (images, tmp_path / "link"):
            with pytest.raises(UsageError, match=r"a\.png is the source itself; choose another output"):
                PictureSink(folder, source.info)
    assert {path.name: path.read_bytes() for path in images.iterdir()} == before


def test_another_image_of_the_source_is_not_overwritten_either(tmp_path):
    """a.bmp would become a.bmp.png, which is an image of the source as well."""
    cv2.imwrite(str(tmp_path / "a.bmp"), picture(0))
    cv2.imwrite(str(tmp_path / "a.bmp.png"), picture(1))
    info = FileSource.of_list([tmp_path / "a.bmp", tmp_path / "a.bmp.png"]).info
    with pytest.raises(UsageError, match=r"a\.bmp\.png is the source itself"):
        PictureSink(tmp_path, info)
