# SPDX-License-Identifier: Apache-2.0
"""NV12 frames: converted as OpenCV does and as the standards say, and taken by the pipeline in the place of BGR."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from centermask_runtime.errors import DataError
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.reference.nv12 import Nv12Frame, YuvMatrix, convert
from tests.support.given_networks import assert_same, given_sets, peak_outputs


def random_pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (height * 3 // 2, width), dtype=np.uint8)


@pytest.mark.parametrize("size_hw", [(2, 2), (64, 96), (130, 38), (480, 640)])
def test_the_definition_gives_opencvs_bytes(size_hw):
    pixels = random_pixels(*size_hw)
    expected = cv2.cvtColor(pixels, cv2.COLOR_YUV2BGR_NV12)
    np.testing.assert_array_equal(convert(pixels, YuvMatrix.BT601), expected)
    np.testing.assert_array_equal(Nv12Frame(pixels).to_bgr(), expected)


@pytest.mark.parametrize(
    ("matrix", "luma_parts"), [(YuvMatrix.BT601, (0.299, 0.114)), (YuvMatrix.BT709, (0.2126, 0.0722))]
)
def test_colours_follow_the_standard_within_a_grey_level(matrix, luma_parts):
    """ITU-R BT.601-7 and BT.709-6: luma is red and blue by these parts and green by the rest; in float64."""
    pixels = random_pixels(64, 96)
    of_red, of_blue = luma_parts
    luma = np.maximum(pixels[:64] - 16.0, 0) / 219
    blue_difference, red_difference = (
        np.kron(pixels[64:, first::2] - 128.0, np.ones((2, 2))) / 224 for first in (0, 1)
    )
    red, blue = luma + 2 * (1 - of_red) * red_difference, luma + 2 * (1 - of_blue) * blue_difference
    green = (luma - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    expected = np.clip(np.stack((blue, green, red), -1) * 255, 0, 255)
    assert np.abs(Nv12Frame(pixels, matrix).to_bgr() - expected).max() <= 1


def test_a_red_picture_is_red_in_either_matrix():
    for matrix, luma, cb, cr in ((YuvMatrix.BT601, 81, 90, 240), (YuvMatrix.BT709, 63, 102, 240)):
        pixels = np.full((6, 4), luma, np.uint8)
        pixels[4:, 0::2], pixels[4:, 1::2] = cb, cr
        blue, green, red = Nv12Frame(pixels, matrix).to_bgr()[0, 0].astype(int)
        assert red >= 253 and green <= 2 and blue <= 2


@pytest.mark.parametrize("matrix", YuvMatrix)
def test_a_pipeline_finds_in_nv12_what_it_finds_in_the_converted_frame(small_spec, matrix):
    seen = []

    class Network:
        """Remembers the images that it is given."""

        spec, description, batch = small_spec, "given", 1
        arrays = next(given_sets(small_spec, 1))

        def run(self, images):
            seen.append(images.copy())
            return peak_outputs(self.spec, self.arrays)

        def close(self):
            pass

    frame = Nv12Frame(random_pixels(130, 194), matrix)
    with Pipeline(Network()) as pipeline:
        found, expected = pipeline(frame), pipeline(frame.to_bgr())
    np.testing.assert_array_equal(seen[0], seen[1])
    assert found.frame_hw == (130, 194) and len(found)
    assert_same(found, expected)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (np.zeros((6, 4, 3), np.uint8), r"must be uint8 \[height \* 3 / 2, width\], not uint8 \[6, 4, 3\]"),
        (np.zeros((6, 4), np.float32), "not float32"),
        ([[1]], "not list"),
        (np.zeros((0, 4), np.uint8), "not uint8"),
        (np.zeros((4, 4), np.uint8), "even height and width"),
        (np.zeros((6, 5), np.uint8), "even height and width"),
    ],
)
def test_other_arrays_are_refused_in_one_sentence(pixels, words):
    with pytest.raises(DataError, match=words):
        Nv12Frame(pixels)
