# SPDX-License-Identifier: Apache-2.0
"""What is proposed for a command or option that does not exist: what was meant, or nothing."""

from __future__ import annotations

import click
import pytest

from centermask.cli import cli, main
from centermask.cli.commands import COMMANDS
from centermask.cli.suggestions import COMMANDS_ELSEWHERE, OPTIONS_ELSEWHERE, WITH_A_CONFIG, unknown_command
from centermask.config import parse_config


def sentence(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(list(arguments))
    assert stopped.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("Error: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "--modle", "x"), "No such option '--modle'. Did you mean --model?"),
        (("predict", "--weights", "x"), "No such option '--weights'. Did you mean --model?"),
        (("predict", "--project", "x"), "No such option '--project'. Did you mean --output?"),
        (("predict", "--name", "x"), "No such option '--name'. Did you mean --output?"),
        (("predict", "--conf-thres=0.2"), "No such option '--conf-thres'. Did you mean --conf?"),
        (("predict", "--nosave"), "No such option '--nosave'. Did you mean --no-save?"),
        (("train", "--model", "x"), "No such option '--model'. Did you mean --config or --weights?"),
        (("train", "--batch-size", "8"), "No such option '--batch-size'. Did you mean --batch?"),
        (("export", "--fp16"), "No such option '--fp16'. Did you mean --half or --precision?"),
        (("trian",), "No such command 'trian'. Did you mean 'train'?"),
        (("pred",), "No such command 'pred'. Did you mean 'predict'?"),
        (("detect", "predict"), "No such command 'detect'. Did you mean 'predict'?"),
        (("segment",), "No such command 'segment'. Did you mean 'predict'?"),
        (("test",), "No such command 'test'. Did you mean 'val'?"),
        (("help",), "No such command 'help'. Did you mean '--help'?"),
    ],
)
def test_the_nearest_name_is_proposed_by_meaning_then_by_letters(arguments, said, capsys):
    assert sentence(capsys, *arguments) == said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("predict", "--iou", "0.5"), "CenterMask has no NMS"),
        (("export", "--nms"), "CenterMask has no NMS"),
        (("predict", "--save-txt"), "--results yolo"),
        (("predict", "--save-crop"), "--results crops"),
        (("predict", "--save-csv"), "--results coco,csv"),
        (("predict", "--view-img"), "Did you mean --show?"),
        (("predict", "--save_crop"), "No such option '--save_crop'. Cut-outs are a kind of results"),
        (("predict", "--tracker", "x.yaml"), "centermask track gives objects their ids"),
        (("track", "--tracker", "x.yaml"), "--gap, --confirm and --start-conf"),
        (("track", "--zones", "x.yaml"), "Did you mean --regions?"),
        (("track", "--skip-done"), "a run that tracks begins anew"),
        (("predict", "--resume"), "Did you mean --skip-done?"),
        (("predict", "--imgsz", "640"), "centermask export --imgsz"),
        (("compare", "a", "b", "--half"), "centermask export"),
        (("train", "--optimizer", "SGD"), "--set train.optimizer"),
    ],
)
def test_an_option_without_a_counterpart_is_answered_with_what_to_do(arguments, says, capsys):
    assert says in sentence(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "--fancy", "x"), "No such option '--fancy'."),
        (("doctor", "--iou", "0.5"), "No such option '--iou'."),
        (("doctor", "--json-lines"), "No such option '--json-lines'."),
        (("--source", "x"), "No such option '--source'."),
        (("compare", "-x"), "No such option '-x'."),
        (("serve",), "There is no command 'serve' yet. centermask --help lists all."),
        (("frobnicate",), "No such command 'frobnicate'. centermask --help lists all."),
    ],
)
def test_what_is_near_to_nothing_gets_no_proposal(arguments, said, capsys):
    assert sentence(capsys, *arguments) == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("predict", "model=a.onnx", "source=b.png"), "Options are written --model a.onnx, not model=a.onnx."),
        (("val", "save_json=a.json"), "Options are written --save-json a.json, not save_json=a.json."),
        (("export", "best.safetensors"), "'best.safetensors' stands alone; write --model best.safetensors."),
        (("export", "nuclei"), "'nuclei' stands alone; write --model nuclei."),
        (("export", "somewhere/best", "--half"), "'somewhere/best' stands alone; write --model somewhere/best."),
        (("val", "nuclei"), "'nuclei' stands alone; write --model nuclei."),
        (("val", "nuclei", "my_data"), "'nuclei' and 'my_data' stand alone; write --model nuclei --data my_data."),
        (
            ("train", "dla_46c", "my_data"),
            "'dla_46c' and 'my_data' stand alone; write --config dla_46c --data my_data.",
        ),
        (("train", "my_data"), "'my_data' stands alone; write --data my_data."),
        (("benchmark", "clip.mp4"), "'clip.mp4' stands alone; write --source clip.mp4."),
        (("doctor", "my_data"), "'my_data' stands alone; write --data my_data."),
        (("visualize", "results.json"), "'results.json' stands alone; write --input results.json."),
    ],
)
def test_a_value_without_its_option_is_answered_with_the_right_form(arguments, said, capsys):
    assert sentence(capsys, *arguments) == said


def test_the_nearest_format_is_proposed(capsys):
    said = sentence(capsys, "export", "--model", "nuclei", "--format", "onxx")
    assert said.endswith("There is no format 'onxx'; did you mean 'onnx'?")


def test_the_usage_of_the_command_comes_before_the_sentence(capsys):
    with pytest.raises(SystemExit):
        main(["predict", "--iou", "0.5"])
    assert capsys.readouterr().err.startswith("Usage: centermask predict [OPTIONS] [SOURCE]...\n")


def test_a_word_from_elsewhere_leads_to_what_exists():
    options = {
        name
        for command in (cli.get_command(click.Context(cli), name) for name in COMMANDS)
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {name for names in OPTIONS_ELSEWHERE.values() for name in names.split()} <= options
    assert set(COMMANDS_ELSEWHERE) <= {*COMMANDS, "--help", "--version"}
    for words in COMMANDS_ELSEWHERE.values():
        assert all("Did you mean" in unknown_command(word, list(COMMANDS)) for word in words.split())


@pytest.mark.parametrize("advice", WITH_A_CONFIG.values())
def test_the_key_of_the_config_that_is_named_can_be_set(advice):
    override = advice.partition("--set ")[2].rstrip(".")
    assert parse_config("name: x", "a config", [override]) != parse_config("name: x", "a config")
