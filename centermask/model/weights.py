# SPDX-License-Identifier: Apache-2.0
"""Weights files: safetensors that carry ModelSpec and config, so one file is enough to run, export or fine-tune."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from centermask import __version__
from centermask.config import Config, parse_config
from centermask.model.network import STRIDE, CenterMask
from centermask_runtime.errors import CenterMaskError, ModelError
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.spec import METADATA_KEY, ModelSpec

CONFIG_KEY = "centermask_config"


def build_model(config: Config, num_classes: int) -> CenterMask:
    return CenterMask(config.model, config.input, num_classes)


def spec_of(config: Config, class_names: tuple[str, ...], category_ids: tuple[int, ...]) -> ModelSpec:
    """The numbers inference depends on, from the config and the data set's classes."""
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
        provenance={"trained_with": f"centermask {__version__}"},
    )


def save_weights(path: Path, state: dict[str, Tensor], spec: ModelSpec, config: Config) -> None:
    """Writes a weights file; an existing one is replaced only when the new one is complete. Raises CenterMaskError."""
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in state.items()}
    metadata = {METADATA_KEY: spec.to_json(), CONFIG_KEY: config.to_yaml()}
    try:
        with PartialFile(path) as file:
            save_file(tensors, file.partial, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise CenterMaskError(f"The weights cannot be written to {path} ({error}); make room on the disk.") from error


def load_weights(path: Path) -> tuple[CenterMask, ModelSpec, Config]:
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
    spec = ModelSpec.from_json(metadata[METADATA_KEY], str(path))
    config = parse_config(metadata[CONFIG_KEY], str(path))
    model = build_model(config, spec.num_classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"The weights in {path} do not fit the model it describes ({reason}); copy or train it again."
        ) from error
    return model.eval(), spec, config
