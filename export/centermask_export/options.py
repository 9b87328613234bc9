# SPDX-License-Identifier: Apache-2.0
"""What an export can be asked for, and which wishes contradict each other, each refused in one sentence.

The table of formats in docs/export.md says the same as the constants here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from centermask_runtime.errors import UsageError, did_you_mean
from centermask_runtime.spec import SIZE_MULTIPLE

FORMATS = ("onnx", "trt", "trt-rtx", "openvino", "torchscript", "triton", "deepstream")
PRECISIONS = ("fp32", "fp16", "int8", "bf16")
ENGINES = ("trt", "trt-rtx")
PRECISIONS_OF = {
    "onnx": PRECISIONS,
    "trt": PRECISIONS,
    "trt-rtx": PRECISIONS,
    "openvino": PRECISIONS,
    "torchscript": ("fp32",),
    "triton": ("fp32", "fp16", "int8"),  # ONNX Runtime has no kernels for bf16
    "deepstream": ("fp32", "fp16", "int8"),
}
HEADS_FORMATS = ("onnx", *ENGINES)  # what serves or runs the others knows detections only
DYNAMIC_FORMATS = ("onnx", *ENGINES, "openvino", "triton", "deepstream")
DYNAMIC_IMGSZ_FORMATS = ("onnx", *ENGINES, "openvino")
OPSETS = range(18, 24)
DEFAULT_OPSET = 18  # newer ones lack kernels in ONNX Runtime's CUDA provider
BF16_OPSET = 22  # the first whose convolutions take bfloat16
TARGETS = ("sm75", "sm80", "sm86", "sm89", "sm120", "sm121")  # what TensorRT-RTX can name
HARDWARE_COMPATIBILITY = ("ampere+", "same-compute-capability")
BACKENDS = ("onnxruntime", "tensorrt")  # of Triton

SizeHW = tuple[int, int]


@dataclass(frozen=True)
class ExportOptions:
    """All but the model and the place; refuses what makes no sense with UsageError."""

    format: str = "onnx"
    precision: str = "fp32"
    graph: str = "peaks"
    batch: int = 1  # fixed in the graph; with dynamic, the largest that an engine takes
    dynamic: bool = False
    imgsz: SizeHW | None = None  # None: the model's own
    dynamic_imgsz: tuple[SizeHW, SizeHW, SizeHW] | None = None  # smallest, the one to tune for, largest
    opset: int | None = None
    workspace_gib: float | None = None
    timing_cache: Path | None = None
    calib_data: Path | None = None
    fraction: float | None = None  # of the calibration images; None: all
    targets: tuple[str, ...] = ()
    version_compatible: bool = False
    hardware_compatibility: str | None = None
    device: int = 0  # the GPU that --format trt builds on
    backend: str = "onnxruntime"  # of Triton

    @property
    def graph_opset(self) -> int:
        if self.opset is not None:
            return self.opset
        return BF16_OPSET if self.precision == "bf16" and self.format != "openvino" else DEFAULT_OPSET

    @property
    def onnx_precision(self) -> str:
        """Of the ONNX file that comes first: OpenVINO makes fp16 and bf16 of an fp32 graph itself."""
        return "fp32" if self.format == "openvino" and self.precision in ("fp16", "bf16") else self.precision

    def __post_init__(self) -> None:
        _one_of("--format", self.format, FORMATS)
        _one_of("--precision", self.precision, PRECISIONS)
        _one_of("--graph", self.graph, ("peaks", "heads"))
        _one_of("--backend", self.backend, BACKENDS)
        self._check_graph()
        self._check_sizes()
        self._check_calibration()
        self._check_engine()

    def _check_graph(self) -> None:
        if self.precision not in PRECISIONS_OF[self.format]:
            raise UsageError(
                f"--format {self.format} cannot have --precision {self.precision}; "
                f"it takes {', '.join(PRECISIONS_OF[self.format])}."
            )
        if self.graph == "heads" and self.format not in HEADS_FORMATS:
            raise UsageError(
                f"--graph heads was asked of --format {self.format}, which ends at detections; leave it out, "
                f"or choose --format {', '.join(HEADS_FORMATS)}."
            )
        if self.opset is None:
            return
        if self.opset not in OPSETS:
            raise UsageError(f"--opset {self.opset} is not supported; choose {OPSETS.start} to {OPSETS.stop - 1}.")
        if self.format == "torchscript":
            raise UsageError("--opset was given, but --format torchscript has no operator set; leave it out.")
        if self.precision == "bf16" and self.format != "openvino" and self.opset < BF16_OPSET:
            raise UsageError(
                f"--opset {self.opset} has no convolution in bf16; choose {BF16_OPSET} or more, or another --precision."
            )

    def _check_sizes(self) -> None:
        if self.batch < 1:
            raise UsageError(f"--batch must be at least 1, not {self.batch}.")
        if self.imgsz is not None:
            _check_multiple("--imgsz", self.imgsz)
        with_plan = self.format in ENGINES or self.backend == "tensorrt"
        if self.dynamic and with_plan and self.batch == 1 and self.dynamic_imgsz is None:
            raise UsageError("--dynamic needs --batch, the largest batch of the engine, which it is tuned for.")
        if self.dynamic and self.format not in DYNAMIC_FORMATS:
            raise UsageError(
                f"--dynamic was asked of --format {self.format}, whose graph is traced for one size; leave it out."
            )
        if self.dynamic_imgsz is None:
            return
        if self.format not in DYNAMIC_IMGSZ_FORMATS:
            raise UsageError(
                f"--dynamic-imgsz was asked of --format {self.format}, which serves one image size; leave it out, "
                f"or choose --format {', '.join(DYNAMIC_IMGSZ_FORMATS)}."
            )
        if self.imgsz is not None:
            raise UsageError("--imgsz and --dynamic-imgsz were both given; the middle of --dynamic-imgsz is the size.")
        for size in self.dynamic_imgsz:
            _check_multiple("--dynamic-imgsz", size)
        smallest, best, largest = self.dynamic_imgsz
        if not all(a <= b <= c for a, b, c in zip(smallest, best, largest, strict=True)):
            raise UsageError(
                f"--dynamic-imgsz must rise from smallest to largest, not {', '.join(map(_size, self.dynamic_imgsz))}."
            )

    def _check_calibration(self) -> None:
        if self.precision == "int8":
            if self.fraction is not None and not 0 < self.fraction <= 1:
                raise UsageError(f"--fraction must lie above 0 and up to 1, not {self.fraction:g}.")
        elif self.calib_data is not None or self.fraction is not None:
            given = "--fraction" if self.calib_data is None else "--calib-data"
            raise UsageError(f"{given} is for --precision int8, not {self.precision}; leave it out or add --int8.")

    def require_calibration(self) -> None:
        """An int8 graph made of weights needs images; one that is int8 already needs none. Raises UsageError."""
        if self.precision == "int8" and self.calib_data is None:
            raise UsageError(
                "--precision int8 needs --calib-data, a folder of images like those the model will see: "
                "the ranges of int8 come from them."
            )

    def _check_engine(self) -> None:
        builds = self.format == "trt" or (self.format == "triton" and self.backend == "tensorrt")
        if self.backend == "tensorrt" and self.format != "triton":
            raise UsageError(f"--backend is for --format triton, not {self.format}; leave it out.")
        for flag, given in (
            ("--timing-cache", self.timing_cache is not None),
            ("--version-compatible", self.version_compatible),
            ("--hardware-compatibility", self.hardware_compatibility is not None),
        ):
            if given and not builds:
                why = ", whose kernels are timed and chosen on the user's GPU" if self.format == "trt-rtx" else ""
                raise UsageError(f"{flag} is for --format trt, not {self.format}{why}; leave it out.")
        if self.timing_cache is not None and not self.timing_cache.resolve().parent.is_dir():
            raise UsageError(f"--timing-cache {self.timing_cache} is in a folder that does not exist; make it first.")
        if self.hardware_compatibility is not None:
            _one_of("--hardware-compatibility", self.hardware_compatibility, HARDWARE_COMPATIBILITY)
        if self.workspace_gib is not None:
            if not (builds or self.format == "trt-rtx"):
                raise UsageError(f"--workspace is for --format trt and trt-rtx, not {self.format}; leave it out.")
            if not self.workspace_gib > 0:
                raise UsageError(f"--workspace must be more than 0 GiB, not {self.workspace_gib:g}.")
        if self.targets and self.format != "trt-rtx":
            raise UsageError(
                f"--targets is for --format trt-rtx, not {self.format}"
                f"{': TensorRT builds for the GPU of this machine' if builds else ''}; leave it out."
            )
        for target in self.targets:
            if target not in TARGETS:
                raise UsageError(
                    f"--targets {target} is nothing that TensorRT-RTX builds for; {did_you_mean(target, TARGETS)}"
                )
        if self.device < 0:
            raise UsageError(f"--device must be the number of a GPU, 0 or more, not {self.device}.")
        if self.device and not builds:
            raise UsageError(f"--device is the GPU that --format trt builds on, not {self.format}; leave it out.")


def parse_size(text: str, flag: str = "--imgsz") -> SizeHW:
    """'512' or '480x640', height first as trtexec has it, -> (height, width). Raises UsageError."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    if found is None:
        raise UsageError(f"{flag} must be a side as 512, or HEIGHTxWIDTH as 480x640, not '{text}'.")
    height = int(found[1])
    return height, int(found[2] or height)


