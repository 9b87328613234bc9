# SPDX-License-Identifier: Apache-2.0
"""FPS of a model on a clip: `python benchmarks/fps.py --model M --source CLIP`, or `centermask benchmark`."""

import sys

from centermask.cli import main

if __name__ == "__main__":
    main(["benchmark", *sys.argv[1:]])
