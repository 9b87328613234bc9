# SPDX-License-Identifier: Apache-2.0
"""What README and docs/ show works: Python blocks run, and commands have the options that they are written with."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import click
import cv2
import pytest

from centermask import training
from centermask.cli import cli
from centermask.training import start
from tests.support.exported_models import frames
from tests.support.places import NUCLEI, ROOT

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "samples" / "README.md")
ELSEWHERE = {
    "docs/gpu.md": "tests/runtime/pipeline/test_gpu.py",  # with a driver in the place of a GPU
    "docs/training.md": "tests/training/test_start.py",
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(str(page.relative_to(ROOT)), line, match[1], match[2]))
    return found


BLOCKS = blocks()
PYTHON = [block for block in BLOCKS if block.language == "python" and block.page not in ELSEWHERE]
PYTHON_PAGES = list(dict.fromkeys(block.page for block in PYTHON))


def commands() -> list[tuple[str, str, bool]]:
    """(where, command line, whether it is whole) of every `centermask ...` in a block or in the text."""
    found = []
    for block in BLOCKS:
        for line in block.text.replace("\\\n", " ").splitlines():
            if line.strip().startswith("centermask "):
                found.append((str(block), line.strip(), True))
    for page in PAGES:
        for inline in re.findall(r"`(centermask [^`]+)`", BLOCK.sub("", page.read_text())):
            found.append((str(page.relative_to(ROOT)), " ".join(inline.split()), False))
    return found


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working folder with the files that the pages name, and a package that is not installed."""
    (tmp_path / "samples").symlink_to(ROOT / "samples")
    (tmp_path / "my_data").symlink_to(NUCLEI)
    (tmp_path / "photos").mkdir()
    for index, picture in enumerate(frames(2)):
        cv2.imwrite(str(tmp_path / "photos" / f"{index}.jpg"), picture)
    from centermask_runtime.sinks.video_writer import VideoWriter

    picture = frames(1)[0][:120, :160]
    with VideoWriter(tmp_path / "clip.mp4", (120, 160), 10) as writer:
        for index in range(2):
            writer.write(picture, index / 10)
    monkeypatch.chdir(tmp_path)
    wandb = types.ModuleType("wandb")
    wandb.init = lambda **given: None
    wandb.log = lambda *row, **given: wandb.logged.append(row)
    wandb.logged = []
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return tmp_path


@pytest.fixture
def short_training(monkeypatch):
    """train() takes what a page gives it, but one step with small images, from weights that find something."""
    train = training.train

    @functools.wraps(train)
    def short(*given, **named):
        called = inspect.signature(train).bind(*given, **named)  # as it is written
        small = {"settings": {"steps": 1, "imgsz": 128, "batch": 2, "workers": 0}, "plots": False, "quiet": True}
        if called.arguments["config"] == "nuclei_dla_46c":
            small["weights"] = "nuclei"
        called.arguments.update(small)
        return train(*called.args, **called.kwargs)

    for module in (training, start):
        monkeypatch.setattr(module, "train", short)


@pytest.mark.slow
@pytest.mark.parametrize("page", PYTHON_PAGES)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page, folder, short_training):
    names: dict[str, object] = {"__name__": "docs"}
    for block in PYTHON:
        if block.page != page:
            continue
        exec(compile(block.text, str(block), "exec"), names)
        if "wandb.log" in block.text:
            assert sys.modules["wandb"].logged
        if '.save("out")' in block.text:
            assert {path.name for path in (folder / "out").iterdir()} == {"clip.mp4", "predictions.json"}


def test_blocks_that_run_elsewhere_do():
    for page, test in ELSEWHERE.items():
        assert page.rpartition("/")[2] in (ROOT / test).read_text()
    assert len(PYTHON) >= 4 and PYTHON[0].page == "README.md"


def test_the_first_block_of_the_readme_is_a_call_in_python():
    first = next(block for block in BLOCKS if block.page == "README.md")
    assert first.language == "python" and "model = CenterMask(" in first.text


@pytest.mark.parametrize(("where", "line", "whole"), commands())
def test_a_command_has_the_options_it_is_shown_with(where, line, whole):
    words = shlex.split(line, comments=True)[1:]
    context = click.Context(cli)
    command = cli.get_command(context, words[0])
    assert command is not None, f"{where}: there is no command {words[0]}"
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known |= set(command.get_help_option_names(click.Context(command)))
    known |= {name for parameter in cli.params for name in parameter.opts}
    for word in words[1:]:
        if word.startswith("-") and word != "-":  # that stands for the standard output
            assert word.partition("=")[0] in known, f"{where}: {words[0]} has no option {word}"
    if whole:  # its values are right, too
        command.make_context(words[0], words[1:])
