# SPDX-License-Identifier: Apache-2.0
"""What is said about a command or option that does not exist.

Words that people bring along from other tools come first, by what they mean; then names that differ in a letter or two.
Where neither helps, nothing is proposed: a proposal that is far off costs more than none.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

MODELS = (".safetensors", ".pt", ".pth", ".onnx", ".xml", ".torchscript", ".engine", ".plan")
ALIKE = 0.75  # difflib's ratio: 'modle' and 'model' have 0.8, 'track' and 'train' 0.6

COMMANDS_ELSEWHERE = {  # what it is called elsewhere -> here
    "predict": "detect segment seg infer inference run",
    "val": "test eval evaluate validate",
    "train": "fit finetune fine-tune",
    "export": "convert to-onnx onnx",
    "benchmark": "bench speed fps profile",
    "visualize": "show draw plot",
    "checks": "info env doctor-env",
    "compare": "diff verify parity",
    "track": "tracking follow count",
    "datasets": "data",
    "doctor": "lint",
    "--help": "help",
    "--version": "version",
}

NOT_YET = "serve pose classify"

OPTIONS_ELSEWHERE = {  # what it is called elsewhere -> what it is called here, named where the command has it
    "--weights --checkpoint --ckpt --engine --onnx": "--model --weights",
    "--model --pretrained": "--config --weights --model",
    "--cfg --yaml": "--config",
    "--hyp --override --opts": "--set",
    "--dataset --data-dir": "--data",
    "--input --image --video --file --path --images": "--source",
    "--project --name --save-dir --out --out-dir --output-dir --dest --exist-ok": "--output",
    "--confidence --conf-thres --conf-threshold --threshold --score-thr --score-threshold": "--conf",
    "--max-detections --max-objects --topk": "--max-det",
    "--class --filter": "--classes",
    "--img-size --image-size --input-size --size --resolution --img": "--imgsz",
    "--batch-size": "--batch",
    "--max-epochs --num-epochs": "--epochs",
    "--max-steps --iterations --max-iter": "--steps",
    "--lr0 --learning-rate": "--lr",
    "--num-workers": "--workers",
    "--early-stopping": "--patience",
    "--gpu --cuda --cpu": "--device",
    "--gpus --nproc": "--num-gpus",
    "--fp16": "--half --precision",
    "--include --to --target": "--format",
    "--calibration --calib": "--calib-data",
    "--nosave --dont-save": "--no-save",
    "--save-img --save-images": "--save",
    "--hide-labels --hide-conf": "--no-labels",
    "--show-labels --show-conf": "--labels",
    "--hide-boxes": "--no-boxes",
    "--show-boxes": "--boxes",
    "--save-results": "--save-json",
    "--view-img --view --display --imshow": "--show",
    "--resume --continue": "--skip-done",
    "--vcodec --video-codec --fourcc": "--codec",
    "--frames --limit --vframes --frame-limit": "--max-frames",
    "--stride --every --frame-skip --skip-frames": "--vid-stride",
    "--ss --from": "--start",
    "--zones --lines --polygons --roi": "--regions",
    "--max-age --track-buffer": "--gap",
    "--min-hits": "--confirm",
    "--silent": "--quiet",
}

WITH_A_MODEL = {  # what other tools have where they run a model, and what to do instead
    "--iou --iou-thres --nms --nms-thres --agnostic-nms": (
        "CenterMask has no NMS: each object is one peak of the heat map, so there is no overlap to choose."
    ),
    "--save-txt": "Labels in YOLO's form are a kind of results: --results yolo; other kinds are csv and jsonl.",
    "--save-conf": "Scores are in --results coco, csv, jsonl and geojson.",
    "--save-crop --save-crops": "Cut-outs are a kind of results: --results crops.",
    "--save-json --save-csv --save-results": "Kinds of results are chosen by --results, as --results coco,csv.",
    "--save-mask --save-masks": "Masks are a kind of results: --results masks.",
    "--retina-masks": "Masks always have the full resolution of the picture.",
    "--imgsz --img-size --img": "The input size is fixed in the model: centermask export --imgsz makes another.",
    "--half --fp16 --int8": "The precision is fixed in the model: centermask export makes another.",
    "--augment --tta": "There is no test-time augmentation.",
    "--tracker --tracking-method": "centermask track gives objects their ids.",
    "--persist": "centermask track gives objects their ids.",
    "--stream --stream-buffer": "Frames always come one by one; --realtime takes always the newest one of a stream.",
    "--task --mode": "Instance segmentation is the only task, and what to do is the command's name.",
}

WITH_TRACKS = {  # what other tools have where they track, and what to do instead
    "--tracker --tracking-method": "There is one kind of tracking; --gap, --confirm and --start-conf are its options.",
    "--persist": "One run keeps its ids; in Python a Tracker keeps them in a loop of your own.",
    "--skip-done --resume --continue": "Ids depend on all frames before, so a run that tracks begins anew.",
}

WITH_A_CONFIG = {  # what other tools have where they train, and the key of the config
    "--optimizer": "It is a key of the config: --set train.optimizer=adamw.",
    "--cos-lr": "It is a key of the config: --set train.schedule=cosine.",
    "--mosaic": "It is a key of the config: --set train.augment.mosaic=0.5.",
    "--amp": "It is a key of the config: --set train.precision=bf16-mixed.",
    "--multi-scale": "It is a key of the config: --set train.multi_scale=0.5.",
}


def unknown_command(name: str, known: Sequence[str]) -> str:
    """The sentence about a command that does not exist."""
    meant = next((here for here, words in COMMANDS_ELSEWHERE.items() if name.lower() in words.split()), None)
    if name.lower() in NOT_YET.split():
        return f"There is no command '{name}' yet. centermask --help lists all."
    near = meant or _alike(name.lower(), known)
    advice = f"Did you mean '{near}'?" if near else "centermask --help lists all."
    return f"No such command '{name}'. {advice}"


def unknown_option(option: str, command: click.Command) -> str:
    """The sentence about an option that a command does not have."""
    known = [name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)]
    written, option = option, option.replace("_", "-")
    for words, candidates in OPTIONS_ELSEWHERE.items():
        here = [name for name in candidates.split() if name in known]
        if option in words.split() and here:
            return f"No such option '{written}'. Did you mean {' or '.join(here)}?"
    elsewhere = (WITH_A_CONFIG if "--set" in known else {}) | (WITH_A_MODEL if {"--model", "--conf"} & {*known} else {})
    elsewhere |= WITH_TRACKS if "--confirm" in known else {}
    for words, sentence in elsewhere.items():
        if option in words.split():
            return f"No such option '{written}'. {sentence}"
    near = _alike(option, [name for name in known if name.startswith("--")])
    return f"No such option '{written}'." + (f" Did you mean {near}?" if near else "")


def wrong_form(arguments: Sequence[str], command: click.Command) -> str | None:
    """The sentence about `model=x.onnx` or a bare picture where options are meant; None where the form is right.

    arguments: what follows the command's name.
    """
    if not arguments or arguments[0].startswith("-"):
        return None
    options = {name: parameter.required for parameter in command.params for name in parameter.opts if name[:2] == "--"}
    name, equals, value = arguments[0].partition("=")
    if equals and re.fullmatch("[a-z][a-z_]*", name):
        option = f"--{name.replace('_', '-')}"
        if option in options:
            return f"Options are written {option} {value}, not {arguments[0]}."
    if any(isinstance(parameter, click.Argument) for parameter in command.params):
        return None
    known = _known_names(command)
    written: dict[str, str] = {}
    for value in itertools.takewhile(lambda argument: not argument.startswith("-"), arguments):
        option = next(
            (option for option in _meant(value, known, options) if option in options and option not in written), ""
        )
        if not option:
            return None
        written[option] = value
    words = " ".join(f"{option} {value}" for option, value in written.items())
    bare = " and ".join(f"'{value}'" for value in written.values())
    return f"{bare} {'stands' if len(written) == 1 else 'stand'} alone; write {words}."


def _known_names(command: click.Command) -> dict[str, str]:
    """The names that a shell completes, such as released models and configs -> the first option that takes them."""
    context, names = click.Context(command), {}
    for parameter in reversed(command.params):
        if parameter.opts[0].startswith("--") and not isinstance(parameter.type, click.Choice):
            for item in parameter.shell_complete(context, ""):
                names[str(item.value)] = parameter.opts[0]
    return names


def _meant(value: str, known: Mapping[str, str], options: Mapping[str, bool]) -> tuple[str, ...]:
    """The options that a bare value can be of, likeliest first. options: of the command -> whether it needs it."""
    if value in known:
        return (known[value],)
    if value.endswith(MODELS) or any(Path(value).glob("*.xml")):
        return "--model", "--weights"
    if value.endswith((".yaml", ".yml")):
        return "--config", "--data"
    if value.endswith(".json"):
        return "--input", "--annotations"
    takes_source = options.get("--source", False)  # export has one for its checks, which is not what it is given
    return ("--source",) if takes_source else ("--data", "--input", "--model")


def _alike(name: str, known: Iterable[str]) -> str | None:
    """The known name that differs in a letter or two, or the only one that begins like this."""
    plain = name.lstrip("-")
    bare = {one.lstrip("-"): one for one in known}
    near = difflib.get_close_matches(plain, bare, n=1, cutoff=ALIKE)
    if not near and len(plain) >= 3:
        near = [one for one in bare if one.startswith(plain)]
    return bare[near[0]] if len(near) == 1 else None
