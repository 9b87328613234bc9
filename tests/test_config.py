# SPDX-License-Identifier: Apache-2.0
"""Config files: what is read is what was written, and whatever is wrong is named with the way out."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from centermask.config import (
    BACKBONES,
    AugmentConfig,
    Config,
    InputConfig,
    ModelConfig,
    TrainConfig,
    load_config,
    parse_config,
    shortcut_overrides,
)
from centermask.model import network
from centermask_runtime.errors import UsageError
from tests.support.places import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_survive_a_round_trip(path):
    config = load_config(path)
    assert parse_config(config.to_yaml(), "again") == config
    assert config.name == path.stem


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_leave_no_value_to_a_default(path):
    """One YAML tells the whole story: every key of the dataclasses is written out."""

    def keys(values, where=""):
        for key, value in values.items():
            yield from keys(value, f"{where}{key}.") if isinstance(value, dict) else (f"{where}{key}",)

    written = set(keys(yaml.safe_load(path.read_text())))
    assert set(keys(dataclasses.asdict(load_config(path)))) - written == set()


@given(
    lr=st.floats(1e-8, 1.0),
    side=st.integers(1, 40),
    drops=st.lists(st.floats(0, 1, exclude_min=True, exclude_max=True), max_size=4),
    crop=st.none() | st.integers(1, 20),
    flag=st.booleans(),
    freeze=st.integers(0, 9) | st.sampled_from(("stem", "base")),
    widths=st.none() | st.tuples(*[st.integers(1, 99)] * 4),
)
def test_any_config_survives_a_round_trip(lr, side, drops, crop, flag, freeze, widths):
    config = Config(
        "tiny",
        ModelConfig(backbone="dla_46c", saliency="class_agnostic", freeze=freeze, up_channels=widths),
        InputConfig(size=(32 * side, 32)),
        TrainConfig(
            lr=lr,
            drops=tuple(drops),
            crop=crop and (32 * crop, 32 * crop),
            augment=AugmentConfig(rotate_90=flag),
        ),
    )
    assert parse_config(config.to_yaml(), "again") == config


def test_backbones_of_the_config_are_those_of_the_model():
    assert set(BACKBONES) == set(network.BACKBONES)


def test_a_file_with_a_name_alone_is_the_paper():
    config = parse_config("name: x", "file")
    assert config.model == ModelConfig("dla_34", 256, 32, "class_specific", 100)
    assert config.input.size == config.canvas_hw == (512, 512)
    assert config.train.epochs * (118_287 // config.train.batch) == pytest.approx(270_000, rel=1e-3)  # steps


def test_numbers_that_yaml_reads_as_text_are_numbers():
    """YAML 1.1 wants a point in 1e-4; people do not."""
    config = parse_config("name: x\ntrain: {lr: 1e-4, weight_decay: 1E-5, warmup_steps: 7, ema: 0}", "file")
    assert config.train.lr == 1e-4 and config.train.weight_decay == 1e-5 and config.train.ema == 0.0


def test_overrides_win_over_the_file():
    config = parse_config(
        "name: x\ntrain:\n  lr: 0.1\n  augment:",
        "file",
        ["train.lr=1e-4", "model.backbone=dla_46c", "input.size=[64, 96]", "train.augment.flip=0", "train.lr=2e-4"],
    )
    assert config.train.lr == 2e-4  # the last one
    assert config.model.backbone == "dla_46c" and config.input.size == (64, 96) and config.train.augment.flip == 0.0


def test_crop_takes_the_place_of_the_input_in_training():
    assert parse_config("name: x\ntrain: {crop: [64, 96]}", "file").canvas_hw == (64, 96)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name: x\ntrain: {learning_rate: 1}", "file: unknown key 'train.learning_rate'; "),
        ("name: x\ntrain: {epoch: 1}", "file: unknown key 'train.epoch'; did you mean 'epochs'?"),
        ("name: x\nmodle: {}", "file: unknown key 'modle'; did you mean 'model'?"),
        ("name: x\nmodel: {backbone: dla34}", "model.backbone 'dla34' is unknown; did you mean 'dla_34'?"),
        (
            "name: x\nmodel: {saliency: both}",
            "model.saliency 'both' is unknown; known are: class_agnostic, class_specific",
        ),
        ("name: x\nmodel: {freeze: stm}", "file: 'model.freeze' must be a whole number or stem or base, not 'stm'."),
        ("name: x\nmodel: {freeze: true}", "file: 'model.freeze' must be a whole number or stem or base, not True."),
        ("name: x\nmodel: {freeze: -1}", "model.freeze must be at least 0, stem or base, not -1."),
        (
            "name: x\nmodel: {deformable: true, up_conv: separable}",
            "model.deformable and model.up_conv separable both say which convolutions the up path has; set deformable",
        ),
        (
            "name: x\nmodel: {backbone: hourglass_104, up_conv: separable}",
            "model.up_channels and model.up_conv are for an up path, and hourglass_104 has none; leave them out.",
        ),
        ("name: x\nmodel: {up_channels: [64, 64]}", "model.up_channels must be four positive whole numbers"),
        ("name: x\nmodel: {up_channels: [64, 64, 0, 64]}", "model.up_channels must be four positive whole numbers"),
        ("name: x\nmodel: {up_channels: 64}", "file: 'model.up_channels' must be a list, not 64."),
        ("name: x\nmodel: {up_conv: depthwise}", "model.up_conv 'depthwise' is unknown; known are: plain, separable"),
        (
            "name: x\ntrain: {drops: [50, 65]}",
            "train.drops must be parts of the run, between 0 and 1 (of 90 epochs",
        ),
        ("name: x\ntrain: {precision: fp16}", "train.precision 'fp16' is unknown; known are: 16-mixed"),
        ("name: x\ntrain: {epochs: many}", "file: 'train.epochs' must be a whole number or auto, not 'many'."),
        ("name: x\ntrain: {epochs: 1.5}", "file: 'train.epochs' must be a whole number or auto, not 1.5."),
        ("name: x\ntrain: {epochs: true}", "file: 'train.epochs' must be a whole number or auto, not True."),
        ("name: x\ntrain: {lr: fast}", "file: 'train.lr' must be a number, not 'fast'."),
        ("name: x\ntrain: {lr: true}", "file: 'train.lr' must be a number, not True."),
        ("name: x\ntrain: {lr: .nan}", "train.lr must be positive, not nan."),
        ("name: x\ntrain: {cache: 1}", "file: 'train.cache' must be true or false, not 1."),
        ("name: 3", "file: 'name' must be text, not 3."),
        ("model: {}", "file: the key 'name' is missing"),
        ("", "file: the key 'name' is missing"),
        ("name: x\nmodel: 3", "file: 'model' must be a section of keys, not 3."),
        ("[1, 2]", "file: 'the file' must be a section of keys, not [1, 2]."),
        ("name: [", "file is not valid YAML"),
        ("name: x\ninput: {size: [512]}", "file: 'input.size' must be a list of 2, not [512]."),
        ("name: x\ninput: {size: 512}", "file: 'input.size' must be a list of 2, not 512."),
        ("name: x\ninput: {size: [500, 512]}", "input.size must be two positive multiples of 32"),
        ("name: x\ninput: {size: [0, 512]}", "input.size must be two positive multiples of 32"),
        ("name: x\ntrain: {crop: [64, 70]}", "train.crop must be two positive multiples of 32"),
        ("name: x\ninput: {std_bgr: [1, 0, 1]}", "input.std_bgr must be three positive numbers, not [1.0, 0.0, 1.0]"),
        ("name: x\ntrain: {epochs: 0}", "train.epochs must be at least 1, or auto, not 0."),
        ("name: x\ntrain: {steps: auto}", "file: 'train.steps' must be a whole number, not 'auto'."),
        ("name: x\ntrain: {steps: 0}", "train.steps must be at least 1 or null, not 0."),
        ("name: x\ntrain: {lr_batch: 0}", "train.lr_batch must be at least 1 or null, not 0."),
        ("name: x\ntrain: {augment: {flip: 1.5}}", "train.augment.flip must be between 0 and 1, not 1.5."),
        ("name: x\ntrain: {loss: {mask_grid: 0}}", "train.loss.mask_grid must be at least 1, not 0."),
        ("name: x\nmodel: {max_detections: 0}", "model.max_detections must be at least 1, not 0."),
        ("name: x\ntrain: {batch: -1}", "train.batch must be at least 1, not -1."),
        ("name: x\ntrain: {lr: 0}", "train.lr must be positive, not 0.0."),
        ("name: x\ntrain: {ema: 1}", "train.ema must be at least 0 and below 1, not 1.0."),
        ("name: x\ntrain: {seed: -1}", "train.seed must be at least 0, not -1."),
        ("name: x\ntrain: {weight_decay: -1e-4}", "train.weight_decay must be at least 0, not -0.0001."),
        ("name: x\ntrain: {weight_decay: .nan}", "train.weight_decay must be at least 0, not nan."),
        ("name: x\ntrain: {clip_norm: 0}", "train.clip_norm must be positive, not 0.0."),
        ("name: x\ntrain: {workers: -1}", "train.workers must be at least 0 or null, not -1."),
        ("name: x\ntrain: {augment: {scale: [1.4, 0.6]}}", "train.augment.scale must be two rising positive numbers"),
    ],
)
def test_a_wrong_value_is_named(text, sentence):
    with pytest.raises(UsageError) as caught:
        parse_config(text, "file")
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("train.lr", "An override is section.key=value, such as train.lr=1e-4, not 'train.lr'."),
        ("=3", "An override is section.key=value"),
        ("name.first=x", "Override name.first=x: 'x' is a value, not a section of keys."),
        ("input.size=[64", "Override input.size=[64: '[64' is no YAML value"),
        ("train.lrr=1", "file: unknown key 'train.lrr'; did you mean 'lr'?"),
        ("trian.lr=1", "file: unknown key 'trian'; did you mean 'train'?"),
    ],
)
def test_a_wrong_override_is_named(override, sentence):
    with pytest.raises(UsageError) as caught:
        parse_config("name: x", "file", [override])
    assert str(caught.value).startswith(sentence)


def test_shortcuts_are_overrides_under_names_that_people_know():
    text = "name: x\ntrain: {steps: 7}"
    config = parse_config(text, "file", shortcut_overrides({"epochs": 3, "lr": 1e-5, "imgsz": 320, "seed": None}))
    assert config.train.epochs == 3 and config.train.steps is None and config.input.size == (320, 320)
    assert config.train.lr == 1e-5 and config.train.seed == 0
    config = parse_config(text, "file", shortcut_overrides({"epochs": 3, "steps": 5, "workers": 0}))
    assert config.train.steps == 5 and config.train.workers == 0
    with pytest.raises(UsageError, match=r"There is no setting 'epoch'; did you mean 'epochs'\?"):
        shortcut_overrides({"epoch": 1})


def test_an_override_of_a_file_without_sections_is_no_crash():
    with pytest.raises(UsageError, match="not a section of keys"):
        parse_config("[1, 2]", "file", ["train.lr=1"])


@pytest.mark.parametrize("name", [path.stem for path in CONFIGS])
def test_a_shipped_config_is_found_by_its_name_from_anywhere(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config(name) == load_config(ROOT / "configs" / f"{name}.yaml")
    (tmp_path / name).mkdir()  # a run folder of that name does not hide it
    assert load_config(name).name == name


def proposed(wrong: str) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(wrong)
    sentence = str(caught.value)
    assert sentence.startswith(f"There is no config file {wrong}; did you mean '") and sentence.endswith("'?")
    return sentence.split("'")[1]


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("configs/mine.yml", "configs/mine.yaml"),
        ("configs/mime.yaml", "configs/mine.yaml"),
        ("mime.yaml", "mine.yml"),
        ("dla46c", "dla_46c"),
        ("configs/dla_46c.yml", "dla_46c"),
        ("nowhere/dla_46c.yaml", "dla_46c"),
    ],
)
def test_what_is_proposed_for_a_missing_config_can_be_opened(wrong, right, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    for path in (tmp_path / "mine.yml", tmp_path / "configs" / "mine.yaml"):
        path.write_text("name: x")
    assert proposed(wrong) == right
    assert load_config(right)


def test_hidden_files_and_strange_ones_are_never_proposed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (".pre-commit-config.yaml", ".dla_47.yaml", "compose.yaml"):
        (tmp_path / name).write_text("name: x")
    assert proposed("dla_47.yaml") == "dla_34" or proposed("dla_47.yaml") == "dla_46c"
    with pytest.raises(UsageError, match=r"There is no config file zebra; known are: dla_34, dla_34_dcn, dla_46c,"):
        load_config("zebra")


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        load_config(tmp_path / "latin.yaml")
