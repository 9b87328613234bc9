# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as a Network: CPU by default, any execution provider that is asked for and really there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from centermask_runtime.closing import Closing
from centermask_runtime.errors import ModelError, UsageError, first_line
from centermask_runtime.networks.network import CLOSED, PEAKS_OUTPUTS, PeakOutputs
from centermask_runtime.spec import METADATA_KEY, ModelSpec

CPU = "CPUExecutionProvider"
TENSOR_TYPES = {name: "tensor(int32)" if name == "labels" else "tensor(float)" for name in PEAKS_OUTPUTS}
LOAD_ERRORS = (
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoSuchFile,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
)


class OnnxRuntimeNetwork(Closing):
    """An exported .onnx of graph level `peaks`. Outputs are new arrays at each call, from any thread."""

    def __init__(self, path: str | Path, *, threads: int | None = None, providers: Sequence[str] | None = None) -> None:
        """providers: ONNX Runtime's names, best first; None is the CPU. Raises ModelError."""
        path = Path(path)
        self._session: ort.InferenceSession | None = open_session(path, threads, tuple(providers or (CPU,)))
        self.spec = read_spec(self._session, path)
        self._sides = _check_graph(self._session, self.spec, path)
        self.batch = self._sides[0]
        self._input = self._session.get_inputs()[0].name
        used = ", ".join(name.removesuffix("ExecutionProvider") for name in self._session.get_providers())
        count = "" if threads is None else f", {threads} thread{'' if threads == 1 else 's'}"
        self.description = f"ONNX Runtime {ort.__version__} on {used}{count}"

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [N, H, W, 3] BGR: sizes as the graph fixes them; a dynamic side is a multiple of size_multiple.

        Raises ModelError.
        """
        session = self._session  # read once: another thread may close
        if session is None:
            raise UsageError(CLOSED)
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[3] != 3
            or any(side not in (None, got) for side, got in zip(self._sides, images.shape, strict=False))
            or any(got % self.spec.size_multiple for got in images.shape[1:3])
        ):
            wanted = ", ".join(
                name if side is None else str(side) for side, name in zip(self._sides, "NHW", strict=True)
            )
            raise ModelError(
                f"The network takes images uint8 [{wanted}, 3], not {images.dtype} "
                f"{list(images.shape)}; resize them, or export the model with another batch or input size."
            )
        try:
            outputs = session.run(PEAKS_OUTPUTS, {self._input: np.ascontiguousarray(images)})
        except LOAD_ERRORS as error:
            raise ModelError(f"ONNX Runtime failed while it ran the network: {first_line(error)}") from error
        return PeakOutputs(*outputs)

    def close(self) -> None:
        """Gives the session back, once the calls of other threads are done."""
        self._session = None


def read_spec(session: ort.InferenceSession, path: Path) -> ModelSpec:
    """The specification that the file carries. Raises ModelError."""
    about = session.get_modelmeta()
    return ModelSpec.of_artefact(about.custom_metadata_map.get(METADATA_KEY), str(path), about.producer_name)


def open_session(
    path: Path,
    threads: int | None,
    providers: tuple[str, ...],
    provider_options: Sequence[dict[str, str]] | None = None,
    configuration: Mapping[str, str] | None = None,
) -> ort.InferenceSession:
    """A session in which every provider asked for has really started. Raises ModelError.

    configuration: entries of ONNX Runtime's session options.
    """
    if not path.is_file():
        found = "it is a folder" if path.is_dir() else "there is no such file"
        raise ModelError(f"The model {path} cannot be read, {found}: give the path of an .onnx file.")
    offered = ort.get_available_providers()
    for name in providers:
        if name not in offered:
            raise ModelError(
                f"ONNX Runtime provider {name} was asked for, but this installation offers {', '.join(offered)}: "
                "install the onnxruntime package that has it, or ask for one of these."
            )
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what matters is raised below, in one sentence
    for key, value in (configuration or {}).items():
        options.add_session_config_entry(key, value)
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(str(path), options, list(providers), provider_options)
    except LOAD_ERRORS as error:
        raise ModelError(
            f"{path} is not an ONNX model that ONNX Runtime {ort.__version__} can load ({first_line(error)}): "
            "the file may be cut off or of another kind; export or copy it again."
        ) from error
    session.disable_fallback()  # else a provider that fails in a later run is replaced by the CPU
    for name in providers:
        if name not in session.get_providers():
            raise ModelError(
                f"ONNX Runtime provider {name} was asked for but could not start, only "
                f"{', '.join(session.get_providers())} did: check its driver and libraries, or ask for another."
            )
    return session


def _check_graph(session: ort.InferenceSession, spec: ModelSpec, path: Path) -> tuple[int | None, ...]:
    """Batch, height and width of the input, None where any will do."""
    if spec.graph_level != "peaks":
        raise ModelError(
            f"{path} ends at level '{spec.graph_level}', and ONNX Runtime needs level 'peaks': "
            "export the model again at that level."
        )
    found = {output.name: output.type for output in session.get_outputs()}
    if found != TENSOR_TYPES:
        wanted, got = (", ".join(f"{name} {kind}" for name, kind in types.items()) for types in (TENSOR_TYPES, found))
        raise ModelError(f"{path} must have the outputs {wanted}, but it has {got}: export the model again.")
    inputs = [(node.type, node.shape) for node in session.get_inputs()]
    expected = (*spec.input_hw, 3)
    if len(inputs) == 1 and inputs[0][0] == "tensor(uint8)" and len(inputs[0][1]) == 4:
        batch, *rest = inputs[0][1]
        if all(isinstance(side, str | None) or side == want for side, want in zip(rest, expected, strict=True)):
            return tuple(side if isinstance(side, int) else None for side in (batch, *rest[:2]))
    raise ModelError(
        f"{path} must take images uint8 [N, {', '.join(map(str, expected))}] as its specification says, "
        f"but it takes {inputs}: export the model again."
    )
