# SPDX-License-Identifier: Apache-2.0
"""What an export can be asked for. A wish that makes no sense for any format is refused in one sentence.

What a format can be of all this stands in the table of formats; refusals.py compares the two.
"""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from centermask_runtime.arguments import check_flags, check_text, number, path_of, short, whole
from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.spec import ModelSpec

PRECISIONS = ("fp32", "fp16", "int8", "bf16")
OPSETS = range(18, 24)
DEFAULT_OPSET = 18  # newer ones lack kernels in ONNX Runtime's CUDA provider
BF16_OPSET = 22  # the first whose convolutions take bfloat16
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")  # what TensorRT-RTX can name
HARDWARE_COMPATIBILITY = ("ampere+", "same-compute-capability")

LONGEST_SIDE = 1 << 14  # pixels of a network's input
LARGEST_BATCH = 4096

SizeHW = tuple[int, int]


@dataclass(frozen=True)
class ExportOptions:
    """All that an export can be asked for, but the model and the place. Raises UsageError for what makes no sense."""

    format: str = "onnx"
    precision: str = "fp32"
    graph: str = "peaks"
    batch: int = 1  # fixed in the graph; with dynamic, the largest that an engine takes
    dynamic: bool = False
    imgsz: SizeHW | None = None  # None: the model's own
    dynamic_imgsz: tuple[SizeHW, SizeHW, SizeHW] | None = None  # smallest, the one to tune for, largest
    opset: int | None = None
    workspace: float | None = None  # GiB
    timing_cache: Path | None = None
    calib_data: Path | None = None
    fraction: float | None = None  # of the calibration images; None: all
    targets: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatibility: str | None = None
    device: int = 0  # the number of the GPU that TensorRT builds on
    backend: str = "onnxruntime"  # of Triton

    @property
    def graph_opset(self) -> int:
        """The operator set of an ONNX file of this precision."""
        if self.opset is not None:
            return self.opset
        return BF16_OPSET if self.precision == "bf16" else DEFAULT_OPSET

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.opset is not None and self.opset not in OPSETS:
            raise UsageError(f"opset {self.opset} is not supported; choose {OPSETS.start} to {OPSETS.stop - 1}.")
        self._check_sizes()
        self._check_calibration()
        self._check_engine()

    def _check_kinds(self) -> None:
        check_text(format=self.format, precision=self.precision, graph=self.graph, backend=self.backend)
        check_flags(dynamic=self.dynamic, version_compatible=self.version_compatible)
        whole("batch", self.batch, 1, LARGEST_BATCH)
        whole("device", self.device, 0)
        for name in ("opset", "workspace", "fraction"):
            value = getattr(self, name)
            if value is not None:
                number(name, value, -math.inf, math.inf)
        for name in ("calib_data", "timing_cache"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, path_of(getattr(self, name), name))
        if not isinstance(self.targets, (tuple, list)):
            raise UsageError(f"targets must be a tuple of names, as ('sm86',), not {short(self.targets)}.")
        check_text(**{f"targets[{place}]": target for place, target in enumerate(self.targets)})
        if self.hardware_compatibility is not None:
            check_text(hardware_compatibility=self.hardware_compatibility)
        for name, sizes in (("imgsz", (self.imgsz,)), ("dynamic_imgsz", self.dynamic_imgsz or ())):
            if not isinstance(sizes, (tuple, list)) or not all(size is None or _is_size(size) for size in sizes):
                raise UsageError(
                    f"{name} must be sides of 1 to {LONGEST_SIDE} pixels, height and width, as (480, 640), not "
                    f"{short(getattr(self, name))}."
                )

    def _check_sizes(self) -> None:
        if self.dynamic_imgsz is None:
            return
        if self.imgsz is not None:
            raise UsageError("imgsz and dynamic_imgsz were both given; the middle of dynamic_imgsz is the size.")
        smallest, best, largest = self.dynamic_imgsz
        if not all(a <= b <= c for a, b, c in zip(smallest, best, largest, strict=True)):
            raise UsageError(
                "dynamic_imgsz must rise from smallest to largest, not "
                f"{', '.join(map(size_text, self.dynamic_imgsz))}."
            )

    def _check_calibration(self) -> None:
        if self.precision == "int8":
            if self.fraction is not None and not 0 < self.fraction <= 1:
                raise UsageError(f"fraction must lie above 0 and up to 1, not {self.fraction:g}.")
        elif self.calib_data is not None or self.fraction is not None:
            given = "fraction" if self.calib_data is None else "calib_data"
            raise UsageError(f"{given} is for precision int8, not {self.precision}; leave it out, or ask for int8.")

    def _check_engine(self) -> None:
        if self.timing_cache is not None and not self.timing_cache.resolve().parent.is_dir():
            raise UsageError(f"timing_cache {self.timing_cache} is in a folder that does not exist; make it first.")
        if self.hardware_compatibility not in (None, *HARDWARE_COMPATIBILITY):
            known = did_you_mean(self.hardware_compatibility, HARDWARE_COMPATIBILITY)
            raise UsageError(f"hardware_compatibility {self.hardware_compatibility} is not known; {known}")
        if self.workspace is not None and not self.workspace > 0:
            raise UsageError(f"workspace must be more than 0 GiB, not {self.workspace:g}.")
        for target in self.targets:
            if target not in TARGETS:
                raise UsageError(
                    f"targets has {target}, which TensorRT-RTX does not build for; {did_you_mean(target, TARGETS)}"
                )


