# SPDX-License-Identifier: Apache-2.0
"""The released model on real nuclei: frames, dense heads and detections through the kernels, equal to the CPU path."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from centermask.model.weights import load_weights
from centermask.opening import find_model
from centermask_runtime.geometry import Letterbox
from centermask_runtime.images import read_image
from centermask_runtime.networks.network import PeakOutputs
from centermask_runtime.reference.preprocess import letterbox
from tests.support.cuda_cpu.compare import (
    DenseHeads,
    Drawn,
    letterbox_equals_reference,
    peaks_of_heads,
    results_equal_reference,
)
from tests.support.places import NUCLEI

IMAGES = sorted((NUCLEI / "val").glob("*.png"))
INPUT_HW = (128, 160)


@pytest.fixture(scope="module")
def released():
    model, spec, _ = load_weights(find_model("nuclei_dla_46c"))
    return model.eval(), dataclasses.replace(spec, input_hw=INPUT_HW)


@pytest.mark.parametrize("path", IMAGES[:2], ids=lambda path: path.stem)
def test_a_real_frame_from_pixels_to_overlay(cuda_device, released, path):
    model, spec = released
    frame = read_image(path)
    box = Letterbox.fit(frame.shape[:2], INPUT_HW)
    letterbox_equals_reference(cuda_device, frame[None], spec)
    with torch.inference_mode():
        features = model.features(torch.from_numpy(letterbox(frame, box)[None]))
        heads = DenseHeads(*(head(features).numpy() for head in (model.heatmap, model.offset, model.size, model.shape)))
        saliency = model.saliency(features).numpy()
        dense = PeakOutputs(
            *(tensor.numpy() for tensor in model.peaks_dense(torch.from_numpy(letterbox(frame, box)[None])))
        )
    found = peaks_of_heads(cuda_device, heads, spec)
    # torch's sigmoid differs in the last bits, so its order may too; only confident peaks are compared.
    sure = dense.scores[0] > 0.3
    assert sure.sum() > 3
    np.testing.assert_allclose(found.scores[0][sure], dense.scores[0][sure], atol=1e-6)
    np.testing.assert_allclose(found.boxes[0][sure], dense.boxes[0][sure], atol=1e-3)
    outputs = dataclasses.replace(found, saliency=saliency)
    (truth,) = results_equal_reference(cuda_device, outputs, box, spec, drawn=Drawn(frame[None]))
    assert len(truth) > 3 and truth.masks.areas().sum() > 500
