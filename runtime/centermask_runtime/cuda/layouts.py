# SPDX-License-Identifier: Apache-2.0
"""Which arrays one model needs on the device: names, types and shapes, from its ModelSpec and a batch size.

N images, C classes, K peaks, S x S local shapes, G saliency channels, h x w cells of the heat map.
"""

from __future__ import annotations

import numpy as np

from centermask_runtime.cuda.buffers import Layout
from centermask_runtime.spec import ModelSpec

CHANNELS = 3
CANDIDATES_PER_PEAK = 64  # that find_peaks remembers unless it is told otherwise; with fewer it is right too, but slow


def images_bytes(spec: ModelSpec, batch: int) -> int:
    """The network input: uint8 [N, H, W, 3]."""
    return batch * spec.input_hw[0] * spec.input_hw[1] * CHANNELS


def outputs_layout(spec: ModelSpec, batch: int) -> Layout:
    """Where a network of the spec's graph level writes: the arrays of PeakPointers or of HeadPointers."""
    n, k, size = batch, spec.max_detections, spec.shape_size
    height, width = spec.grid_hw
    saliency = np.float32, (n, spec.saliency_channels, height, width)
    if spec.graph_level == "heads":
        return Layout.of(
            heatmap=(np.float32, (n, spec.num_classes, height, width)),
            offsets=(np.float32, (n, 2, height, width)),
            sizes=(np.float32, (n, 2, height, width)),
            shapes=(np.float32, (n, size * size, height, width)),
            saliency=saliency,
        )
    return Layout.of(
        scores=(np.float32, (n, k)),
        labels=(np.int32, (n, k)),
        boxes=(np.float32, (n, k, 4)),
        shapes=(np.float32, (n, k, size, size)),
        saliency=saliency,
    )


def peaks_layout(spec: ModelSpec, batch: int, candidates: int | None = None) -> Layout:
    """For level `heads`: what top_peaks and gather_heads write. candidates: how many are remembered per image."""
    n, k, size = batch, spec.max_detections, spec.shape_size
    cells = spec.num_classes * spec.grid_hw[0] * spec.grid_hw[1]
    capacity = min(k * CANDIDATES_PER_PEAK if candidates is None else candidates, cells)
    return Layout.of(
        candidate_counts=(np.uint32, (n,)),
        scores=(np.float32, (n, k)),
        labels=(np.int32, (n, k)),
        cells_yx=(np.int32, (n, k, 2)),
        boxes=(np.float32, (n, k, 4)),
        shapes=(np.float32, (n, k, size, size)),
        candidate_keys=(np.uint64, (n, capacity)),  # last: a write too far leaves the block and is seen
    )


def results_layout(spec: ModelSpec, batch: int) -> Layout:
    """What select and runs write and the host reads. Rows behind found[n] are left as they were."""
    n, k = batch, spec.max_detections
    return Layout.of(
        found=(np.int32, (n,)),
        mask_bytes=(np.uint64, (n,)),  # needed in the arena, also when that is more than it has
        run_totals=(np.uint64, (n,)),  # needed in runs likewise
        scores=(np.float32, (n, k)),  # best first
        labels=(np.int32, (n, k)),
        boxes=(np.float32, (n, k, 4)),  # source pixels, inside the frame
        rects=(np.int32, (n, k, 4)),  # x0, y0, x1, y1 in pixels of the frame
        offsets=(np.uint64, (n, k)),  # of each crop in its image's part of the arena
        run_counts=(np.uint32, (n, k)),
        run_offsets=(np.uint64, (n, k)),
        rows=(np.int32, (n, k)),  # row of PeakPointers that each result came from
        sampled_boxes=(np.float32, (n, k, 4)),  # source pixels, as predicted: masks are sampled in these
    )


def probabilities_bytes(spec: ModelSpec, batch: int) -> int:
    """Scratch of the stage `masks`: float32 [N, G, h, w]."""
    return 4 * batch * spec.saliency_channels * spec.grid_hw[0] * spec.grid_hw[1]


def largest_arena(spec: ModelSpec, frame_hw: tuple[int, int]) -> int:
    """Bytes per image that K masks of the whole frame need. Most frames need a small part of it."""
    return spec.max_detections * frame_hw[0] * -(-frame_hw[1] // 8)
