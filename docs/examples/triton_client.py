# SPDX-License-Identifier: Apache-2.0
"""Segment images with a CenterMask model that a Triton Inference Server serves: gRPC out and back, the rest is here.

    pip install 'tritonclient[grpc]'
    python docs/examples/triton_client.py --url localhost:8001 --name nuclei_dla_46c --output out image.png ...

The server is one more network behind the runtime's pipeline: letterbox, masks and drawing are those of `centermask
predict`, and the model's specification comes from the server's configuration, so no file of the model is needed here.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.errors import CenterMaskError, ModelError
from centermask_runtime.images import read_image
from centermask_runtime.networks.gpu_network import INPUT_NAME
from centermask_runtime.networks.network import PEAKS_OUTPUTS, PeakOutputs
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.spec import METADATA_KEY, ModelSpec


class TritonNetwork(Closing):
    """A served model as a Network. Raises ModelError when the server cannot be reached or serves something else."""

    def __init__(self, url: str, name: str) -> None:
        import tritonclient.grpc as triton

        self._triton: Any = triton
        self._client: Any = triton.InferenceServerClient(url)
        self._name = name
        try:
            parameters = self._client.get_model_config(name).config.parameters
        except triton.InferenceServerException as error:
            raise ModelError(f"The server at {url} gives no configuration of '{name}': {error.message()}") from error
        if METADATA_KEY not in parameters:
            raise ModelError(f"'{name}' at {url} is not a model that `centermask export --format triton` wrote.")
        self.spec = ModelSpec.from_json(parameters[METADATA_KEY].string_value, f"{name} at {url}")
        self.batch: int | None = 1
        self.description = f"Triton at {url}"

    def run(self, images: NDArray[np.uint8]) -> PeakOutputs:
        """images uint8 [N, H, W, 3] BGR."""
        given = self._triton.InferInput(INPUT_NAME, list(images.shape), "UINT8")
        given.set_data_from_numpy(images)
        wanted = [self._triton.InferRequestedOutput(name) for name in PEAKS_OUTPUTS]
        try:
            result = self._client.infer(self._name, [given], outputs=wanted)
        except self._triton.InferenceServerException as error:
            raise ModelError(f"The server could not run '{self._name}': {error.message()}") from error
        return PeakOutputs(*(result.as_numpy(name) for name in PEAKS_OUTPUTS))

    def close(self) -> None:
        self._client.close()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Segment images with a model that a Triton server serves.")
    parser.add_argument("--url", default="localhost:8001", help="host:port of gRPC")
    parser.add_argument("--name", required=True, help="of the model on the server")
    parser.add_argument("--output", type=Path, default=Path("triton_results"), help="a folder for drawn pictures")
    parser.add_argument("images", nargs="+", type=Path)
    options = parser.parse_args(arguments)
    try:
        with Pipeline(TritonNetwork(options.url, options.name)) as pipeline:
            for path in options.images:
                image = read_image(path)
                found = pipeline(image)
                found.save(options.output / f"{path.stem}.png", image)
                print(f"{path.name}: {len(found)} objects")
    except CenterMaskError as error:
        raise SystemExit(f"Error: {error}") from error


if __name__ == "__main__":
    main()
