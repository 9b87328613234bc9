# SPDX-License-Identifier: Apache-2.0
"""ONNX files on disk: whole or not at all, weights in a file beside a graph too large, nothing read from elsewhere.

A protobuf message holds 2 GiB. A larger model keeps its weights in one file NAME.onnx.data beside NAME.onnx, as onnx,
ONNX Runtime and TensorRT read it; a file that names any other place for them is refused.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from google.protobuf.message import DecodeError, EncodeError  # type: ignore[import-untyped, unused-ignore]
from onnx.external_data_helper import convert_model_to_external_data, uses_external_data

from centermask_export.output import data_file, publish
from centermask_export.request import Request, Written
from centermask_runtime.errors import ExportError, ModelError, UsageError, first_line
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.spec import METADATA_KEY, ModelSpec

EXTERNAL_FROM = 1_900_000_000  # bytes of weights: 2 GiB is the limit, and the graph itself needs room
SMALLEST_EXTERNAL = 1024  # bytes: what is smaller stays in the graph, as shape inference reads it
WRITE_ERRORS = (
    OSError,
    DecodeError,
    EncodeError,
    onnx.checker.ValidationError,
    onnx.shape_inference.InferenceError,  # of the checker's full check
)


def write(request: Request) -> Written:
    """Gives the ONNX file, which is made already, its name."""
    publish(request.source, request.output)
    return Written(request.output, request.spec.precision)


def weight_bytes(graph: onnx.ModelProto) -> int:
    return sum(len(tensor.raw_data) for tensor in graph.graph.initializer)


def write_onnx(graph: onnx.ModelProto, path: Path, *, external_from: int = EXTERNAL_FROM) -> None:
    """Checks the graph with onnx's full check and writes it. Changes `graph`. Raises ExportError or UsageError.

    external_from: with as many bytes of weights, they go into data_file(path); an older one is removed otherwise.
    """
    large = weight_bytes(graph) >= external_from
    with PartialFile(path) as file, as_export_error():
        if not large:
            onnx.checker.check_model(graph, full_check=True)
            onnx.save(graph, file.partial)
            return_to_one_file(path)
            return
        folder = path.with_name(f".{path.name}.{os.getpid()}.folder")  # the graph names its data by its final name
        folder.mkdir()
        try:
            convert_model_to_external_data(
                graph, location=data_file(path).name, size_threshold=SMALLEST_EXTERNAL, convert_attribute=False
            )
            onnx.save(graph, folder / path.name)
            onnx.checker.check_model(str(folder / path.name), full_check=True)
            os.replace(data_file(folder / path.name), data_file(path))
            os.replace(folder / path.name, file.partial)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def return_to_one_file(path: Path) -> None:
    """An older file of weights beside `path` belongs to nothing any more."""
    data_file(path).unlink(missing_ok=True)


def files_of(path: Path) -> tuple[Path, ...]:
    """The file and, of a large model, the one with its weights."""
    return (path, data_file(path)) if data_file(path).is_file() else (path,)


def read_spec(path: Path) -> ModelSpec:
    """The ModelSpec in an ONNX file. Raises ModelError when it is not one, not ours, or points outside its folder."""
    return _spec_of(read_graph(path, weights=False), path)


def read_graph(path: Path, *, weights: bool = True) -> onnx.ModelProto:
    """The graph, with or without its external weights. Raises ModelError in the cases that read_spec names."""
    try:
        graph = onnx.load(path, load_external_data=False)
    except FileNotFoundError:
        raise ModelError(f"There is no model file {path}.") from None
    except (OSError, DecodeError) as error:
        raise ModelError(
            f"{path} is not a readable ONNX file ({first_line(error)}): it may be cut off or of another kind; "
            "export or copy it again."
        ) from error
    _check_locations(graph, path)
    _spec_of(graph, path)
    if weights:
        try:
            onnx.load_external_data_for_model(graph, str(path.parent))
        except (OSError, onnx.checker.ValidationError) as error:
            raise ModelError(
                f"The weights of {path} cannot be read ({first_line(error)}); copy its .data file along with it."
            ) from error
    return graph


def _spec_of(graph: onnx.ModelProto, path: Path) -> ModelSpec:
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    made_by = f"{graph.producer_name} {graph.producer_version}".strip()
    return ModelSpec.of_artefact(metadata.get(METADATA_KEY), str(path), made_by)


def _check_locations(graph: onnx.ModelProto, path: Path) -> None:
    """External weights must be a plain file in the folder of the graph: no other folder, no link out of it."""
    for tensor in _tensors(graph):
        if not uses_external_data(tensor):
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        # both kinds of path: a file made on Windows is read on Linux
        plain = location not in ("", ".", "..") and all(
            len(kind(location).parts) == 1 and not kind(location).is_absolute()
            for kind in (PurePosixPath, PureWindowsPath)
        )
        file = path.parent / location
        if not plain or file.is_symlink():
            raise ModelError(
                f"{path} keeps the weights '{tensor.name}' in '{location}', which is not a plain file beside it; "
                "such a file can read anything on this machine: get the model from someone you trust."
            )
        if not file.is_file():
            raise ModelError(
                f"{path} keeps its weights in '{location}', which is not beside it; copy that file along with it."
            )


def _tensors(graph: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors that onnx would load: initializers, and constants of nodes and of what they contain."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [graph.graph, *graph.functions]
    while waiting:
        part = waiting.pop()
        if isinstance(part, onnx.GraphProto):
            yield from part.initializer
            for sparse in part.sparse_initializer:
                yield from (sparse.values, sparse.indices)
        for node in part.node:
            for attribute in node.attribute:
                yield attribute.t
                yield from attribute.tensors
                waiting += [attribute.g, *attribute.graphs]


@contextlib.contextmanager
def as_export_error() -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except WRITE_ERRORS as error:
        raise ExportError(f"The export to ONNX failed ({first_line(error)}); nothing was written.") from error
