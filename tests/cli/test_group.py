# SPDX-License-Identifier: Apache-2.0
"""The table of commands: it agrees with the commands, and listing or importing them loads little."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import grimp
import pytest

import centermask.cli
from centermask.cli import cli, main
from centermask.cli.commands import COMMANDS
from tests.support.processes import environment

EXTRAS = {
    "torch", "pycocotools", "lightning_fabric", "matplotlib", "tensorboard", "onnx", "onnxscript", "openvino",
    "safetensors", "scipy", "PIL", "tensorrt", "tensorrt_rtx", "cuda", "pycuda",
}  # fmt: skip


def import_in_a_new_process(*modules: str) -> set[str]:
    """The top-level packages that a fresh interpreter has after importing the modules."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], check=True, env=environment(), capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.process
def test_listing_the_commands_loads_no_library_that_computes():
    heavy = {"torch", "numpy", "cv2", "onnxruntime", "onnx", "rich", "av", "yaml"}
    assert not heavy & import_in_a_new_process("centermask.cli")


@pytest.mark.process
def test_the_files_of_all_commands_load_without_any_extra():
    assert not EXTRAS & import_in_a_new_process(*(row.module for row in COMMANDS.values()))


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_the_table_is_the_first_sentence_of_the_command(name):
    command = cli.get_command(click.Context(cli), name)
    first_paragraph = " ".join(inspect.cleandoc(command.help).split("\n\n")[0].split())
    sentence, stop, _ = first_paragraph.partition(". ")
    assert f"{COMMANDS[name].help}." == (f"{sentence}." if stop else sentence)
    assert command.name == name


def test_every_file_with_a_command_is_in_the_table():
    folder = Path(centermask.cli.__file__).parent
    with_command = {path.stem for path in folder.glob("*.py") if "\n@click.command(" in path.read_text()}
    assert with_command == set(COMMANDS)


def test_at_80_columns_each_command_is_one_whole_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main(["--help"])
    listed = capsys.readouterr().out.partition("Commands:\n")[2].splitlines()
    assert [line.split(maxsplit=1) for line in listed] == [[name, row.help] for name, row in COMMANDS.items()]


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_explained_and_says_per_where_it_counts_per_something(name):
    command = cli.get_command(click.Context(cli), name)
    texts = [option.help for option in command.params if isinstance(option, click.Option)]
    assert all(texts), [option.name for option in command.params if not getattr(option, "help", "an argument")]
    for text in (command.help, *texts):
        assert not re.search(
            r"(images?|objects?|frames?|pictures?|times?) an? (run|second|frame|image|class)\b", text
        ), text


@pytest.mark.parametrize("line", [line for row in COMMANDS.values() for line in row.examples])
def test_an_example_is_a_line_that_the_command_takes(line):
    program, name, *arguments = shlex.split(line)
    command = cli.get_command(click.Context(cli), name)
    assert program == "centermask" and line in COMMANDS[name].examples
    command.make_context(name, arguments)  # parses, and runs nothing


@pytest.mark.parametrize("name", COMMANDS)
def test_help_ends_with_two_or_three_examples_that_fit_80_columns(name, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main([name, "--help"])
    lines = capsys.readouterr().out.partition("Examples:\n")[2].splitlines()
    assert [line.strip() for line in lines] == list(COMMANDS[name].examples)
    assert 2 <= len(lines) <= 3 and all(len(line) <= 80 for line in lines)


def imports_inside_functions(path: Path) -> set[str]:
    functions = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef))
    found = {node for function in functions for node in ast.walk(function)}
    names = {alias.name for node in found if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module for node in found if isinstance(node, ast.ImportFrom)}


def test_a_command_imports_inside_a_function_only_what_needs_an_extra():
    graph = grimp.build_graph(
        "centermask", "centermask_export", "centermask_runtime", include_external_packages=True, cache_dir=None
    )
    for path in Path(centermask.cli.__file__).parent.glob("*.py"):
        for module in imports_inside_functions(path):
            below = {module} if module in EXTRAS else graph.find_upstream_modules(module)
            assert EXTRAS & below, f"{path.name} imports {module} inside a function, and it needs no extra"
