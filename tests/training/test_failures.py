# SPDX-License-Identifier: Apache-2.0
"""How a training fails: numbers that are none any more, and what is refused before it starts. Good weights stay."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch

from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.training.callbacks import Training
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from centermask_runtime.errors import CenterMaskError, DataError, UsageError
from tests.support.places import NUCLEI
from tests.support.tiny_training import CONFIG, new_trainer, seven_shapes, tensors


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[Dataset, Dataset]:
    return seven_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data["images"].pop(), r"7 images with the classes .* was saved, 6 images"),
        (lambda data: data["categories"].append({"id": 9, "name": "star"}), r"was saved, 7 images .* star now"),
    ],
)
def test_a_run_is_not_resumed_on_another_data_set(tmp_path, change, words):
    """Its steps would be counted wrongly, or its weights not fit."""
    trainer = new_trainer(tmp_path / "runs", seven_shapes(tmp_path))
    trainer.recorder.make_run_folder(trainer.val_set)
    trainer.recorder.save_checkpoint(trainer.state)
    for split in ("train", "val"):
        file = tmp_path / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        change(content)
        left = {image["id"] for image in content["images"]}
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in left]
        file.write_text(json.dumps(content))
    changed = load_dataset(find_split(tmp_path, "train")), load_dataset(find_split(tmp_path, "val"))
    with pytest.raises(DataError, match=words):
        Trainer(CONFIG, *changed, trainer.run, device="cpu").resume()


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_last_good_weights(shapes, tmp_path):
    """The NaN comes among the weights after the first epoch, as by an overflow."""

    def poison(training: Training) -> None:
        if training.state.epoch == 1:
            training.learner.model.state_dict()["heatmap.2.bias"].fill_(math.nan)

    trainer = new_trainer(tmp_path, shapes)
    trainer.callbacks.add("on_fit_epoch_end", poison)
    with pytest.raises(CenterMaskError) as caught:
        trainer.fit()
    assert "The loss is not a number any more at step 6 (epoch 2)" in str(caught.value)
    assert f"the last good weights are {trainer.run.last}" in str(caught.value) and "lower train.lr" in str(
        caught.value
    )
    assert all(tensor.isfinite().all() for tensor in tensors(trainer.run.last).values())
    resumed = Trainer(CONFIG, *shapes, trainer.run, device="cpu")
    resumed.resume()
    assert resumed.state.step == 3 and all(p.isfinite().all() for p in resumed.learner.model.parameters())


def test_a_learning_rate_that_explodes_is_named_in_the_first_epoch(shapes, tmp_path):
    """Gradients overflow before the loss does; that must end in the same sentence."""
    config = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, lr=1e25, warmup_steps=0, optimizer="adam")
    )
    trainer = new_trainer(tmp_path, shapes, config)
    with pytest.raises(
        CenterMaskError, match=r"not a number any more at step 3 \(epoch 1\), no good weights were saved yet"
    ):
        trainer.fit()


def test_averaged_weights_that_are_no_numbers_are_never_saved(shapes, tmp_path):
    """The NaN comes after the last step, as by a gradient that overflows in it."""

    def poison(training: Training) -> None:
        training.learner.average.state_dict()["heatmap.2.bias"].fill_(math.nan)

    trainer = new_trainer(tmp_path, shapes)
    trainer.callbacks.add("on_train_batch_end", poison)
    with pytest.raises(CenterMaskError, match=r"The average of the weights is not a number any more at step 3"):
        trainer.fit()
    assert list((trainer.run.path / "weights").iterdir()) == [] and not trainer.run.checkpoint.exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_what_this_machine_cannot_do_is_refused(shapes, tmp_path):
    with pytest.raises(UsageError, match=r"A training on a GPU \(device cuda\) was asked for, but PyTorch finds none"):
        Trainer(CONFIG, *shapes, RunFolder(tmp_path), device="cuda")
    half = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, precision="16-mixed"))
    with pytest.raises(UsageError, match=r"16-mixed needs a GPU; use bf16-mixed or 32-true"):
        Trainer(half, *shapes, RunFolder(tmp_path))


def test_more_detections_than_cells_are_refused(shapes, tmp_path):
    model = dataclasses.replace(CONFIG.model, max_detections=3 * 16 * 16)
    Trainer(dataclasses.replace(CONFIG, model=model), *shapes, RunFolder(tmp_path), device="cpu")
    model = dataclasses.replace(CONFIG.model, max_detections=3 * 16 * 16 + 1)
    with pytest.raises(UsageError, match=r"model.max_detections 769 is more than the 3 x 16 x 16 cells"):
        Trainer(dataclasses.replace(CONFIG, model=model), *shapes, RunFolder(tmp_path), device="cpu")


def test_data_sets_that_do_not_fit_are_refused(shapes, tmp_path):
    nuclei = load_dataset(find_split(NUCLEI, "val"))
    with pytest.raises(DataError, match="have different categories"):
        new_trainer(tmp_path, (shapes[0], nuclei))
    turned = dataclasses.replace(shapes[1], class_names=shapes[1].class_names[::-1])
    with pytest.raises(DataError, match=r"have different categories, 1 'ellipse' is in one of them only"):
        new_trainer(tmp_path, (shapes[0], turned))
    nothing = dataclasses.replace(shapes[0], images=(), annotations=())
    with pytest.raises(DataError, match="has no image to train on"):
        new_trainer(tmp_path, (nothing, shapes[1]))
    crowds = [tuple(dataclasses.replace(one, crowd=True) for one in of_image) for of_image in shapes[1].annotations]
    for useless in (((), ()), tuple(crowds)):
        without = dataclasses.replace(shapes[1], annotations=useless)
        with pytest.raises(DataError, match="has no object but crowds, so there is nothing to validate on"):
            new_trainer(tmp_path, (shapes[0], without))
    assert list(tmp_path.iterdir()) == []  # no run folder is left behind
