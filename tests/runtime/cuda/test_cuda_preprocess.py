# SPDX-License-Identifier: Apache-2.0
"""The letterbox kernels have OpenCV's bytes, from BGR and from NV12, on the CPU and on a GPU where there is one."""

from __future__ import annotations

import numpy as np
import pytest

from centermask_runtime.geometry import PAD_VALUE, Letterbox
from centermask_runtime.reference.nv12 import YuvMatrix
from tests.support.cuda_cpu.compare import (
    Session,
    letterbox_equals_reference,
    letterbox_nv12,
    nv12_equals_reference,
    spec_of_grid,
)

SPEC = spec_of_grid(3, (16, 24), 12, shape_size=8, channels=3)  # input 64 x 96


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.mark.parametrize(
    "frame_hw", [(64, 96), (32, 48), (37, 53), (128, 192), (129, 193), (200, 31), (7, 300), (1, 1), (1, 90), (90, 2)]
)
@pytest.mark.parametrize("gap", [0, 13])
def test_the_letterbox_has_opencvs_bytes(cuda_device, rng, frame_hw, gap):
    letterbox_equals_reference(cuda_device, rng.integers(0, 256, (2, *frame_hw, 3), dtype=np.uint8), SPEC, gap)


def test_extreme_contrast_rounds_as_opencv(cuda_device, rng):
    letterbox_equals_reference(cuda_device, rng.choice(np.array([0, 255], np.uint8), (1, 75, 101, 3)), SPEC)


def planes(rng, count, height, width):
    luma = rng.integers(0, 256, (count, height, width), dtype=np.uint8)
    return luma, rng.integers(0, 256, (count, height // 2, width), dtype=np.uint8)


@pytest.mark.parametrize("frame_hw", [(64, 96), (38, 54), (130, 194), (2, 2)])
@pytest.mark.parametrize("gap", [0, 6])
@pytest.mark.parametrize("matrix", YuvMatrix)
def test_nv12_is_converted_and_resized_as_on_the_cpu(cuda_device, rng, frame_hw, gap, matrix):
    nv12_equals_reference(cuda_device, *planes(rng, 2, *frame_hw), SPEC, matrix, gap)


@pytest.mark.parametrize(
    ("matrix", "red_blue"), [(YuvMatrix.BT601, (0.299, 0.114)), (YuvMatrix.BT709, (0.2126, 0.0722))]
)
def test_nv12_follows_its_standard_within_a_grey_level(cuda_device, rng, matrix, red_blue):
    """Colours from the standard's equations in float64; a frame of the input's size is not resampled."""
    luma, chroma = planes(rng, 1, *SPEC.input_hw)
    y = (luma[0] - 16.0).clip(0) / 219
    cb, cr = (np.repeat(np.repeat(chroma[0, :, i::2] - 128.0, 2, 0), 2, 1) / 224 for i in (0, 1))
    kr, kb = red_blue
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    expected = (np.stack((blue, green, red), -1) * 255).clip(0, 255)
    found = letterbox_nv12(cuda_device, luma, chroma, SPEC, matrix)[0]
    assert np.abs(found - expected).max() <= 1


def test_padding_is_grey(cuda_device):
    """Not only equal to the reference: what surrounds the frame is the documented value."""
    box = Letterbox.fit((10, 96), SPEC.input_hw)
    with Session(cuda_device, SPEC, 1) as session:
        frames = session.put_frames(np.zeros((1, 10, 96, 3), np.uint8))
        session.stages.letterbox(frames, box, session.images, session.stream)
        found = session.get(session.images, (*SPEC.input_hw, 3))
    assert (found[: box.offset_xy[1]] == PAD_VALUE).all() and (found[box.offset_xy[1] + 10 :] == PAD_VALUE).all()
