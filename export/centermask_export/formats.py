# SPDX-License-Identifier: Apache-2.0
"""The table of formats: what an artefact of each kind is, what it can hold, what writes it and what runs it.

The choices and refusals of `centermask export`, the list of `centermask formats` and the table of docs/export.md are
made of it. A new format is a module with `write(request: Request) -> Written`, and a row here.
"""

from __future__ import annotations

import dataclasses
import importlib
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from centermask_export.options import PRECISIONS, ExportOptions
from centermask_export.request import Request, Written

ONNX_FILE = ("torch", "onnxscript", "onnx")  # distributions that write the ONNX file, which comes first
RUN = "centermask predict --model {output}{device} --source IMAGES   # or: centermask benchmark ..."


def module(name: str) -> Callable[[Request], Written]:
    """`write` of a module of this package, imported when it writes: looking at the table needs no library."""

    def write(request: Request) -> Written:
        written: Written = importlib.import_module(f"centermask_export.{name}").write(request)
        return written

    return write


@dataclass(frozen=True)
class Engine:
    """A library that compiles a graph into an engine."""

    library: str  # its Python package
    name: str
    extra: str  # that installs it
    options: tuple[str, ...]  # of ExportOptions, that are for this library
    note: str  # why it takes no other
    needs_gpu: bool = False  # it builds on the GPU that will run the engine


TENSORRT = Engine(
    library="tensorrt",
    name="TensorRT",
    extra="trt",
    options=("workspace", "timing_cache", "version_compatible", "hardware_compatibility", "device"),
    note="TensorRT builds for the GPU of this machine",
    needs_gpu=True,
)
TENSORRT_RTX = Engine(
    library="tensorrt_rtx",
    name="TensorRT-RTX",
    extra="trt-rtx",
    options=("workspace", "targets"),
    note="TensorRT-RTX leaves timing and choice of kernels to the user's GPU",
)


@dataclass(frozen=True)
class Format:
    """What an artefact of one kind is, what it can hold, what writes it and what runs it."""

    name: str
    ending: str  # of the default name
    files: str  # that it is, for people
    runs_on: str
    write: Callable[[Request], Written]  # whole or not at all
    next: str  # a command for whoever has the {output} in its {folder}; {device}: an option where it needs a GPU
    precisions: tuple[str, ...] = PRECISIONS
    rounds: tuple[str, ...] = ()  # precisions that the writer makes of an fp32 graph; else the graph is rounded
    graphs: tuple[str, ...] = ("peaks",)
    dynamic: tuple[str, ...] = ()  # what may stay open: "batch", "imgsz"
    made_of_onnx: bool = True  # else of the weights themselves
    compared: str = ""  # what runs it here, to compare it with the weights; without it, its ONNX file is compared
    engine: Engine | None = None
    backends: Mapping[str, Engine | None] = field(default_factory=dict)  # that can serve it, and the engine of each
    packages: tuple[str, ...] = ONNX_FILE  # distributions that writing it needs
    extra: str = "export"  # that installs them

    @property
    def needs_gpu(self) -> bool:
        """Whether it is written on the GPU that runs it."""
        return self.engine is not None and self.engine.needs_gpu

    def engine_of(self, options: ExportOptions) -> Engine | None:
        """What builds an engine for these options; None where none is built."""
        return self.backends[options.backend] if self.backends else self.engine

    def graph_options(self, options: ExportOptions) -> ExportOptions:
        """The options of the ONNX file that comes first: its precision, where the writer rounds an fp32 graph."""
        return dataclasses.replace(options, precision="fp32") if options.precision in self.rounds else options

    def next_step(self, output: Path, options: ExportOptions) -> str:
        """The command for whoever has just got the artefact."""
        if self.ending == ".onnx" and options.precision == "bf16":  # for which ONNX Runtime has no kernels
            return f"centermask export --model {shlex.quote(str(output))} --format {TRT_RTX.name}"
        return self.next.format(
            output=shlex.quote(str(output)),
            folder=shlex.quote(str(output.parent)),
            device=" --device cuda" if options.graph == "heads" else "",
        )


ONNX = Format(
    name="onnx",
    ending=".onnx",
    files=".onnx",
    runs_on="ONNX Runtime: processors and GPUs",
    write=module("onnx_file"),
    next=RUN,
    graphs=("peaks", "heads"),
    dynamic=("batch", "imgsz"),
    compared="ONNX Runtime (bf16: OpenVINO; of level `heads`, or without OpenVINO, only PyTorch in bf16)",
)
OPENVINO = Format(
    name="openvino",
    ending=".xml",
    files=".xml, .bin",
    runs_on="OpenVINO: processors, Intel GPUs and NPUs",
    write=module("to_openvino"),
    next=RUN,
    rounds=("fp16", "bf16"),
    dynamic=("batch", "imgsz"),
    compared="OpenVINO",
    packages=(*ONNX_FILE, "openvino"),
    extra="export,openvino",
)
TORCHSCRIPT = Format(
    name="torchscript",
    ending=".torchscript",
    files=".torchscript",
    runs_on="PyTorch and libtorch: processors",
    write=module("to_torchscript"),
    next=RUN,
    precisions=("fp32",),
    made_of_onnx=False,
    compared="PyTorch",
    packages=("torch",),
)
TRT = Format(
    name="trt",
    ending=".engine",
    files=".engine, .json",
    runs_on="TensorRT: the kind of GPU it was built on",
    write=module("engines.to_tensorrt"),
    next=RUN,
    graphs=("peaks", "heads"),
    dynamic=("batch", "imgsz"),
    engine=TENSORRT,
    packages=(*ONNX_FILE, "tensorrt"),
    extra="export,trt",
)
TRT_RTX = Format(
    name="trt-rtx",
    ending="_rtx.engine",
    files=".engine, .json",
    runs_on="TensorRT-RTX: GeForce RTX GPUs",
    write=module("engines.to_tensorrt"),
    next=RUN,
    graphs=("peaks", "heads"),
    dynamic=("batch", "imgsz"),
    engine=TENSORRT_RTX,
    packages=(*ONNX_FILE, "tensorrt_rtx"),
    extra="export,trt-rtx",
)
TRITON = Format(
    name="triton",
    ending="_triton",
    files="folder",
    runs_on="Triton Inference Server, back end onnxruntime or tensorrt",
    write=module("to_triton"),
    next="tritonserver --model-repository={folder}",
    precisions=("fp32", "fp16", "int8"),  # ONNX Runtime has no kernels for bf16
    dynamic=("batch",),
    backends={"onnxruntime": None, "tensorrt": TENSORRT},
)
DEEPSTREAM = Format(
    name="deepstream",
    ending="_deepstream",
    files="folder",
    runs_on="DeepStream's nvinfer on NVIDIA GPUs; not yet tried on one",
    write=module("to_deepstream"),
    next="make -C {output}   # then name {output}/config_infer_centermask.txt in your pipeline",
    precisions=("fp32", "fp16", "int8"),  # nvinfer knows no other
    dynamic=("batch",),
)
FORMATS = {kind.name: kind for kind in (ONNX, OPENVINO, TORCHSCRIPT, TRT, TRT_RTX, TRITON, DEEPSTREAM)}
