# SPDX-License-Identifier: Apache-2.0
"""Makes the file that is released of trained weights: kernels in half precision, everything else as it is.

    python models/release.py runs/train/person/weights/best.safetensors person_mobilenet_v2_fpn.safetensors

Half the bytes; batch norms, biases and the specification stay. The model's name becomes that of the file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from centermask.model.weights import load_weights, save_weights


@click.command(help=__doc__)
@click.argument("weights", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
def main(weights: Path, output: Path) -> None:
    model, spec, config = load_weights(weights)
    state = {name: value.half() if value.ndim == 4 else value for name, value in model.state_dict().items()}
    spec, config = (dataclasses.replace(one, name=output.stem) for one in (spec, config))
    save_weights(output, state, spec, config)
    print(f"{output}: {output.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
