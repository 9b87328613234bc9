# SPDX-License-Identifier: Apache-2.0
"""What one model needs on the device besides its network: kernels and memory, with one owner.

The arrays are those of layouts.py for one batch size. What frames under way need for themselves is in frame_slot.py.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from centermask_runtime.closing import Closing
from centermask_runtime.cuda import layouts
from centermask_runtime.cuda.buffers import Block, HeadPointers, Layout, PeakPointers
from centermask_runtime.cuda.compile import kernel_image
from centermask_runtime.cuda.driver import Driver
from centermask_runtime.cuda.memory import DeviceBuffer
from centermask_runtime.cuda.stages import PALETTE, Stages
from centermask_runtime.spec import ModelSpec


class Workspace(Closing):
    """The kernels and the memory of one model: each part is made when it is first asked for, and all are given back.

    So a program that runs only the network needs no kernels. Whoever captures a CUDA graph asks for all parts before.
    """

    def __init__(self, driver: Driver, spec: ModelSpec, kernels: bytes | None = None, batch: int = 1) -> None:
        """kernels: code for the driver, else the shipped or compiled one. Parts raise DriverError, CompileError."""
        assert batch >= 1, batch
        self.driver, self.spec, self.batch = driver, spec, batch
        self._kernels = kernels
        self._made = ExitStack()

    def close(self) -> None:
        """When nothing is under way. Closing twice is the same as closing once."""
        self._made.close()

    def room(self, nbytes: int) -> int:
        """The pointer of so much new device memory, given back with the rest."""
        buffer = DeviceBuffer(self.driver, nbytes)
        self._made.callback(buffer.close)
        return buffer.pointer

    @cached_property
    def stages(self) -> Stages:
        code = self._kernels or kernel_image(self.driver.compute_capability).code
        return self._made.enter_context(Stages(self.driver, code, self.spec))

    @cached_property
    def images(self) -> int:
        """The network's input: uint8 [N, H, W, 3]."""
        return self.room(layouts.images_bytes(self.spec, self.batch))

    @cached_property
    def outputs(self) -> Block:
        """What the network writes."""
        return self._block(layouts.outputs_layout(self.spec, self.batch))

    @cached_property
    def outputs_by_name(self) -> dict[str, int]:
        """Device pointers, as GpuNetwork.enqueue takes them."""
        return {name: self.outputs[name] for name in self.outputs.layout.fields}

    @cached_property
    def peaks(self) -> Block:
        """What the kernels find in the outputs of level `heads`."""
        return self._block(layouts.peaks_layout(self.spec, self.batch))

    @cached_property
    def probabilities(self) -> int:
        """Scratch of the stage `masks`."""
        return self.room(layouts.probabilities_bytes(self.spec, self.batch))

    @cached_property
    def allowed(self) -> int:
        """uint8 [C]: 1 for the classes that `select` keeps; uploaded by allow."""
        return self.room(self.spec.num_classes)

    @cached_property
    def palette(self) -> int:
        """The colours of `draw`; uploaded at the first use, which waits."""
        pointer = self.room(PALETTE.nbytes)
        self._upload(pointer, PALETTE)
        return pointer

    def prepare(self, classes: tuple[int, ...] | None) -> None:
        """Makes all that frames need, so that none has to wait for memory. classes: as in allow. Waits."""
        self.prepare_network()
        _ = self.stages, self.probabilities
        self.driver.fill(self.images, 0, layouts.images_bytes(self.spec, self.batch), 0)  # batches may not be full
        self.allow(classes)

    def prepare_network(self) -> None:
        """Makes all that the network and find_peaks need."""
        _ = self.images, self.outputs
        if self.spec.graph_level == "heads":
            _ = self.stages, self.peaks

    def allow(self, classes: tuple[int, ...] | None) -> None:
        """The classes that `select` keeps from now on, None for all. Waits."""
        allowed = np.full(self.spec.num_classes, classes is None, np.uint8)
        allowed[list(classes or ())] = 1
        self._upload(self.allowed, allowed)

    def find_peaks(self, count: int, stream: int, least_score: float = 0.0) -> PeakPointers:
        """Where the detections of `count` images lie once the network's work and this are done.

        A graph of level `peaks` has found them; else it is put on the stream, for scores from least_score on.
        """
        if self.spec.graph_level == "peaks":
            return PeakPointers(**self.outputs_by_name)
        heads = HeadPointers(**self.outputs_by_name)
        self.stages.top_peaks(heads.heatmap, self.peaks, count, stream, least_score)
        return self.stages.gather_heads(heads, self.peaks, count, stream)

    def _block(self, layout: Layout) -> Block:
        return layout.at(self.room(layout.nbytes))

    def _upload(self, pointer: int, array: NDArray[np.uint8]) -> None:
        self.driver.upload(pointer, array, 0)
        self.driver.synchronize(0)
