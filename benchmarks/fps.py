# SPDX-License-Identifier: Apache-2.0
"""FPS of a model on a clip: `python benchmarks/fps.py --model M --source CLIP`, or `centermask benchmark`."""

from centermask.cli.benchmark import benchmark

if __name__ == "__main__":
    benchmark()
