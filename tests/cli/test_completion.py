# SPDX-License-Identifier: Apache-2.0
"""What a shell offers after the Tab key."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from centermask.cli import cli
from centermask.cli.commands import COMMANDS
from centermask.released import released_models
from tests.support.places import ROOT
from tests.support.processes import environment

CONFIGS = {path.stem for path in (ROOT / "configs").glob("*.yaml")}


def offered(line: str) -> set[str]:
    """The names, without the files, that are offered for the last word of the line."""
    _, *arguments, incomplete = line.split(" ")
    items = BashComplete(cli, {}, "centermask", "_CENTERMASK_COMPLETE").get_completions(arguments, incomplete)
    return {item.value for item in items if item.type == "plain"}


def test_commands_are_offered():
    assert offered("centermask ") == set(COMMANDS)
    assert offered("centermask d") == {"datasets", "doctor", "download", "demo"}


def test_options_of_the_command_are_offered():
    assert {"--model", "--source"} <= offered("centermask predict --")
    assert offered("centermask predict --sour") == {"--source"}


@pytest.mark.parametrize("line", ["centermask predict --model ", "centermask compare "])
def test_released_models_are_offered(line):
    assert offered(line) == set(released_models()) and released_models()


def test_a_training_is_offered_starting_weights_too():
    assert offered("centermask train --weights ") == {"none", "imagenet", "coco-person", *released_models()}


@pytest.mark.parametrize("line", ["centermask train --config ", "centermask model "])
def test_shipped_configs_are_offered(line):
    assert offered(line) == CONFIGS and CONFIGS


def test_choices_are_offered():
    assert offered("centermask export --format trt") == {"trt", "trt-rtx"}


@pytest.mark.process
@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_with_the_line_of_the_documentation(tmp_path):
    line = 'eval "$(_CENTERMASK_COMPLETE=bash_source centermask)"'
    assert line in (ROOT / "docs" / "usage.md").read_text()
    program = Path(tmp_path, "centermask")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m centermask "$@"\n')
    program.chmod(0o755)
    script = f"""{line}
COMP_WORDS=(centermask predict --model nuclei_d); COMP_CWORD=3
_centermask_completion centermask
echo "${{COMPREPLY[@]}}"
"""
    env = environment()
    env["PATH"] = f"{tmp_path}{os.pathsep}{env['PATH']}"
    done = subprocess.run(["bash", "-c", script], env=env, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "nuclei_dla_46c\n", done
