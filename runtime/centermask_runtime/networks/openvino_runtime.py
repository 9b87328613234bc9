# SPDX-License-Identifier: Apache-2.0
"""OpenVINO as a Network: an IR (.xml and .bin) that `centermask export` wrote, on the CPU or another device.

The specification and the SHA-256 of the .bin are in the .xml's rt_info: an .xml beside the weights of another model
would load, and give nonsense.

Arithmetic is float32 unless the specification's precision is bf16. On processors with bf16 units OpenVINO itself would
choose bf16, which moves boxes and scores.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from centermask_runtime.checksum import sha256_of
from centermask_runtime.closing import Closing
from centermask_runtime.errors import ModelError, UsageError
from centermask_runtime.networks.network import CLOSED, PEAKS_OUTPUTS, PeakOutputs
from centermask_runtime.spec import METADATA_KEY, ModelSpec

WEIGHTS_KEY = "centermask_weights_sha256"


class OpenVinoNetwork(Closing):
    """An .xml of graph level `peaks`. Outputs belong to the network; the same thread's next call overwrites them.

    Each thread that calls has a request of its own on the same compiled model.
    """

    def __init__(self, path: str | Path, *, threads: int | None = None, device: str = "CPU") -> None:
        """path: the .xml; its .bin lies beside it. device: OpenVINO's name for it.

        Raises ModelError, and UsageError in a process that was forked after OpenVINO was used.
        """
        path = Path(path)
        _refuse_after_fork()
        core = ov.Core()
        model = _read(core, path)
        text = model.get_rt_info([METADATA_KEY]).astype(str) if model.has_rt_info([METADATA_KEY]) else None
        self.spec = ModelSpec.of_artefact(text, str(path))
        _check_weights(model, path)
        _check_graph(model, self.spec, path)
        self._shape = model.input(0).get_partial_shape()
        images = self._shape[0]
        self.batch = None if images.is_dynamic else int(images.get_length())
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "bf16" if self.spec.precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        if device not in core.available_devices:
            raise ModelError(
                f"OpenVINO device {device} was asked for, but this machine offers {', '.join(core.available_devices)}: "
                "install its driver, or ask for one of these."
            )
        try:
            compiled = core.compile_model(model, device, options)
        except RuntimeError as error:
            raise ModelError(
                f"OpenVINO {_version()} cannot run {path} on {device} ({_reason(error)}): export the model again."
            ) from error
        self._compiled: Any = compiled
        self._of_thread = threading.local()
        precision = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        count = "" if threads is None else f", {threads} thread{'' if threads == 1 else 's'}"
        self.description = f"OpenVINO {_version()} on {device} in {precision}{count}"

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [N, H, W, 3] BGR. Raises ModelError when the graph has another batch or image size."""
        compiled = self._compiled  # read once: another thread may close
        if compiled is None:
            raise UsageError(CLOSED)
        _refuse_after_fork()
        if images.dtype != np.uint8 or not self._shape.compatible(ov.PartialShape(list(images.shape))):
            raise ModelError(
                f"The network takes images uint8 {self._shape.to_string()}, not {images.dtype} {list(images.shape)}; "
                "resize them, or export the model with another batch or input size."
            )
        try:
            request = self._request(compiled)
            request.infer({0: np.ascontiguousarray(images)}, share_inputs=True)
        except RuntimeError as error:
            raise ModelError(f"OpenVINO failed while it ran the network: {_reason(error)}") from error
        return PeakOutputs(*(request.get_tensor(name).data for name in PEAKS_OUTPUTS))

    def close(self) -> None:
        """Gives the compiled model back, once the calls of other threads are done."""
        self._compiled, self._of_thread = None, threading.local()

    def _request(self, compiled: Any) -> Any:
        """The calling thread's own."""
        request = getattr(self._of_thread, "request", None)
        if request is None:
            request = self._of_thread.request = compiled.create_infer_request()
        return request


_process: int | None = None  # the one that began to use OpenVINO


def _refuse_after_fork() -> None:
    """Raises UsageError in a child of the process that began: OpenVINO's threads and locks would let it wait for ever.

    That is so of new models, too: the library has one set of them per process.
    """
    global _process
    _process = _process or os.getpid()
    if _process != os.getpid():
        raise UsageError("OpenVINO models do not outlive a fork: start workers with spawn, or open them there first.")


def _version() -> str:
    return str(ov.__version__).partition("-")[0]


def _reason(error: RuntimeError) -> str:
    """OpenVINO's messages begin with source lines; the cause is the last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else type(error).__name__


def _read(core: ov.Core, path: Path) -> ov.Model:
    weights = path.with_suffix(".bin")
    for file in (path, weights):
        if not file.is_file():
            raise ModelError(
                f"The OpenVINO model {path} cannot be read, there is no file {file}: give the .xml that "
                "`centermask export --format openvino` wrote, with its .bin beside it."
            )
    try:
        return core.read_model(path, weights)
    except RuntimeError as error:
        raise ModelError(
            f"{path} is not a model that OpenVINO {_version()} can load ({_reason(error)}): "
            "the file may be cut off or of another kind; export or copy it again."
        ) from error


def _check_weights(model: ov.Model, path: Path) -> None:
    weights = path.with_suffix(".bin")
    expected = model.get_rt_info([WEIGHTS_KEY]).astype(str) if model.has_rt_info([WEIGHTS_KEY]) else ""
    found = sha256_of(weights)
    if found != expected:
        raise ModelError(
            f"{weights} does not belong to {path.name}, its SHA-256 begins with {found[:12]} and not with "
            f"{expected[:12] or 'anything recorded'}: copy both files again, or export the model again."
        )


def _check_graph(model: ov.Model, spec: ModelSpec, path: Path) -> None:
    if spec.graph_level != "peaks":
        raise ModelError(
            f"{path} ends at level '{spec.graph_level}', and OpenVINO needs level 'peaks': "
            "export the model again at that level."
        )
    found = {name for output in model.outputs for name in output.get_names()}
    if not found.issuperset(PEAKS_OUTPUTS) or len(model.outputs) != len(PEAKS_OUTPUTS):
        raise ModelError(
            f"{path} must have the outputs {', '.join(PEAKS_OUTPUTS)}, but it has {', '.join(sorted(found))}: "
            "export the model again."
        )
    expected = ov.PartialShape([-1, *spec.input_hw, 3])
    inputs = [(node.get_element_type(), node.get_partial_shape()) for node in model.inputs]
    if len(inputs) != 1 or inputs[0][0] != ov.Type.u8 or not inputs[0][1].compatible(expected):
        got = ", ".join(f"{kind.get_type_name()} {shape.to_string()}" for kind, shape in inputs)
        raise ModelError(
            f"{path} must take images uint8 [N, {spec.input_hw[0]}, {spec.input_hw[1]}, 3] as its specification says, "
            f"but it takes {got}: export the model again."
        )
