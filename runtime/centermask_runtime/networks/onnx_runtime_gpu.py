# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime as a GpuNetwork: inputs and outputs bound to device memory, work on the pipeline's own stream.

ONNX Runtime falls back to the CPU without a word when a provider cannot start; here that is an error. Single nodes that
a provider does not take go to the CPU too, with a copy and a wait each: the description says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

from centermask_runtime.cuda.layouts import outputs_layout
from centermask_runtime.errors import ModelError, UsageError, first_line
from centermask_runtime.networks.gpu_network import INPUT_NAME, OUTPUT_NAMES
from centermask_runtime.networks.onnx_runtime import CPU, LOAD_ERRORS, open_session, read_spec

CUDA = "CUDAExecutionProvider"
DEVICE_TYPES = {CUDA: "cuda", CPU: "cpu"}
NO_SYNCHRONISATION = "disable_synchronize_execution_providers"
NO_CPU_NODES = "session.disable_cpu_ep_fallback"


class OnnxRuntimeGpuNetwork:
    """An exported .onnx of either graph level. On the CPU provider a device pointer is a host address: for tests."""

    def __init__(
        self,
        path: str | Path,
        stream: int,
        *,
        batch: int | None = None,
        device: int = 0,
        provider: str = CUDA,
        threads: int = 1,
    ) -> None:
        """stream: of the driver, not 0, which ONNX Runtime takes as none. threads are for the CPU provider only.

        batch: images per call; None is what the file is for, or 1 where that is open.
        Raises ModelError when the file or the provider is not what it should be, never runs elsewhere.
        """
        if provider not in DEVICE_TYPES:
            raise UsageError(f"The GPU pipeline runs ONNX Runtime on {' or '.join(DEVICE_TYPES)}, not on {provider}.")
        assert stream != 0 or provider == CPU, "ONNX Runtime takes stream 0 as no stream at all"
        path = Path(path)
        options = {"device_id": str(device), "user_compute_stream": str(stream)} if provider == CUDA else {}
        if provider == CUDA:
            session, remark = open_on_device(path, provider, options)
        else:
            session, remark = open_session(path, threads, (provider,), [options]), ""
        self.spec, self.stream = read_spec(session, path), stream if provider == CUDA else None
        self.batch = _check_graph(session, self.spec.graph_level, batch, path)
        self._layout = outputs_layout(self.spec, self.batch)
        self._session: ort.InferenceSession | None = session
        self._device = device
        self._device_type = DEVICE_TYPES[provider]
        self._bound: tuple[int, dict[str, int]] | None = None
        self._binding: ort.IOBinding | None = session.io_binding()  # holds the session too
        self._options = ort.RunOptions()
        if provider == CUDA:
            self._options.add_run_config_entry(NO_SYNCHRONISATION, "1")
        self.description = f"ONNX Runtime {ort.__version__} on {provider.removesuffix('ExecutionProvider')}{remark}"

    def enqueue(self, images: int, outputs: Mapping[str, int], stream: int) -> None:
        assert self._session is not None and self._binding is not None, "enqueue after close"
        assert self.stream in (None, stream), (self.stream, stream)
        if self._bound != (images, dict(outputs)):
            shape = [self.batch, *self.spec.input_hw, 3]
            self._binding.bind_input(INPUT_NAME, self._device_type, self._device, np.uint8, shape, images)
            for name, field in self._layout.fields.items():
                self._binding.bind_output(
                    name, self._device_type, self._device, field.dtype.type, list(field.shape), outputs[name]
                )
            self._bound = images, dict(outputs)
        try:
            self._session.run_with_iobinding(self._binding, self._options)
        except LOAD_ERRORS as error:
            raise ModelError(f"ONNX Runtime failed while it ran the network: {first_line(error)}") from error

    def capture_refusal(self, stream: int) -> str | None:
        return "ONNX Runtime allocates and chooses algorithms while it runs, so its work cannot be captured"

    def close(self) -> None:
        self._bound = None
        self._session = self._binding = None


def open_on_device(path: Path, provider: str, options: dict[str, str]) -> tuple[ort.InferenceSession, str]:
    """A session without nodes on the CPU; where there is none, one with them, and words that say so. Raises ModelError.

    provider: ONNX Runtime's name of one that is not the CPU's.
    """
    try:
        return open_session(path, None, (provider,), [options], {NO_CPU_NODES: "1"}), ""
    except ModelError:  # of any kind: what is wrong with the file or the provider is said by the second attempt
        session = open_session(path, None, (provider,), [options])
        return session, f" with nodes on the CPU, which {provider.removesuffix('ExecutionProvider')} does not take"


def _check_graph(session: ort.InferenceSession, level: str, batch: int | None, path: Path) -> int:
    """The batch size, as asked for or as the graph has it."""
    found = [output.name for output in session.get_outputs()]
    inputs = session.get_inputs()
    if found != list(OUTPUT_NAMES[level]) or [node.name for node in inputs] != [INPUT_NAME]:
        raise ModelError(
            f"{path} must take '{INPUT_NAME}' and give {', '.join(OUTPUT_NAMES[level])} as its graph level '{level}' "
            f"says, but it takes {', '.join(node.name for node in inputs)} and gives {', '.join(found)}: "
            "export the model again."
        )
    fixed = inputs[0].shape[0]
    if not isinstance(fixed, int):
        return 1 if batch is None else batch
    if batch not in (None, fixed):
        raise ModelError(
            f"{path} is for batches of {fixed}, and {batch} was asked for: export it with that batch size."
        )
    return fixed
