# SPDX-License-Identifier: Apache-2.0
"""ModelSpec: every number that inference depends on, in the one place they live.

The spec travels inside the artefact (safetensors metadata, ONNX metadata_props, `<engine>.json`), so a runtime never
asks a config file, and a mean or a class list cannot differ between training and deployment.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from centermask_runtime.errors import ModelError, did_you_mean
from centermask_runtime.value_range import ValueRange

METADATA_KEY = "centermask_spec"
SPEC_VERSION = 1
GRAPH_LEVELS = ("peaks", "heads")
SIZE_MULTIPLE = 32  # of a network whose coarsest map has one cell per 32 x 32 pixels: nearly all
LATER = {"size_multiple": SIZE_MULTIPLE, "value_range": None, "value_percentiles": None}  # as they usually are


@dataclass(frozen=True)
class ModelSpec:
    name: str
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # ids of the data set, one per class: what results files carry
    input_hw: tuple[int, int]  # network input in pixels, multiples of size_multiple; uint8 [N, H, W, 3], BGR
    mean_bgr: tuple[float, float, float]  # of pixels scaled to 0..1; applied inside the graph
    std_bgr: tuple[float, float, float]
    stride: int = 4  # input pixels per heat-map cell
    shape_size: int = 32  # S: a local shape is S x S
    saliency_channels: int = 1  # 1 (class-agnostic) or one per class
    max_detections: int = 100  # K
    score_threshold: float = 0.25  # default of predict; evaluation keeps more
    mask_threshold: float = 0.5  # on sigma(shape) * sigma(saliency)
    graph_level: str = "peaks"
    precision: str = "fp32"
    provenance: dict[str, str] = field(default_factory=dict)  # who trained it, on what, with which version
    size_multiple: int = SIZE_MULTIPLE  # sides of the input are multiples of it: 128 for an hourglass
    value_range: tuple[float, float] | None = None  # of images with more than 8 bits: what becomes 0 and 255
    value_percentiles: tuple[float, float] | None = None  # the same by percentiles of each image, 0 to 100

    def __post_init__(self) -> None:
        if len(self.category_ids) != len(self.class_names):
            raise ModelError(
                f"The model specification has {len(self.class_names)} class names and "
                f"{len(self.category_ids)} category ids; there must be one id per class."
            )
        if self.saliency_channels not in (1, len(self.class_names)):
            raise ModelError(
                f"The model specification has {self.saliency_channels} saliency channels; "
                f"it must be 1 or the number of classes, {len(self.class_names)}."
            )
        if self.size_multiple < 1:
            raise ModelError(f"The size multiple of a model must be at least 1, not {self.size_multiple}.")
        if any(side <= 0 or side % self.size_multiple for side in self.input_hw):
            raise ModelError(
                f"The network input must be a multiple of {self.size_multiple} on both sides, not {self.input_hw}."
            )
        if self.value_range is not None and self.value_percentiles is not None:
            raise ModelError("The model specification has a range of values and percentiles; it must have one of them.")
        cells = self.num_classes * self.grid_hw[0] * self.grid_hw[1]
        if self.max_detections > cells:
            raise ModelError(
                f"{self.max_detections} detections were asked of a heat map of {cells} cells; lower max_detections."
            )
        if self.graph_level not in GRAPH_LEVELS:
            raise ModelError(f"Graph level '{self.graph_level}' is not one of {', '.join(GRAPH_LEVELS)}.")

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def grid_hw(self) -> tuple[int, int]:
        """Heat-map size in cells."""
        return self.input_hw[0] // self.stride, self.input_hw[1] // self.stride

    @property
    def values(self) -> ValueRange | None:
        """What becomes of images with more than 8 bits; None where 16 bits lose their lower 8."""
        return ValueRange.of(self.value_range, self.value_percentiles)

    def to_json(self) -> str:
        """What travels inside an artefact. What came later and is as usual is left out: older releases read it."""
        values = dataclasses.asdict(self)
        for name, usual in LATER.items():
            if values[name] == usual:
                del values[name]
        return json.dumps({"spec_version": SPEC_VERSION, **values}, sort_keys=True)

    @classmethod
    def of_artefact(cls, text: str | None, source: str, made_by: str = "") -> ModelSpec:
        """Reads what an artefact carries; made_by: as it says itself. Raises ModelError where it carries nothing."""
        if not text:
            made = f" (made by {made_by})" if made_by else ""
            raise ModelError(
                f"{source} carries no CenterMask specification{made}, so its classes and input are unknown: use a file "
                "that `centermask export` wrote."
            )
        return cls.from_json(text, source)

    @classmethod
    def from_json(cls, text: str, source: str) -> ModelSpec:
        """Reads what to_json wrote. `source` names the artefact in error messages."""
        try:
            values: dict[str, Any] = json.loads(text)
            version = values.pop("spec_version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"The model specification in {source} is damaged; export the model again.") from error
        if version != SPEC_VERSION:
            raise ModelError(
                f"{source} carries model specification version {version}; this release reads version {SPEC_VERSION}. "
                "Export the model again with this release."
            )
        known = {f.name for f in dataclasses.fields(cls)}
        for key in values.keys() - known:
            raise ModelError(
                f"Unknown entry '{key}' in the model specification of {source}: {did_you_mean(key, known)}"
            )
        arguments: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        try:
            return cls(**arguments)
        except TypeError as error:
            raise ModelError(f"The model specification in {source} is incomplete; export the model again.") from error
