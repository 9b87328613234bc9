# SPDX-License-Identifier: Apache-2.0
"""The released model keeps what the README says of it: accuracy as weights and as ONNX; real videos to their end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.evaluation.evaluate import evaluate
from centermask.model.torch_network import TorchNetwork
from centermask.model.weights import load_weights
from centermask.opening import find_model
from centermask_export.batches import images_of
from centermask_export.checks.outputs import compare_networks
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.sources.video import VideoSource
from tests.support.exported_models import released_onnx
from tests.support.places import NUCLEI, ROOT

pytestmark = pytest.mark.slow


NAME = "nuclei_dla_46c"
SAMPLE_AP = 0.46  # mask AP on tests/data, 7 images, many in purple stain; measured 0.4675
VAL_AP, VAL_AP50 = 0.62, 0.88  # on the validation set; measured 0.6255 and 0.8879


@pytest.fixture(scope="module")
def onnx_file() -> Path:
    model, spec, _ = load_weights(find_model(NAME))
    with OnnxRuntimeNetwork(released_onnx("own_size")) as network:
        assert network.spec.input_hw == spec.input_hw
        report = compare_networks(TorchNetwork(model, spec), network, images_of(ROOT / "samples" / "images"))
    assert report.ok, report
    return released_onnx("own_size")


@pytest.fixture
def network(onnx_file) -> Iterator[OnnxRuntimeNetwork]:
    with OnnxRuntimeNetwork(onnx_file) as opened:
        yield opened


def test_weights_and_onnx_have_the_same_ap_on_the_sample_data(network):
    dataset = load_dataset(find_split(NUCLEI, "val"))
    model, spec, _ = load_weights(find_model(NAME))
    torch_ap, onnx_ap = (evaluate(one, dataset).metrics for one in (TorchNetwork(model, spec), network))
    for kind in ("bbox", "segm"):
        assert onnx_ap[kind]["AP"] == pytest.approx(torch_ap[kind]["AP"], abs=1e-3)
    assert onnx_ap["segm"]["AP"] >= SAMPLE_AP


def test_mask_ap_on_the_validation_set_is_what_the_readme_says(network, shared_data):
    metrics = evaluate(network, load_dataset(find_split(shared_data / "nuclei", "val"))).metrics["segm"]
    assert metrics["AP"] >= VAL_AP and metrics["AP50"] >= VAL_AP50


def test_every_scene_of_the_sample_clip_shows_nuclei_inside_the_frame(network):
    counts = []
    with Pipeline(network) as pipeline, VideoSource(ROOT / "samples" / "nuclei_scan.mp4") as source:
        for frame in source:
            if frame.index % 30 == 0:
                found = pipeline(frame.image)
                assert (found.boxes >= 0).all() and (found.boxes.max(0)[2:] <= (960, 540)).all()
                counts.append(len(found))
    assert len(counts) == 10 and min(counts) >= 10, counts


@pytest.mark.parametrize("name", ["highway-720p", "highway"])
def test_a_real_video_runs_to_its_end(name, shared_data):
    """With the model at 128 x 128, for time's sake: masks are as large as the video's frames all the same."""
    path = shared_data / "videos" / f"{name}.mp4"
    with Pipeline(OnnxRuntimeNetwork(released_onnx("fp32"))) as pipeline, VideoSource(path) as source:
        sizes = [pipeline(frame.image).frame_hw for frame in source]
    assert sizes == [source.info.size_hw] * source.info.count and source.skipped == []


def test_memory_of_a_mask_is_that_of_its_box(network):
    with Pipeline(network) as pipeline, VideoSource(ROOT / "samples" / "nuclei_scan.mp4") as source:
        found = pipeline(next(iter(source)).image)
    stored = sum(mask.nbytes for mask in found.masks.packed)
    pixels = sum(int(np.prod(rect[2:] - rect[:2])) for rect in found.masks.rects)
    assert stored <= pixels / 8 + sum(mask.shape[0] for mask in found.masks.packed)
