# SPDX-License-Identifier: Apache-2.0
"""Training end to end on drawn shapes: what a run leaves, bit-equal resume, Ctrl-C."""

from __future__ import annotations

import csv
import dataclasses
import math
import shutil
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from centermask.config import Config, InputConfig
from centermask.data.dataset import Dataset, load_dataset
from centermask.data.formats.layouts import find_split
from centermask.model.weights import load_weights
from centermask.training.run_folder import RunFolder
from centermask.training.trainer import Trainer
from centermask_runtime.errors import CenterMaskError, DataError
from centermask_runtime.interrupt import DeferredInterrupt
from tests.support.places import NUCLEI
from tests.support.tiny_training import CONFIG, new_trainer, seven_shapes, tensors


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> tuple[Dataset, Dataset]:
    return seven_shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, shapes) -> Trainer:
    """A run that nothing disturbed."""
    trainer = new_trainer(tmp_path_factory.mktemp("runs"), shapes)
    trainer.result = trainer.fit()  # type: ignore[attr-defined]
    return trainer


def assert_same_weights(one: Path, other: Path) -> None:
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


# ---- a whole run ----------------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_behind(finished, shapes):
    run = finished.run
    assert {path.name for path in run.path.iterdir()} == {
        "args.yaml",
        "checkpoint.pt",
        "data.json",
        "results.csv",
        "weights",
    }
    assert {path.name for path in (run.path / "weights").iterdir()} == {"best.safetensors", "last.safetensors"}
    config, (train, val) = run.read()
    assert config == CONFIG
    assert train.load().category_ids == shapes[0].category_ids and Path(val.annotations) == shapes[1].annotation_file
    rows = list(csv.DictReader(run.results.open()))
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6")]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    assert float(rows[0]["seconds"]) < float(rows[1]["seconds"])
    assert float(rows[1]["train/total"]) < float(rows[0]["train/total"])


def test_the_chosen_mask_threshold_travels_in_both_weights_files(finished):
    result = finished.result
    table = result.mask_threshold_ap
    assert table[result.spec.mask_threshold] == max(table.values())
    for path in (finished.run.best, finished.run.last):
        model, spec, config = load_weights(path)
        assert spec.mask_threshold == result.spec.mask_threshold and config == CONFIG and not model.training
        assert spec.class_names == ("ellipse", "rectangle", "star") and spec.category_ids == (1, 2, 3)
        assert spec.saliency_channels == 3 and spec.input_hw == (64, 64)


def test_last_weights_are_the_average_not_the_raw_ones(finished):
    state = tensors(finished.run.last)
    average = finished.learner.average.state_dict()
    assert all(torch.equal(state[name], average[name]) for name in state)
    assert any(not torch.equal(state[name], raw) for name, raw in finished.learner.model.state_dict().items())


@pytest.mark.slow
def test_a_run_on_microscopy_images(tmp_path):
    """Real files from disk, crops, one class, class-agnostic saliency, half precision, a worker."""
    data = load_dataset(find_split(NUCLEI, "train")), load_dataset(find_split(NUCLEI, "val"))
    model = dataclasses.replace(CONFIG.model, saliency="class_agnostic")
    train = dataclasses.replace(CONFIG.train, crop=(64, 64), workers=1, cache=True, epochs=1, precision="bf16-mixed")
    trainer = new_trainer(tmp_path, data, Config("nuclei", model, InputConfig(size=(128, 128)), train))
    result = trainer.fit()
    assert 0 <= result.metrics["segm"]["AP"] <= 1 and result.spec.saliency_channels == 1


# ---- the same again -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(finished, shapes, tmp_path):
    again = new_trainer(tmp_path, shapes)
    again.fit()
    assert_same_weights(again.run.last, finished.run.last)
    assert_same_weights(again.run.best, finished.run.best)


def test_the_seed_chooses_the_first_weights(shapes, tmp_path):
    def first_weights(seed: int) -> torch.Tensor:
        config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, seed=seed))
        model = Trainer(config, *shapes, RunFolder(tmp_path / "none"), device="cpu").learner.model
        return model.state_dict()["base.level0.0.weight"]

    assert torch.equal(first_weights(0), first_weights(0))
    assert not torch.equal(first_weights(0), first_weights(1))


def press_ctrl_c(_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(("event", "step"), [("on_train_batch_end", 2), ("on_train_batch_end", 6), ("on_val_start", 3)])
def test_an_interrupted_run_ends_as_if_never_stopped(finished, shapes, tmp_path, event, step):
    """Bit for bit, wherever Ctrl-C came: inside an epoch, after the last step, or in a validation."""
    trainer = new_trainer(tmp_path, shapes)
    trainer.callbacks.add(event, lambda training: training.state.step == step and press_ctrl_c(training))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    assert trainer.state.step == step
    resumed = Trainer(CONFIG, *shapes, trainer.run, device="cpu")
    resumed.resume()
    assert resumed.state.step == step and 0 < resumed.state.seconds
    resumed.fit()
    assert_same_weights(resumed.run.last, finished.run.last)
    assert_same_weights(resumed.run.best, finished.run.best)
    rows, truth = (list(csv.DictReader(run.results.open())) for run in (resumed.run, finished.run))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["val/segm_AP"] for row in rows] == [row["val/segm_AP"] for row in truth]


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_a_step_waits_for_its_end(finished, shapes, tmp_path):
    """A real signal between the optimizer and the counters; the step is neither lost nor taken twice."""
    trainer = new_trainer(tmp_path, shapes)
    before = signal.getsignal(signal.SIGINT)

    def signalled(*_: object) -> None:
        if trainer.state.step == 1:  # the second step
            signal.raise_signal(signal.SIGINT)

    hook = register_optimizer_step_post_hook(signalled)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    hook.remove()
    assert signal.getsignal(signal.SIGINT) is before
    resumed = Trainer(CONFIG, *shapes, trainer.run, device="cpu")
    resumed.resume()
    assert resumed.state.step == trainer.state.step == 2
    resumed.fit()
    assert_same_weights(resumed.run.last, finished.run.last)
    assert_same_weights(resumed.run.best, finished.run.best)


