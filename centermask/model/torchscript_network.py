# SPDX-License-Identifier: Apache-2.0
"""A TorchScript file is one more back end of the runtime, on the CPU, where it was traced. It needs torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.errors import ModelError, UsageError, first_line
from centermask_runtime.networks.network import CLOSED, PeakOutputs
from centermask_runtime.spec import METADATA_KEY, ModelSpec

SPEC_FILE = f"{METADATA_KEY}.json"  # among the file's extra files


class TorchScriptNetwork(Closing):
    """Runs a .torchscript file of graph level `peaks`. Outputs are new arrays at each call."""

    def __init__(self, path: str | Path) -> None:
        """Raises ModelError."""
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"The model {path} cannot be read, there is no such file: give a .torchscript file.")
        extra: dict[str, Any] = {SPEC_FILE: ""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that torch.export is newer
                self._graph: Any = torch.jit.load(path, "cpu", _extra_files=extra)  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"{path} is not a TorchScript file that torch {torch.__version__} can load ({first_line(error)}): "
                "it may be cut off or of another kind; export or copy it again."
            ) from error
        self.batch: int | None = None
        self.spec = ModelSpec.of_artefact(extra[SPEC_FILE], str(path))
        self.description = f"TorchScript, PyTorch {torch.__version__} on cpu, {torch.get_num_threads()} threads"

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """Runs images uint8 [N, H, W, 3] BGR, H and W as spec.input_hw. Raises ModelError, UsageError."""
        graph = self._graph  # read once: another thread may close
        if graph is None:
            raise UsageError(CLOSED)
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (*self.spec.input_hw, 3):
            height, width = self.spec.input_hw
            raise ModelError(
                f"The network takes images uint8 [N, {height}, {width}, 3], not {images.dtype} {list(images.shape)}; "
                "resize them, or export the model with another input size."
            )
        with torch.inference_mode():
            outputs = graph(torch.from_numpy(np.ascontiguousarray(images)))
        return PeakOutputs(*(tensor.numpy() for tensor in outputs))

    def close(self) -> None:
        self._graph = None
