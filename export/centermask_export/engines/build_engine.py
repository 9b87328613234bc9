# SPDX-License-Identifier: Apache-2.0
"""One engine, built by TensorRT 10 or 11 or by TensorRT-RTX: the program of the process that builds it.

A second build in one process gives other bytes than the first, so each has its own. Both libraries have the same
interface under two names. The request comes as a JSON file; progress goes to stdout, one JSON object a line; the plan
and what is known about it go to files. Neither torch nor a network is imported here.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1 << 30
PRECISION_NAMES = {  # of data types as the libraries and the inspector call them
    "fp32": "fp32", "float": "fp32", "float32": "fp32", "tf32": "fp32",
    "fp16": "fp16", "half": "fp16", "float16": "fp16",
    "bf16": "bf16", "bfloat16": "bf16", "int8": "int8", "fp8": "fp8",
}  # fmt: skip
WORK = re.compile(r"conv|gemm|matmul|matrix|fusion", re.IGNORECASE)  # layer types that compute


class BuildError(Exception):
    """The library refused the network or the build, in its own words."""


@dataclass(frozen=True)
class PlanRequest:
    module: str  # "tensorrt" or "tensorrt_rtx"
    onnx: str
    plan: str  # where to write it
    profiles: tuple[Mapping[str, tuple[tuple[int, ...], ...]], ...] = ()  # dynamic graphs: smallest, best, largest
    targets: tuple[str, ...] = ()
    workspace_gib: float | None = None
    timing_cache: str | None = None
    version_compatible: bool = False
    hardware_compatibility: str | None = None


@dataclass(frozen=True)
class PlanResult:
    version: str
    layers: int
    layer_precisions: dict[str, int]
    precisions_from: str
    warnings: tuple[str, ...] = ()

    @property
    def precision(self) -> str:
        """That most convolutions and matrix products have; of as many, the lower."""
        order = ("int8", "fp8", "fp16", "bf16", "fp32")
        known = {name: self.layer_precisions.get(name, 0) for name in order}
        return max(order, key=lambda name: known[name])


BuildProgress = Callable[[str, int, int], None]  # phase, steps done, steps in all


def build(trt: Any, request: PlanRequest, report: BuildProgress) -> tuple[bytes, PlanResult]:
    """Parses, configures, builds, reads back. trt: the library. Raises BuildError."""
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(request.onnx):
        reasons = [parser.get_error(index) for index in range(parser.num_errors)]
        errors = [f"{error.node_operator()}: {error.desc()}" for error in reasons]
        raise BuildError(f"its parser refuses the graph: {'; '.join(errors) or 'without a reason'}")
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # what the inspector can tell of layers
    config.progress_monitor = _monitor(trt, report)
    _configure(trt, config, request)
    for shapes in request.profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, best, largest) in shapes.items():
            profile.set_shape(name, smallest, best, largest)
        if config.add_optimization_profile(profile) < 0:
            raise BuildError(f"it refuses the profile {shapes}")
    precisions = network_precisions(trt, network)
    layers = network.num_layers
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError("; ".join(logger.messages[-3:]) or "it gives no reason")
    content = bytes(plan)
    if request.timing_cache is not None:
        Path(request.timing_cache).write_bytes(bytes(config.get_timing_cache().serialize()))
    inspected = inspect(trt, logger, content, request) if request.module == "tensorrt" else None
    found, origin = (precisions, "network") if inspected is None else (inspected, "inspector")
    return content, PlanResult(trt.__version__, layers, found, origin, tuple(logger.messages))


def _configure(trt: Any, config: Any, request: PlanRequest) -> None:
    if request.workspace_gib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(request.workspace_gib * GIB))
    if request.targets:
        config.num_compute_capabilities = len(request.targets)
        for index, target in enumerate(request.targets):
            if not config.set_compute_capability(getattr(trt.ComputeCapability, target.upper()), index):
                raise BuildError(f"it does not build for {target}")
    if request.timing_cache is not None:
        path = Path(request.timing_cache)
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        if not config.set_timing_cache(cache, ignore_mismatch=False):
            raise BuildError(f"the timing cache {path} is of another GPU or version; remove it or name another")
    if request.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if request.hardware_compatibility is not None:
        name = {"ampere+": "AMPERE_PLUS", "same-compute-capability": "SAME_COMPUTE_CAPABILITY"}
        level = getattr(trt.HardwareCompatibilityLevel, name[request.hardware_compatibility], None)
        if level is None:
            raise BuildError(
                f"version {trt.__version__} does not know hardware compatibility {request.hardware_compatibility}"
            )
        config.hardware_compatibility_level = level


def network_precisions(trt: Any, network: Any) -> dict[str, int]:
    """Convolutions and matrix products by type of input, int8 after a dequantise: a typed network is built as it is."""
    kinds = trt.LayerType
    work = (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY)
    counts: Counter[str] = Counter()
    dequantised: set[str] = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == kinds.DEQUANTIZE:
            dequantised.add(layer.get_output(0).name)
        elif layer.type in work:
            tensor = layer.get_input(0)
            precision = "int8" if tensor.name in dequantised else _precision_of(str(tensor.dtype))
            counts[precision or "other"] += 1
    return dict(counts)


def inspect(trt: Any, logger: Any, plan: bytes, request: PlanRequest) -> dict[str, int] | None:
    """The same of the built engine, where layers are fused and kernels chosen; None where it says nothing of types."""
    runtime = trt.Runtime(logger)
    if request.version_compatible:
        runtime.engine_host_code_allowed = True  # the engine carries its own lean runtime
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BuildError(f"the engine it built cannot be loaded: {'; '.join(logger.messages[-2:])}")
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return inspected_precisions(text) or None


def inspected_precisions(text: str) -> dict[str, int]:
    """Layers that compute, by the type of their first input; TensorRT 10 and 11 name the field differently."""
    counts: Counter[str] = Counter()
    for layer in json.loads(text).get("Layers", []):
        if not isinstance(layer, dict) or not WORK.search(
            f"{layer.get('LayerType', '')} {layer.get('TacticName', '')}"
        ):
            continue
        inputs = layer.get("Inputs") or [{}]
        kind = inputs[0].get("DataType") or inputs[0].get("Datatype") or inputs[0].get("Format/Datatype") or ""
        if precision := _precision_of(kind):
            counts[precision] += 1
    return dict(counts)


def _precision_of(words: str) -> str | None:
    """The precision that a type's name holds: 'DataType.HALF', 'Row major linear FP16 format', 'Int8'."""
    for word in re.findall(r"[a-z0-9]+", words.lower()):
        if word in PRECISION_NAMES:
            return PRECISION_NAMES[word]
    return None


