# SPDX-License-Identifier: Apache-2.0
"""A checked ONNX file -> what the format wants of it. No torch: an ONNX file becomes an engine where it will run."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from centermask_export.engines.to_tensorrt import BuiltEngine, Progress, require_builder, write_tensorrt
from centermask_export.gpu import Gpu
from centermask_export.onnx_file import data_file, read_graph, read_spec
from centermask_export.options import ENGINES, ExportOptions
from centermask_runtime.errors import UsageError
from centermask_runtime.networks.network import Network
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.spec import ModelSpec

ENDINGS = {
    "onnx": ".onnx", "trt": ".engine", "trt-rtx": "_rtx.engine", "openvino": ".xml", "torchscript": ".torchscript",
    "triton": "_triton", "deepstream": "_deepstream",
}  # fmt: skip
TRITON_BATCH = 8  # largest batch that Triton collects for a dynamic graph, unless --batch says otherwise


@dataclass(frozen=True)
class Written:
    """What a conversion made."""

    output: Path
    precision: str
    engine: BuiltEngine | None = None


def default_name(stem: str, options: ExportOptions, precision: str | None = None) -> str:
    """File name of an artefact: precision other than fp32 and graph level other than peaks are in it."""
    precision = precision or options.precision
    tags = ("" if precision == "fp32" else f"_{precision}") + ("_heads" if options.graph == "heads" else "")
    return f"{stem}{tags}{ENDINGS[options.format]}"


def convert_onnx(
    onnx_file: Path, folder: Path, output: Path | None, options: ExportOptions, *, progress: Progress | None = None
) -> Written:
    """An exported ONNX file -> a format made from it, in `folder` under its default name unless `output` names it.

    Raises UsageError where the options ask for another graph than the file has.
    """
    spec = read_spec(onnx_file)
    options = _fitting(onnx_file, spec, options)
    gpu = require_engine_builder(options, onnx_file)
    return write_artefact(onnx_file, spec, folder, onnx_file.stem, output, options, gpu=gpu, progress=progress)


def require_engine_builder(options: ExportOptions, model: Path) -> Gpu | None:
    """As require_builder, for formats that hold an engine; names the same command for the machine with a GPU."""
    with_plan = options.format == "triton" and options.backend == "tensorrt"
    if options.format not in ENGINES and not with_plan:
        return None
    words = ["centermask export --model", str(model), "--format", options.format]
    words += ["--backend", options.backend] if with_plan else []
    words += ["--precision", options.precision] if options.precision != "fp32" else []
    words += ["--calib-data", str(options.calib_data)] if options.calib_data else []
    return require_builder(options, " ".join(words))


def write_artefact(
    onnx_file: Path,
    spec: ModelSpec,
    folder: Path,
    stem: str,
    output: Path | None,
    options: ExportOptions,
    *,
    gpu: Gpu | None = None,
    progress: Progress | None = None,
) -> Written:
    """All formats but onnx and torchscript. An engine is named by the precision it was built in, unless `output` is."""
    target = output or folder / default_name(stem, options)
    if options.format in ENGINES:
        with workshop(target) as shop:
            draft = shop / "engine"
            engine = write_tensorrt(onnx_file, spec, draft, options, gpu=gpu, progress=progress)
            precision = engine.description.precision
            target = output or folder / default_name(stem, options, precision)
            publish(draft, target)
        return Written(target, precision, engine)
    if options.format == "openvino":
        from centermask_export.to_openvino import write_openvino

        return Written(write_openvino(onnx_file, spec, target, precision=options.precision), options.precision)
    if options.format == "deepstream":
        from centermask_export.to_deepstream import write_deepstream

        return Written(write_deepstream(onnx_file, spec, target), options.precision)
    from centermask_export.to_triton import write_triton

    assert options.format == "triton", options.format
    most = options.batch if options.batch > 1 else TRITON_BATCH
    if options.backend == "onnxruntime":
        return Written(write_triton(onnx_file, spec, target, max_batch=most), options.precision)
    with tempfile.TemporaryDirectory(prefix="centermask-") as temporary:
        plan = Path(temporary) / "model.plan"
        engine = write_tensorrt(onnx_file, spec, plan, options, gpu=gpu, progress=progress)
        folder = write_triton(onnx_file, spec, target, plan=plan, max_batch=options.batch)
    return Written(folder, engine.description.precision, engine)


@contextlib.contextmanager
def workshop(output: Path) -> Iterator[Path]:
    """A folder beside `output` for drafts of it, gone in the end. Raises UsageError where none can be made."""
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".draft", dir=output.parent))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{output} cannot be written, {reason}: choose another output.") from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(draft: Path, output: Path) -> None:
    """Gives a draft and the file beside it (<draft>.json, <draft>.data, .bin) their names, the main one last."""
    if output.is_dir():
        raise UsageError(f"{output} cannot be written, it is a folder: choose another output.")
    beside = [draft.with_name(f"{draft.name}{ending}") for ending in (".json", ".data")]
    stale = output.suffix == ".onnx" and not data_file(draft).is_file()  # weights of a larger model that was here
    for file in (*beside, draft.with_suffix(".bin")):
        if file.is_file() and file != draft:
            name = f"{output.name}{file.suffix}" if file in beside else output.with_suffix(file.suffix).name
            os.replace(file, output.with_name(name))
    os.replace(draft, output)
    if stale:
        data_file(output).unlink(missing_ok=True)


def openvino_network(onnx_file: Path, spec: ModelSpec, folder: Path) -> Network | None:
    """The same graph run by OpenVINO, for what ONNX Runtime cannot run; None where OpenVINO is not installed."""
    if importlib.util.find_spec("openvino") is None:
        return None
    from centermask_export.to_openvino import write_openvino
    from centermask_runtime.networks.openvino_runtime import OpenVinoNetwork

    return OpenVinoNetwork(write_openvino(onnx_file, spec, folder / "check.xml", precision=spec.precision))


def open_artefact(written: Path, format_: str) -> Network | None:
    """What runs the artefact on this machine's CPU; None where nothing does."""
    if format_ == "onnx":
        return OnnxRuntimeNetwork(written)
    if format_ == "openvino":
        from centermask_runtime.networks.openvino_runtime import OpenVinoNetwork

        return OpenVinoNetwork(written)
    return None