def test_the_first_ctrl_c_waits_for_a_poll_and_the_second_does_not():
    with DeferredInterrupt() as interrupt:
        interrupt.poll()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupt.poll()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_outside_of_the_main_thread_signals_are_left_alone():
    def handler_inside() -> object:
        with DeferredInterrupt() as interrupt:
            interrupt.poll()
            return signal.getsignal(signal.SIGINT)

    with ThreadPoolExecutor() as threads:
        assert threads.submit(handler_inside).result() is signal.getsignal(signal.SIGINT)


def test_a_finished_run_that_is_resumed_stays_as_it_is(finished, shapes, tmp_path):
    run = RunFolder(tmp_path / "copy")
    shutil.copytree(finished.run.path, run.path)
    again = Trainer(CONFIG, *shapes, run, device="cpu")
    again.resume()
    again.fit()
    assert_same_weights(run.last, finished.run.last)


def test_a_checkpoint_of_the_first_form_is_resumed(finished, shapes, tmp_path):
    """It had the state beside the weights, the steps of the epoch as `batch`, no rates of the
    backbone's own, six losses, and of the best weights the epoch and AP alone.
    """
    trainer = new_trainer(tmp_path, shapes)
    trainer.callbacks.add("on_train_batch_end", lambda training: training.state.step == 4 and press_ctrl_c(training))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    saved = trainer.run.load_checkpoint()
    state = saved.pop("state")
    best = state.pop("best")
    state |= {"best_ap": best["ap"], "best_epoch": best["epoch"], "loss_sum": state["loss_sum"][:6]}
    for group in saved["optimizer"]["param_groups"]:
        del group["lr_scale"]
    trainer.run.save_checkpoint({**saved, **state, "batch": state.pop("step_in_epoch")})
    resumed = Trainer(CONFIG, *shapes, trainer.run, device="cpu")
    resumed.resume()
    assert (resumed.state.step, resumed.state.step_in_epoch) == (4, 1)
    resumed.fit()
    assert_same_weights(resumed.run.last, finished.run.last)


@pytest.mark.slow
def test_a_run_with_a_rate_for_what_it_started_from_is_resumed_as_if_never_stopped(finished, shapes, tmp_path):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, base_lr=0.1, started_lr=0.2))
    whole, trainer = (new_trainer(tmp_path / name, shapes, config) for name in ("whole", "stopped"))
    for one in (whole, trainer):
        one.start_from(finished.run.best)
    whole.fit()
    rates = {group["part"]: group["lr_scale"] for group in whole.learner.optimizer.param_groups}
    assert rates == {"base": 0.1} | dict.fromkeys(("up", "heatmap", "offset", "size", "shape", "saliency"), 0.2)
    trainer.callbacks.add("on_train_batch_end", lambda training: training.state.step == 4 and press_ctrl_c(training))
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    resumed = Trainer(config, *shapes, trainer.run, device="cpu")
    resumed.resume()
    assert {group["part"]: group["lr_scale"] for group in resumed.learner.optimizer.param_groups} == rates
    resumed.fit()
    assert_same_weights(resumed.run.last, whole.run.last)


def test_a_checkpoint_that_lacks_something_is_refused_with_its_version(finished, shapes, tmp_path):
    run = RunFolder(tmp_path)
    saved = finished.run.load_checkpoint()
    for broken, missing in (
        ({key: value for key, value in saved.items() if key != "optimizer"}, "optimizer"),
        ({**saved, "state": {key: value for key, value in saved["state"].items() if key != "seconds"}}, "seconds"),
    ):
        run.save_checkpoint({**broken, "version": "0.0.9"})
        with pytest.raises(
            DataError, match=rf"has no '{missing}', as it was written by centermask 0\.0\.9, and this is"
        ):
            Trainer(CONFIG, *shapes, run, device="cpu").resume()


def test_resume_with_another_config_is_refused(finished, shapes):
    other = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, lr=1.0))
    trainer = Trainer(other, *shapes, finished.run, device="cpu")
    with pytest.raises(CenterMaskError, match=r"was started with another config; resume it with its own args\.yaml"):
        trainer.resume()


def test_resume_without_or_with_a_damaged_checkpoint_is_refused(shapes, tmp_path):
    trainer = new_trainer(tmp_path, shapes)
    with pytest.raises(DataError, match=r"has no checkpoint.pt to resume from"):
        trainer.resume()
    trainer.recorder.make_run_folder(trainer.val_set)
    trainer.run.checkpoint.write_bytes(b"PK\x03\x04 not much")
    with pytest.raises(DataError, match="is damaged and cannot be resumed from"):
        trainer.resume()
    with pytest.raises(DataError, match="is not the folder of a started training"):
        RunFolder(tmp_path).read()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_loss_scale_of_half_precision_is_resumed(shapes, tmp_path):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, precision="16-mixed"))
    trainer = Trainer(config, *shapes, RunFolder(tmp_path / "half"))
    trainer.fit()
    resumed = Trainer(config, *shapes, trainer.run)
    resumed.resume()
    scale = trainer.learner.state_dict()["precision"]
    assert scale and resumed.learner.state_dict()["precision"] == scale