def _is_size(size: Any) -> bool:
    sides = size if isinstance(size, (tuple, list)) else ()
    return len(sides) == 2 and all(type(side) is int and side <= LONGEST_SIDE for side in sides)


def sized(spec: ModelSpec, options: ExportOptions) -> ModelSpec:
    """The spec with the input size that was asked for. Raises UsageError where the model cannot have it."""
    name = "dynamic_imgsz" if options.dynamic_imgsz else "imgsz"
    sizes = options.dynamic_imgsz or (options.imgsz or spec.input_hw,)
    multiple = spec.size_multiple
    for size in sizes:
        if any(side <= 0 or side % multiple for side in size):
            height, width = (max(multiple, round(side / multiple) * multiple) for side in size)
            raise UsageError(
                f"{name} must be multiples of {multiple} on both sides for '{spec.name}', not {size_text(size)}; the "
                f"nearest is {size_text((height, width))}."
            )
    height, width = sizes[0]  # the smallest
    cells = spec.num_classes * (height // spec.stride) * (width // spec.stride)
    if spec.max_detections > cells:
        raise UsageError(
            f"{name} {height}x{width} has {cells} heat-map cells, too few for the {spec.max_detections} detections of "
            f"'{spec.name}'; choose a larger size."
        )
    return dataclasses.replace(spec, input_hw=sizes[len(sizes) // 2])


def parse_size(text: str) -> SizeHW:
    """'512' or '480x640', height first as trtexec has it, -> (height, width). Raises UsageError."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if found is None:
        raise UsageError(f"A size must be a side as 512, or HEIGHTxWIDTH as 480x640, not '{text}'.")
    height = int(found[1])
    return height, int(found[2] or height)


def parse_sizes(text: str) -> tuple[SizeHW, SizeHW, SizeHW]:
    """'256,512,1024' or '256x320,480x640,960x1280' -> smallest, tuned for, largest. Raises UsageError."""
    parts = text.split(",")
    if len(parts) != 3:
        raise UsageError(f"dynamic_imgsz needs three sizes, MIN,OPT,MAX as 256,512,1024, not '{text}'.")
    smallest, best, largest = map(parse_size, parts)
    return smallest, best, largest


def parse_targets(text: str) -> tuple[str, ...]:
    """'sm86,SM89' or '8.6,8.9' -> ('sm86', 'sm89')."""
    names = [name.strip().lower() for name in text.split(",")]
    return tuple(f"sm{name.replace('.', '')}" if name[:1].isdigit() else name for name in names)


def size_text(size_hw: SizeHW) -> str:
    """'480x640', as parse_size reads it."""
    return f"{size_hw[0]}x{size_hw[1]}"
