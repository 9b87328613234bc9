# SPDX-License-Identifier: Apache-2.0
"""TensorRT and TensorRT-RTX engines as GpuNetworks: one engine, one execution context per video stream.

The two libraries have the same interface under two names; the record beside the engine says which one built it. The
memory that a context works in is taken from the driver layer, so that it is counted, freed with the network, and there
before a CUDA graph is captured.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from centermask_runtime.closing import Closing
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.layouts import outputs_layout
from centermask_runtime.errors import CenterMaskError, ModelError, first_line
from centermask_runtime.networks.engine_record import EngineRecord, read_record
from centermask_runtime.networks.gpu_network import INPUT_NAME, OUTPUT_NAMES
from centermask_runtime.packages import install_command

LIBRARIES = {"tensorrt": "trt", "tensorrt_rtx": "trt-rtx"}  # import name -> our extra
DYNAMIC = -1  # TensorRT's word for a dimension that the profile leaves open


class TensorRTEngine(Closing):
    """A plan on the device. Make a network of it for each video stream; they share the weights."""

    def __init__(self, path: str | Path, driver: Driver, *, library: Any = None) -> None:
        """library: the imported TensorRT module, chosen by the engine's record when None. Raises ModelError."""
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"There is no engine {path}: give the path of a file that `centermask export` wrote.")
        self.path = path
        self.record = read_record(path)
        self.spec = self.record.spec
        self.driver = driver
        self._trt = library if library is not None else _library(self.record, path)
        self.messages = _messages(self._trt)
        driver.synchronize(0)  # makes the device's context current on this thread, which TensorRT works in
        self._runtime = self._trt.Runtime(self.messages)
        if self.record.version_compatible:
            self._runtime.engine_host_code_allowed = True  # the plan carries its own lean runtime
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ModelError(
                f"{self._trt.__name__} {self._trt.__version__} on {driver.name} cannot load {path}, built by "
                f"{self.record.builder} {self.record.builder_version} on {self.record.gpu} ({self.messages.last}): "
                "export the engine on this machine."
            )
        self._check()

    def network(self, batch: int | None = None) -> TensorRTNetwork:
        """A context of its own for images of one batch size; None is the engine's own, or 1 where it takes several.

        Raises ModelError when no profile takes that.
        """
        assert self._engine is not None, "network after close"
        if batch is None:
            own = int(self._engine.get_tensor_shape(INPUT_NAME)[0])
            batch = 1 if own == DYNAMIC else own
        return TensorRTNetwork(self, self._engine, self._trt, batch, self._profile_for((batch, *self.spec.input_hw, 3)))

    def close(self) -> None:
        """After its networks."""
        self._engine = self._runtime = None

    def _check(self) -> None:
        """Names, kinds and types of inputs and outputs are what the record says."""
        trt, engine = self._trt, self._engine
        wanted = {INPUT_NAME: (trt.TensorIOMode.INPUT, trt.DataType.UINT8)}
        for name, field in outputs_layout(self.spec, 1).fields.items():
            kind = trt.DataType.INT32 if field.dtype == np.int32 else trt.DataType.FLOAT
            wanted[name] = trt.TensorIOMode.OUTPUT, kind
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        found = {name: (engine.get_tensor_mode(name), engine.get_tensor_dtype(name)) for name in names}
        if found != wanted:
            raise ModelError(
                f"{self.path} must take '{INPUT_NAME}' uint8 and give {', '.join(OUTPUT_NAMES[self.spec.graph_level])} "
                f"as its record says, but it has {_described(found)}: export the engine again."
            )

    def _profile_for(self, shape: tuple[int, ...]) -> int:
        """The optimization profile that takes images of this shape, the one tuned for it where there is one."""
        engine = self._engine
        if DYNAMIC not in tuple(engine.get_tensor_shape(INPUT_NAME)):
            fixed = tuple(engine.get_tensor_shape(INPUT_NAME))
            if fixed != shape:
                raise ModelError(f"{self.path} takes images {_by(fixed)}, not {_by(shape)}: export it for that size.")
            return 0
        ranges = []
        for profile in range(engine.num_optimization_profiles):
            low, best, high = (tuple(side) for side in engine.get_tensor_profile_shape(INPUT_NAME, profile))
            ranges.append((low, best, high))
            if best == shape:
                return profile
        for profile, (low, _, high) in enumerate(ranges):
            if all(a <= side <= b for a, side, b in zip(low, shape, high, strict=True)):
                return profile
        offered = "; ".join(f"{_by(low)} to {_by(high)}" for low, _, high in ranges)
        raise ModelError(
            f"{self.path} takes images {offered}, not {_by(shape)}: export it with a profile for that size."
        )


