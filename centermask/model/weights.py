# SPDX-License-Identifier: Apache-2.0
"""Weights files: safetensors that carry ModelSpec and config, so one file is enough to run or export."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from centermask.config import STRIDE, Config, parse_config
from centermask.model.network import CenterMaskNet, build_model
from centermask.version import __version__
from centermask_runtime.errors import ModelError, UsageError
from centermask_runtime.partial_file import write_whole
from centermask_runtime.spec import METADATA_KEY, ModelSpec

CONFIG_KEY = "centermask_config"


def spec_of(config: Config, class_names: tuple[str, ...], category_ids: tuple[int, ...]) -> ModelSpec:
    """Collects the numbers that inference depends on: the config's, and the data set's classes. Raises UsageError."""
    height, width = (side // STRIDE for side in config.input.size)
    if config.model.max_detections > len(class_names) * height * width:
        raise UsageError(
            f"model.max_detections {config.model.max_detections} is more than the {len(class_names)} x {height} x "
            f"{width} cells of the heat map of an input of {list(config.input.size)}; lower it or enlarge input.size."
        )
    return ModelSpec(
        name=config.name,
        class_names=class_names,
        category_ids=category_ids,
        input_hw=config.input.size,
        mean_bgr=config.input.mean_bgr,
        std_bgr=config.input.std_bgr,
        stride=STRIDE,
        shape_size=config.model.shape_size,
        saliency_channels=len(class_names) if config.model.saliency == "class_specific" else 1,
        max_detections=config.model.max_detections,
        size_multiple=config.model.size_multiple,
        value_range=config.input.range,
        value_percentiles=config.input.percentiles,
        provenance={"trained_with": f"centermask {__version__}"},
    )


def save_weights(path: Path, state: dict[str, Tensor], spec: ModelSpec, config: Config) -> None:
    """Writes a weights file; an existing one is replaced only when the new one is complete. Raises CenterMaskError."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in state.items()}
    metadata = {METADATA_KEY: spec.to_json(), CONFIG_KEY: config.to_yaml()}
    write_whole(path, save(tensors, metadata=metadata), durable=True)


def load_weights(path: Path) -> tuple[CenterMaskNet, ModelSpec, Config]:
    """Reads a weights file into a model in evaluation mode. Raises ModelError that says what is wrong with it."""
    try:
        with safe_open(path, framework="pt") as file:  # type: ignore[no-untyped-call, unused-ignore]
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError:
        raise ModelError(f"There is no weights file {path}.") from None
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file ({error}); copy or train it again.") from error
    if METADATA_KEY not in metadata or CONFIG_KEY not in metadata:
        raise ModelError(
            f"{path} is a safetensors file, but not one of CenterMask's, as it carries no model specification; "
            "name one that `centermask train` wrote."
        )
    config = parse_config(metadata[CONFIG_KEY], str(path))
    spec = ModelSpec.from_json(metadata[METADATA_KEY], str(path))
    spec = dataclasses.replace(spec, size_multiple=config.model.size_multiple)  # files before 0.2 do not say it
    model = build_model(config, spec.num_classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"The weights in {path} do not fit the model it describes ({reason}); copy or train it again."
        ) from error
    return model.eval(), spec, config