def _fitting(onnx_file: Path, spec: ModelSpec, options: ExportOptions) -> ExportOptions:
    """The options with what the file has already. Raises UsageError where they ask for something else."""
    asked_for = {
        "--precision": options.precision not in ("fp32", spec.precision)
        and not (options.format == "openvino" and spec.precision == "fp32" and options.precision != "int8"),
        "--graph": options.graph not in ("peaks", spec.graph_level),
        "--imgsz": options.imgsz is not None and options.imgsz != spec.input_hw,
        "--opset": options.opset is not None,
    }
    for flag, differs in asked_for.items():
        if differs:
            raise UsageError(
                f"{flag} cannot change {onnx_file}, which is exported already ({spec.precision}, level "
                f"{spec.graph_level}, {spec.input_hw[0]}x{spec.input_hw[1]}); give --model the .safetensors weights."
            )
    (image,) = read_graph(onnx_file, weights=False).graph.input
    fixed, *sides = (side.dim_value for side in image.type.tensor_type.shape.dim)
    if fixed and (options.dynamic or options.batch not in (1, fixed)):
        raise UsageError(
            f"{onnx_file} takes batches of {fixed} only; export it again from the weights with --dynamic or --batch."
        )
    if options.dynamic_imgsz is not None and all(sides):
        raise UsageError(
            f"{onnx_file} takes images of {sides[0]}x{sides[1]} only; export it again from the weights with "
            "--dynamic-imgsz."
        )
    keeps = options.format == "openvino" and spec.precision == "fp32"
    precision = options.precision if keeps else spec.precision
    return dataclasses.replace(options, precision=precision, graph=spec.graph_level)
