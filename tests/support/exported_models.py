# SPDX-License-Identifier: Apache-2.0
"""Two small models and their exports, each made once per run of the tests: torch.onnx takes seconds for any size."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from centermask.config import Config, InputConfig, ModelConfig
from centermask.data.dataset import load_dataset
from centermask.data.formats.layouts import find_split
from centermask.model.network import CenterMaskNet, build_model
from centermask.model.weights import load_weights, spec_of
from centermask.opening import find_model
from centermask_export.onnx_file import read_spec
from centermask_export.options import ExportOptions
from centermask_export.to_int8 import write_int8
from centermask_export.to_onnx import export_onnx
from centermask_runtime.spec import ModelSpec
from tests.support.made_once import made_once
from tests.support.places import NUCLEI

CONFIG = Config(
    "tiny",
    ModelConfig("dla_46c", head_channels=16, shape_size=9, saliency="class_agnostic", max_detections=50),
    InputConfig(size=(96, 128), mean_bgr=(0.3, 0.3, 0.3), std_bgr=(0.25, 0.25, 0.25)),
)
RELEASED = "nuclei_dla_46c"  # trained: rounding changes random weights' results beyond any bound
SMALL = (128, 128)
DYNAMIC_SIZES = ((96, 96), SMALL, (160, 192))
OPTIONS = {
    "own_size": ExportOptions(imgsz=(640, 640)),  # the model's own; all others are small
    "fp32": ExportOptions(imgsz=SMALL),
    "fp16": ExportOptions(imgsz=SMALL, precision="fp16"),
    "bf16": ExportOptions(imgsz=SMALL, precision="bf16"),
    "dynamic": ExportOptions(dynamic=True, batch=2, dynamic_imgsz=DYNAMIC_SIZES),
    "heads_fp16": ExportOptions(imgsz=SMALL, graph="heads", precision="fp16"),
}


def frames(count: int = 5) -> list[NDArray[np.uint8]]:
    dataset = load_dataset(find_split(NUCLEI, "val"))
    return [dataset.image(index) for index in range(count)]


@functools.cache
def tiny_model() -> CenterMaskNet:
    """Random weights, batch norms calibrated on images, sizes and logits that vary: detections worth comparing."""
    torch.manual_seed(0)
    model = build_model(CONFIG, 1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    images = torch.from_numpy(np.stack([cv2.resize(frame, (128, 96)) for frame in frames()]))
    model.train()
    with torch.no_grad():
        features = model.features(images)
        for head, spread, middle in ((model.heatmap, 2.0, -2.0), (model.size, 2.0, 5.0), (model.shape, 3.0, 2.0)):
            out = head(features)
            head[2].weight.mul_(spread / out.std())
            head[2].bias.copy_((head[2].bias - out.mean()) * spread / out.std() + middle)
    return model.eval()


@functools.cache
def tiny_spec() -> ModelSpec:
    return dataclasses.replace(spec_of(CONFIG, ("nucleus",), (1,)), mask_threshold=0.45)


def tiny_onnx() -> Path:
    """The tiny model as fp32 ONNX. Nobody may change the file."""

    def export(folder: Path) -> None:
        export_onnx(tiny_model(), tiny_spec(), folder / "tiny.onnx", source="tiny.safetensors")

    return made_once("tiny_onnx", export) / "tiny.onnx"


def quick_export(model, spec, path, options, *, source):
    """In place of export_onnx: the tiny model's file, without waiting for the exporter again."""
    return _copy(tiny_onnx(), path)


def exporter_of(kind: str):
    """The same with the released model's file of a kind."""
    return lambda model, spec, path, options, *, source: _copy(released_onnx(kind), path)


def _copy(file: Path, path: Path) -> ModelSpec:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, path)
    return read_spec(path)


@functools.cache
def released() -> tuple[CenterMaskNet, ModelSpec]:
    model, spec, _ = load_weights(find_model(RELEASED))
    return model, dataclasses.replace(spec, input_hw=SMALL)


def released_onnx(kind: str) -> Path:
    """The released model as a kind of OPTIONS, or int8, in a folder of its own. Nobody may change the file."""
    name = f"{RELEASED}.onnx"

    def export(folder: Path) -> None:
        if kind == "int8":
            write_int8(released_onnx("fp32"), released()[1], folder / name, frames())
        else:
            export_onnx(*released(), folder / name, OPTIONS[kind], source=f"{RELEASED}.safetensors")

    return made_once(f"released_{kind}", export) / name