def parse_sizes(text: str, flag: str = "--dynamic-imgsz") -> tuple[SizeHW, SizeHW, SizeHW]:
    """'256,512,1024' or '256x320,480x640,960x1280' -> smallest, tuned for, largest. Raises UsageError."""
    parts = text.split(",")
    if len(parts) != 3:
        raise UsageError(f"{flag} needs three sizes, MIN,OPT,MAX as 256,512,1024, not '{text}'.")
    smallest, best, largest = (parse_size(part, flag) for part in parts)
    return smallest, best, largest


def parse_targets(text: str) -> tuple[str, ...]:
    """'sm86,SM89' or '8.6,8.9' -> ('sm86', 'sm89')."""
    names = [name.strip().lower() for name in text.split(",")]
    return tuple(f"sm{name.replace('.', '')}" if name[:1].isdigit() else name for name in names)


def _one_of(flag: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(f"{flag} {value} is not known; {did_you_mean(value, known)}")


def _check_multiple(flag: str, size: SizeHW) -> None:
    if any(side <= 0 or side % SIZE_MULTIPLE for side in size):
        near = tuple(max(SIZE_MULTIPLE, round(side / SIZE_MULTIPLE) * SIZE_MULTIPLE) for side in size)
        raise UsageError(
            f"{flag} must be multiples of {SIZE_MULTIPLE} on both sides, not {_size(size)}; "
            f"the nearest is {_size(near)}."
        )


def _size(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