def _logger(trt: Any) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        """Keeps warnings and errors; they are shown where the build fails."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING:
                self.messages.append(" ".join(message.split()))

    return Logger()


def _monitor(trt: Any, report: BuildProgress) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Reports the outermost phase; inner ones are many and short."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            if parent_phase is None:
                self.steps[phase_name] = num_steps
                report(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.steps:
                report(phase_name, step + 1, self.steps[phase_name])
            return True

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.steps:
                report(phase_name, self.steps[phase_name], self.steps[phase_name])

    return Monitor()


def _from_json(text: str) -> PlanRequest:
    values = json.loads(text)
    values["profiles"] = tuple(
        {name: tuple(tuple(shape) for shape in shapes) for name, shapes in profile.items()}
        for profile in values["profiles"]
    )
    values["targets"] = tuple(values["targets"])
    return PlanRequest(**values)


def main(request_file: str, result_file: str) -> int:
    """Exit code 0, or 1 with the reason in the result file."""
    request = _from_json(Path(request_file).read_text())

    def report(phase: str, step: int, steps: int) -> None:
        print(json.dumps({"phase": phase, "step": step, "steps": steps}), flush=True)

    try:
        plan, result = build(importlib.import_module(request.module), request, report)
    except BuildError as error:
        Path(result_file).write_text(json.dumps({"error": str(error)}))
        return 1
    Path(request.plan).write_bytes(plan)
    Path(result_file).write_text(json.dumps(dataclasses.asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
