# SPDX-License-Identifier: Apache-2.0
"""ONNX -> an engine of TensorRT or TensorRT-RTX: a plain plan that trtexec and Triton load, and its `<engine>.json`.

TensorRT needs the GPU that will run the engine. TensorRT-RTX needs none: kernels are compiled on the user's machine.
Neither is ever built in place of the other.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from centermask_export.engines.build_engine import BuildProgress, PlanRequest, PlanResult
from centermask_export.engines.engine_file import BuiltEngine, EngineDescription, Profile, write_engine
from centermask_export.formats import FORMATS
from centermask_export.onnx_file import read_graph
from centermask_export.options import ExportOptions
from centermask_export.request import Request, Written
from centermask_runtime.checksum import sha256_of
from centermask_runtime.cuda.facts import Gpu
from centermask_runtime.errors import ExportError, UsageError
from centermask_runtime.spec import ModelSpec

ANY_TARGET = "Ampere and newer (sm80 and up)"  # what TensorRT-RTX builds for when no target is named


def write(request: Request) -> Written:
    """Writes the engine of a request, named by the precision that it was built in."""
    plan, engine = build(request.source, request.spec, request.options, request.gpu, request.progress)
    precision = engine.description.precision
    output = request.target.path(request.options, precision)
    write_engine(plan, output, engine.description)
    return Written(output, precision, engine)


def write_tensorrt(
    onnx_file: Path,
    spec: ModelSpec,
    output: Path,
    options: ExportOptions,
    *,
    gpu: Gpu | None = None,
    progress: BuildProgress | None = None,
) -> BuiltEngine:
    """Builds in a fresh process and writes `output` and `<output>.json`. gpu: that TensorRT builds on.

    Raises ExportError with the library's reason.
    """
    plan, engine = build(onnx_file, spec, options, gpu, progress)
    write_engine(plan, output, engine.description)
    return engine


def build(
    onnx_file: Path, spec: ModelSpec, options: ExportOptions, gpu: Gpu | None, progress: BuildProgress | None
) -> tuple[bytes, BuiltEngine]:
    """The plan, and what is known of it. Raises ExportError."""
    engine = FORMATS[options.format].engine_of(options)
    assert engine is not None, options.format
    profile = profile_of(onnx_file, options)
    dynamic = any(low != high for low, _, high in profile.values())
    with tempfile.TemporaryDirectory(prefix="centermask-") as folder:
        plan_file = Path(folder) / "plan"
        request = PlanRequest(
            engine.library, str(onnx_file.resolve()), str(plan_file), (profile,) if dynamic else (), options.targets,
            options.workspace, None if options.timing_cache is None else str(options.timing_cache.resolve()),
            options.version_compatible, options.hardware_compatibility,
        )  # fmt: skip
        result = _build(request, Path(folder), options.device if engine.needs_gpu else None, progress)
        plan = plan_file.read_bytes()
        plan_sha256 = sha256_of(plan_file)
    if engine.needs_gpu:
        built_for = "unknown" if gpu is None else f"{gpu.name} ({gpu.architecture})"
    else:
        built_for = ", ".join(options.targets) or ANY_TARGET
    description = EngineDescription(
        spec=dataclasses.replace(spec, precision=result.precision),
        builder=engine.name, builder_version=result.version, targets=options.targets, gpu=built_for,
        precision=result.precision, layer_precisions=result.layer_precisions, precisions_from=result.precisions_from,
        source_sha256=sha256_of(onnx_file), plan_sha256=plan_sha256, profiles=(profile,),
        options={
            "workspace_gib": options.workspace, "version_compatible": options.version_compatible,
            "hardware_compatibility": options.hardware_compatibility,
        },
    )  # fmt: skip
    return plan, BuiltEngine(description, result.warnings)


def profile_of(onnx_file: Path, options: ExportOptions) -> Profile:
    """The shapes that the graph's input may have: smallest, the one to tune for, largest. Raises UsageError."""
    (image,) = read_graph(onnx_file, weights=False).graph.input
    fixed = [side.dim_value for side in image.type.tensor_type.shape.dim]  # 0: dynamic
    if not fixed[1] and options.dynamic_imgsz is None:
        raise UsageError(
            f"{onnx_file} takes images of any size; dynamic_imgsz must say which: the smallest, the best, the largest."
        )
    # the batch that people run most is the one that they name
    batches = (1, options.batch, options.batch) if not fixed[0] else (fixed[0],) * 3
    sizes = options.dynamic_imgsz if not fixed[1] and options.dynamic_imgsz else ((fixed[1], fixed[2]),) * 3
    low, best, high = ((batch, *size, 3) for batch, size in zip(batches, sizes, strict=True))
    return {image.name: (low, best, high)}


def _build(request: PlanRequest, folder: Path, device: int | None, progress: BuildProgress | None) -> PlanResult:
    request_file, result_file, log_file = folder / "request.json", folder / "result.json", folder / "log.txt"
    request_file.write_text(json.dumps(dataclasses.asdict(request)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    if device is not None:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # device counts among these, if there are any
        environment["CUDA_VISIBLE_DEVICES"] = visible[device] if device < len(visible) and visible[0] else str(device)
    command = [sys.executable, "-m", "centermask_export.engines.build_engine", str(request_file), str(result_file)]
    with (
        log_file.open("wb") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, env=environment, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if progress is not None and line.startswith('{"phase"'):
                    step = json.loads(line)
                    progress(step["phase"], step["step"], step["steps"])
        except BaseException:
            process.kill()
            raise
    values = json.loads(result_file.read_text()) if result_file.is_file() else {}
    if process.returncode == 0:
        return PlanResult(**{**values, "warnings": tuple(values["warnings"])})
    last = log_file.read_text(errors="replace").strip().splitlines()[-1:]
    reason = values.get("error") or " ".join(last) or f"it ended with status {process.returncode}"
    raise ExportError(
        f"{request.module} did not build an engine of {request.onnx}: {reason.rstrip('.')}; nothing was written."
    )
