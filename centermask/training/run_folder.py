# SPDX-License-Identifier: Apache-2.0
"""The folder of one training: args.yaml, data.json, results.csv, weights/{best,last}.safetensors, checkpoint.pt."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from centermask.config import Config, load_config
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import LAYOUTS, Split
from centermask_runtime.errors import CenterMaskError, DataError, UsageError, did_you_mean
from centermask_runtime.partial_file import PartialFile, write_whole

Row = Mapping[str, float | int]  # a line of results.csv


@dataclass(frozen=True)
class DataSource:
    """Where a data set came from, so that a run can be resumed without naming it again."""

    annotations: str
    images: str
    split: str = ""  # its name and that of its layout, as recognised; "" in runs that noted neither
    layout: str = ""

    @classmethod
    def of(cls, dataset: Dataset) -> DataSource:
        split = dataset.split
        return cls(str(split.annotations.absolute()), str(split.images.absolute()), split.name, split.layout.name)

    def load(self) -> Dataset:
        """Opens the data set again. Raises DataError where it cannot be opened any more."""
        annotations, images = Path(self.annotations), Path(self.images)
        if not self.layout:
            return load_dataset(Split.of_files(annotations, images))
        if self.layout not in LAYOUTS:
            raise DataError(
                f"{annotations} is noted to be of the layout '{self.layout}', which is unknown; "
                f"{did_you_mean(self.layout, LAYOUTS)}"
            )
        return load_dataset(Split(self.split, LAYOUTS[self.layout], annotations, images))


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run are, and how each is written and read."""

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
    def choose(cls, parent: Path, name: str) -> RunFolder:
        """Chooses parent/name, or the first free parent/name2, name3, ... Nothing is written until start."""
        paths = (parent / (name if number == 1 else f"{name}{number}") for number in itertools.count(1))
        return cls(next(path for path in paths if not os.path.lexists(path)))

    def start(self, config: Config, sources: tuple[DataSource, DataSource]) -> None:
        """Makes the folder and notes what is trained on what. Raises UsageError where it cannot be made."""
        try:
            (self.path / "weights").mkdir(parents=True)
        except OSError as error:
            raise UsageError(
                f"The run folder {self.path} cannot be made ({error.strerror}); choose another folder."
            ) from error
        write_whole(self.path / "args.yaml", config.to_yaml().encode())
        data = json.dumps([dataclasses.asdict(source) for source in sources], indent=1)
        write_whole(self.path / "data.json", data.encode())

    def read(self) -> tuple[Config, tuple[DataSource, DataSource]]:
        """Reads what start wrote. Raises DataError when this is no run folder."""
        try:
            train, val = (DataSource(**source) for source in json.loads((self.path / "data.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise DataError(
                f"{self.path} is not the folder of a started training, as its data.json cannot be read; name another."
            ) from error
        return load_config(self.path / "args.yaml"), (train, val)

    def append_results(self, row: Row) -> None:
        """Adds an epoch. One that is there already, from a run that was killed before its checkpoint, is replaced."""
        shown = {key: f"{value:.6g}" if isinstance(value, float) else str(value) for key, value in row.items()}
        rows: list[dict[str, str]] = []
        if self.results.exists():
            rows = list(csv.DictReader(self.results.read_text().splitlines()))
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, fieldnames=list(shown), extrasaction="ignore")
        writer.writeheader()
        writer.writerows([*(old for old in rows if int(old["epoch"]) < int(row["epoch"])), shown])
        write_whole(self.results, text.getvalue().encode())

    def remove_leftovers(self) -> None:
        """Removes what a killed process was just writing."""
        for folder in (self.path, self.best.parent):
            for unfinished in folder.glob(".*.partial"):
                unfinished.unlink(missing_ok=True)

    def save_checkpoint(self, state: dict[str, object]) -> None:
        """Replaces the checkpoint. Raises CenterMaskError when the disk is full, and the one before stays."""
        try:
            with PartialFile(self.checkpoint, durable=True) as file:
                torch.save(state, file.partial)
        except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
            kept = " the one before is kept:" if self.checkpoint.exists() else ""
            raise CenterMaskError(
                f"{self.checkpoint} cannot be written;{kept} make room on the disk, then resume {self.path}."
            ) from error

    def load_checkpoint(self) -> dict[str, object]:
        """Reads what save_checkpoint wrote; never unpickles code. Raises DataError."""
        try:
            state: dict[str, object] = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise DataError(
                f"{self.path} has no checkpoint.pt to resume from; name the folder of a started run."
            ) from None
        except Exception as error:  # torch raises many kinds for a damaged file
            raise DataError(f"{self.checkpoint} is damaged and cannot be resumed from: {error}") from error
        return state
