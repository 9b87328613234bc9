# SPDX-License-Identifier: Apache-2.0
"""The Triton repository: a configuration that Triton's own schema takes, and a client that speaks its protocol.

No Triton server runs here. A gRPC server of Triton's published service stands in for it: it reads the written
config.pbtxt and computes with ONNX Runtime, so that client, configuration and graph must fit together.
"""

from __future__ import annotations

import importlib.util
import json
import re
from concurrent import futures
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

from centermask_export.to_triton import write_triton
from centermask_runtime.errors import ModelError, UsageError
from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork
from centermask_runtime.pipeline.cpu import Pipeline
from centermask_runtime.spec import METADATA_KEY, ModelSpec
from tests.runtime.networks.test_onnx_runtime import tiny_graph
from tests.support.places import ROOT

CLIENT = ROOT / "docs" / "examples" / "triton_client.py"


@pytest.fixture(params=["N", 1, 4], ids=["dynamic batch", "batch 1", "batch 4"])
def batch(request):
    return request.param


@pytest.fixture
def onnx_file(tmp_path, small_spec, small_outputs, batch) -> Path:
    path = tmp_path / "small.onnx"
    onnx.save(tiny_graph(small_spec, small_outputs, batch=batch), path)
    return path


def parsed(folder: Path):
    """config.pbtxt read by Triton's schema: an unknown field, type or enum value is an error."""
    pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient, which has the schema")
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text(), pb2.ModelConfig())


def test_tritons_schema_takes_the_configuration(onnx_file, small_spec, tmp_path, batch):
    config = parsed(write_triton(onnx_file, small_spec, tmp_path / "repository", max_batch=6))
    assert (config.name, config.backend, config.default_model_filename) == ("small", "onnxruntime", "model.onnx")
    assert config.max_batch_size == (6 if batch == "N" else 0)
    assert config.HasField("dynamic_batching") == (batch == "N")
    assert [(warmup.batch_size, len(warmup.inputs)) for warmup in config.model_warmup] == (
        [(1, 1), (6, 1)] if batch == "N" else [(1, 1)]
    )
    assert json.loads(config.parameters[METADATA_KEY].string_value)["class_names"] == ["cat", "dog", "kite"]


def test_shapes_and_types_are_what_onnx_runtime_reports(onnx_file, small_spec, tmp_path, batch):
    config = parsed(write_triton(onnx_file, small_spec, tmp_path / "repository"))
    session = onnxruntime.InferenceSession(onnx_file)
    names = {"tensor(uint8)": "TYPE_UINT8", "tensor(int32)": "TYPE_INT32", "tensor(float)": "TYPE_FP32"}
    for listed, values in ((config.input, session.get_inputs()), (config.output, session.get_outputs())):
        fields = type(listed[0]).DESCRIPTOR.fields_by_name["data_type"].enum_type.values_by_number
        found = [(entry.name, fields[entry.data_type].name, list(entry.dims)) for entry in listed]
        skip = 1 if batch == "N" else 0  # a batch that the server may choose is not among the dims
        assert found == [(value.name, names[value.type], list(value.shape[skip:])) for value in values]


def test_warm_up_images_have_the_shape_of_the_input(onnx_file, small_spec, tmp_path, batch):
    config = parsed(write_triton(onnx_file, small_spec, tmp_path / "repository"))
    leading = [] if batch == "N" else [batch]
    for warmup in config.model_warmup:
        assert list(warmup.inputs["images"].dims) == [*leading, 64, 96, 3]
        assert warmup.inputs["images"].data_type == config.input[0].data_type


def test_the_repository_is_complete_without_the_schema_at_hand(onnx_file, small_spec, tmp_path):
    folder = write_triton(onnx_file, small_spec, tmp_path / "a" / "repository")
    assert folder == tmp_path / "a" / "repository" / "small"
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["1/model.onnx", "config.pbtxt", "labels.txt"]
    assert (folder / "1" / "model.onnx").read_bytes() == onnx_file.read_bytes()
    assert (folder / "labels.txt").read_text().split() == list(small_spec.class_names)
    text = re.search(rf'key: "{METADATA_KEY}" value {{ string_value: (".*") }}', (folder / "config.pbtxt").read_text())
    assert text is not None and ModelSpec.from_json(json.loads(text[1]), "config") == small_spec


