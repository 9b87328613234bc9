# SPDX-License-Identifier: Apache-2.0
"""The part of TensorRT's Python API that the export uses, recording what is asked: TensorRT itself needs a GPU.

Names and signatures are those of the TensorRT 10 and 11 documentation, which tensorrt_rtx, real in these tests, shares.
"""

from __future__ import annotations

import enum
import json
from types import SimpleNamespace
from typing import Any

__version__ = "10.13.0"
calls: list[tuple[Any, ...]] = []
state = SimpleNamespace(parses=True, builds=True, loads=True, cache_fits=True, inspected={"Layers": []})


class ILogger:
    ERROR, WARNING, INFO = 1, 2, 3

    def __init__(self) -> None:
        pass


class IProgressMonitor:
    def __init__(self) -> None:
        pass


NetworkDefinitionCreationFlag = enum.IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})
ProfilingVerbosity = enum.Enum("ProfilingVerbosity", ["DETAILED"])
MemoryPoolType = enum.Enum("MemoryPoolType", ["WORKSPACE"])
BuilderFlag = enum.Enum("BuilderFlag", ["VERSION_COMPATIBLE"])
HardwareCompatibilityLevel = enum.Enum("HardwareCompatibilityLevel", ["AMPERE_PLUS"])  # 10.0 knows no other
LayerInformationFormat = enum.Enum("LayerInformationFormat", ["JSON"])
LayerType = enum.Enum("LayerType", ["CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "DEQUANTIZE", "ACTIVATION"])


def tensor(name: str, dtype: str) -> Any:
    return SimpleNamespace(name=name, dtype=f"DataType.{dtype}")


def layer(kind: LayerType, source: Any, target: Any) -> Any:
    return SimpleNamespace(type=kind, get_input=lambda index: source, get_output=lambda index: target)


class Network:
    def __init__(self) -> None:
        half, whole = tensor("a", "HALF"), tensor("dq", "FLOAT")
        self.layers = [
            layer(LayerType.CONVOLUTION, half, tensor("b", "HALF")),
            layer(LayerType.ACTIVATION, half, tensor("c", "HALF")),
            layer(LayerType.DEQUANTIZE, tensor("q", "INT8"), whole),
            layer(LayerType.CONVOLUTION, whole, tensor("d", "FLOAT")),
            layer(LayerType.CONVOLUTION, whole, tensor("e", "FLOAT")),
            layer(LayerType.MATRIX_MULTIPLY, tensor("f", "BF16"), tensor("g", "BF16")),
        ]
        self.num_layers = len(self.layers)

    def get_layer(self, index: int) -> Any:
        return self.layers[index]


class OnnxParser:
    num_errors = 1

    def __init__(self, network: Network, logger: ILogger) -> None:
        pass

    def parse_from_file(self, path: str) -> bool:
        calls.append(("parse", path))
        return state.parses

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(node_operator=lambda: "Foo", desc=lambda: "no importer")


class Config:
    profiling_verbosity: Any = None
    progress_monitor: Any = None
    hardware_compatibility_level: Any = None

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        calls.append(("workspace", pool, size))

    def create_timing_cache(self, content: bytes) -> bytes:
        return content

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        calls.append(("timing_cache", cache, ignore_mismatch))
        return state.cache_fits

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: b"timed")

    def set_flag(self, flag: Any) -> None:
        calls.append(("flag", flag))

    def add_optimization_profile(self, profile: Any) -> int:
        calls.append(("profile", profile.shapes))
        return 0


class Builder:
    def __init__(self, logger: Any) -> None:
        self.logger = logger

    def create_network(self, flags: int) -> Network:
        calls.append(("network", flags))
        return Network()

    def create_builder_config(self) -> Config:
        return Config()

    def create_optimization_profile(self) -> Any:
        shapes: dict[str, Any] = {}
        return SimpleNamespace(shapes=shapes, set_shape=lambda name, *three: shapes.update({name: three}))

    def build_serialized_network(self, network: Network, config: Config) -> bytes | None:
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 2)
        monitor.phase_start("Tactics", "Building engine", 50)
        assert monitor.step_complete("Tactics", 0) and monitor.step_complete("Building engine", 0)
        monitor.phase_finish("Tactics")
        monitor.phase_finish("Building engine")
        calls.append(("build", config.profiling_verbosity, config.hardware_compatibility_level))
        self.logger.log(ILogger.INFO, "not worth keeping")
        self.logger.log(ILogger.ERROR, "no tactic\nwas found")
        return b"plan" if state.builds else None


class Runtime:
    engine_host_code_allowed = False

    def __init__(self, logger: Any) -> None:
        pass

    def deserialize_cuda_engine(self, plan: bytes) -> Any:
        calls.append(("load", plan, self.engine_host_code_allowed))
        inspector = SimpleNamespace(get_engine_information=lambda kind: json.dumps(state.inspected))
        return SimpleNamespace(create_engine_inspector=lambda: inspector) if state.loads else None
