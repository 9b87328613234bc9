# SPDX-License-Identifier: Apache-2.0
"""The folder of one training: args.yaml, data.json, results.csv, weights/{best,last}.safetensors, checkpoint.pt."""

from __future__ import annotations

import csv
import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import torch

from centermask.config import Config, load_config
from centermask.data.coco import CocoDataset, load_coco
from centermask_runtime.errors import DataError, UsageError
from centermask_runtime.partial_file import PartialFile


@dataclass(frozen=True)
class DataSource:
    """Where a data set came from, so that a run can be resumed without naming it again."""

    annotations: str
    images: str

    @classmethod
    def of(cls, dataset: CocoDataset) -> DataSource:
        return cls(str(dataset.annotation_file.absolute()), str(dataset.images_dir.absolute()))

    def load(self) -> CocoDataset:
        return load_coco(Path(self.annotations), Path(self.images))


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def best(self) -> Path:
        return self.path / "weights" / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "weights" / "last.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def results(self) -> Path:
        return self.path / "results.csv"

    @classmethod
    def create(cls, parent: Path, name: str) -> RunFolder:
        """parent/name, or the first free parent/name2, name3, ... Raises UsageError where nothing can be written."""
        for number in range(1, 10_000):
            path = parent / (name if number == 1 else f"{name}{number}")
            try:
                (path / "weights").mkdir(parents=True)
            except FileExistsError:
                continue
            except OSError as error:
                raise UsageError(
                    f"The run folder {path} cannot be made ({error.strerror}); choose another --output."
                ) from error
            return cls(path)
        raise UsageError(f"{parent} already has ten thousand runs named {name}; choose another --name.")

    def write(self, config: Config, sources: tuple[DataSource, DataSource]) -> None:
        """What is trained on what: the config, the training and the validation set."""
        (self.path / "args.yaml").write_text(config.to_yaml())
        (self.path / "data.json").write_text(json.dumps([dataclasses.asdict(source) for source in sources], indent=1))

    def read(self) -> tuple[Config, tuple[DataSource, DataSource]]:
        """What write wrote. Raises DataError when this is no run folder."""
        try:
            train, val = (DataSource(**source) for source in json.loads((self.path / "data.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{self.path} is not the folder of a started training, as its data.json cannot be read; name another."
            ) from error
        return load_config(self.path / "args.yaml"), (train, val)

    def append_results(self, row: dict[str, float | int]) -> None:
        new = not self.results.exists()
        with self.results.open("a", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(row))
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})

    def save_checkpoint(self, state: dict[str, object]) -> None:
        with PartialFile(self.checkpoint) as file:
            torch.save(state, file.partial)

    def load_checkpoint(self) -> dict[str, object]:
        """What save_checkpoint wrote; never unpickles code."""
        try:
            state: dict[str, object] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise DataError(
                f"{self.path} has no checkpoint.pt to resume from; name the folder of a started run."
            ) from None
        except Exception as error:  # torch raises many kinds for a damaged file
            raise DataError(f"{self.checkpoint} is damaged and cannot be resumed from: {error}") from error
        return state