def test_an_engine_is_served_by_the_tensorrt_back_end(onnx_file, small_spec, tmp_path):
    plan = tmp_path / "small.engine"
    plan.write_bytes(b"engine")
    plan.with_name("small.engine.json").write_text("{}")
    folder = write_triton(onnx_file, small_spec, tmp_path / "repository", plan=plan)
    assert sorted(path.name for path in (folder / "1").iterdir()) == ["model.plan", "model.plan.json"]
    config = parsed(folder)
    assert (config.backend, config.default_model_filename) == ("tensorrt", "model.plan")
    assert config.instance_group[0].kind == config.instance_group[0].KIND_GPU


def test_exporting_again_replaces_the_model_and_nothing_of_somebody_else(onnx_file, small_spec, tmp_path):
    folder = write_triton(onnx_file, small_spec, tmp_path / "repository")
    (folder / "labels.txt").write_text("old")
    assert write_triton(onnx_file, small_spec, tmp_path / "repository") == folder
    assert (folder / "labels.txt").read_text() == "cat\ndog\nkite\n"
    assert [path.name for path in folder.parent.iterdir()] == ["small"]  # nothing half-made stays
    (folder / "config.pbtxt").unlink()
    with pytest.raises(UsageError, match=r"without config\.pbtxt"):
        write_triton(onnx_file, small_spec, tmp_path / "repository")


def test_a_file_that_is_not_ours_is_refused(small_spec, tmp_path):
    path = tmp_path / "notes.onnx"
    path.write_text("notes")
    with pytest.raises(ModelError, match=r"notes\.onnx"):
        write_triton(path, small_spec, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()


def test_a_batch_of_nothing_is_refused(small_spec, tmp_path):
    with pytest.raises(UsageError, match="at least 1"):
        write_triton(tmp_path / "small.onnx", small_spec, tmp_path, max_batch=0)


# ---- the client -----------------------------------------------------------------------------------------------------


@pytest.fixture
def client():
    pytest.importorskip("tritonclient.grpc", reason="needs tritonclient")
    spec = importlib.util.spec_from_file_location("triton_client", CLIENT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def url(onnx_file, small_spec, tmp_path):
    """A server of Triton's gRPC service for the written repository, its arithmetic by ONNX Runtime."""
    pytest.importorskip("tritonclient.grpc", reason="needs tritonclient")
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    folder = write_triton(onnx_file, small_spec, tmp_path / "repository")
    config = parsed(folder)
    session = onnxruntime.InferenceSession(folder / "1" / config.default_model_filename)

    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelConfig(self, request, context):
            if request.name != config.name:
                context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
            return service_pb2.ModelConfigResponse(config=config)

        def ModelInfer(self, request, context):
            given = request.inputs[0]
            if (given.name, given.datatype) != ("images", "UINT8"):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "another input")
            images = np.frombuffer(request.raw_input_contents[0], np.uint8).reshape(given.shape)
            response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
            names = [output.name for output in request.outputs]
            for name, values in zip(names, session.run(names, {"images": images}), strict=True):
                kind = {np.dtype(np.int32): "INT32", np.dtype(np.float32): "FP32"}[values.dtype]
                response.outputs.add(name=name, datatype=kind, shape=values.shape)
                response.raw_output_contents.append(values.tobytes())
            return response

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None)


@pytest.mark.parametrize("batch", ["N", 1], indirect=True)
def test_the_client_finds_what_the_local_pipeline_finds(client, url, onnx_file):
    frame = np.random.default_rng(3).integers(100, 256, (150, 140, 3), dtype=np.uint8)  # letterboxed on both sides
    with Pipeline(client.TritonNetwork(url, "small")) as served, Pipeline(OnnxRuntimeNetwork(onnx_file)) as local:
        assert served.spec == local.spec
        found, expected = served(frame), local(frame)
    assert len(found) == len(expected) > 0
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.masks.rles() == expected.masks.rles()


@pytest.mark.parametrize("batch", [1], indirect=True)
def test_the_client_writes_a_drawn_picture(client, url, tmp_path, capsys):
    image = np.full((80, 120, 3), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "white.png"), image)
    client.main(["--url", url, "--name", "small", "--output", str(tmp_path / "out"), str(tmp_path / "white.png")])
    drawn = cv2.imread(str(tmp_path / "out" / "white.png"))
    assert drawn.shape == image.shape and (drawn != image).any()
    assert re.fullmatch(r"white\.png: [1-9] objects\n", capsys.readouterr().out)


@pytest.mark.parametrize("batch", [1], indirect=True)
def test_the_client_says_when_the_model_or_the_server_is_not_there(client, url):
    with pytest.raises(SystemExit, match="no configuration of 'large'"):
        client.main(["--url", url, "--name", "large", "x.png"])
    with pytest.raises(SystemExit, match="no configuration of 'small'"):
        client.main(["--url", "localhost:9", "--name", "small", "x.png"])