class TensorRTNetwork:
    """One execution context with its profile, shapes and working memory set."""

    stream: int | None = None

    def __init__(self, owner: TensorRTEngine, engine: Any, trt: Any, batch: int, profile: int) -> None:
        self.spec, self.batch = owner.spec, batch
        self.profile = profile
        self.description = f"{owner.record.builder} {trt.__version__} engine, {owner.record.precision}"
        self._owner: TensorRTEngine | None = owner  # keeps the engine while it is needed
        self._path, self._messages, self._driver = owner.path, owner.messages, owner.driver
        self._addresses: dict[str, int] = {}
        self._memory = 0
        self._driver.synchronize(0)  # as for the engine: this thread may be another, or have been given another context
        self._context = engine.create_execution_context(trt.ExecutionContextAllocationStrategy.USER_MANAGED)
        if self._context is None:
            raise self._failure("no execution context can be made")
        stream = self._driver.create_stream()
        try:
            if not self._context.set_optimization_profile_async(profile, stream):
                raise self._failure(f"profile {profile} cannot be set")
            self._driver.synchronize(stream)
        finally:
            self._driver.destroy_stream(stream)
        if not self._context.set_input_shape(INPUT_NAME, (batch, *self.spec.input_hw, 3)):
            raise self._failure("the input shape cannot be set")
        nbytes = int(engine.get_device_memory_size_for_profile_v2(profile))
        if nbytes:
            self._memory = self._driver.allocate(nbytes)
            self._context.set_device_memory(self._memory, nbytes)

    def enqueue(self, images: int, outputs: Mapping[str, int], stream: int) -> None:
        addresses = {INPUT_NAME: images, **{name: outputs[name] for name in OUTPUT_NAMES[self.spec.graph_level]}}
        if addresses != self._addresses:
            for name, address in addresses.items():
                if not self._context.set_tensor_address(name, address):
                    raise self._failure(f"the address of '{name}' cannot be set")
            self._addresses = addresses
        if not self._context.execute_async_v3(stream_handle=stream):
            raise self._failure("enqueueV3 failed")

    def capture_refusal(self, stream: int) -> str | None:
        ask = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX: not every engine can be captured
        if ask is None or ask(stream):
            return None
        return f"{self.description} says that its work cannot be captured"

    def close(self) -> None:
        """Gives the working memory back, and the engine with its last network. Twice is once."""
        self._context = self._owner = None
        if self._memory:
            self._driver.free(self._memory)
            self._memory = 0

    def _failure(self, what: str) -> CenterMaskError:
        return CenterMaskError(f"The engine {self._path} did not run, {what}: {self._messages.last}.")


def _library(record: EngineRecord, path: Path) -> Any:
    name = record.builder.lower().replace("-", "_")
    if name not in LIBRARIES:
        raise ModelError(
            f"{path} was built by '{record.builder}', which this release does not know: update centermask."
        )
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(
            f"{path} needs {record.builder}, which cannot be loaded ({first_line(error)}): "
            f"{install_command(LIBRARIES[name])}."
        ) from error


def _messages(trt: Any) -> Any:
    """A logger for TensorRT that prints nothing and keeps the last error for our own message."""

    class Messages(trt.ILogger):  # type: ignore[misc]  # the base class is known only when the library is
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.last = "TensorRT says nothing"

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.last = message.strip().rstrip(".")

    return Messages()


def _described(tensors: Mapping[str, tuple[Any, Any]]) -> str:
    return ", ".join(f"{mode.name.lower()} '{name}' {kind.name.lower()}" for name, (mode, kind) in tensors.items())


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
