# SPDX-License-Identifier: Apache-2.0
"""ONNX -> OpenVINO IR: an .xml with the graph and the ModelSpec, and a .bin of the same name with the weights.

fp16 is a precision of the stored weights: half the file, and a processor still computes in float32. bf16 stores float32
and asks the processor for bf16 arithmetic. int8 is what the ONNX file already is: a graph with QuantizeLinear and
DequantizeLinear, which OpenVINO reads.
"""

from __future__ import annotations

import dataclasses
import os
import tempfile
from pathlib import Path

import openvino as ov

from centermask_export.options import PRECISIONS
from centermask_export.request import Request, Written
from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import ExportError, UsageError, first_line
from centermask_runtime.networks.network import PEAKS_OUTPUTS
from centermask_runtime.networks.openvino_runtime import WEIGHTS_KEY
from centermask_runtime.partial_file import PartialFile
from centermask_runtime.spec import METADATA_KEY, ModelSpec


def write(request: Request) -> Written:
    """Writes the .xml and .bin of a request."""
    precision = request.options.precision
    return Written(write_openvino(request.source, request.spec, request.output, precision=precision), precision)


def write_openvino(onnx_file: Path, spec: ModelSpec, output: Path, *, precision: str = "fp32") -> Path:
    """Writes `output` (.xml) and its .bin, and returns `output`; older ones stay until the new ones are complete.

    precision becomes the specification's. int8 needs a quantised ONNX file, the others one in fp32.
    Raises UsageError, and ExportError when OpenVINO refuses the graph.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"OpenVINO has no precision '{precision}'; choose {', '.join(PRECISIONS)}.")
    if output.suffix != ".xml":
        raise UsageError(f"An OpenVINO model is an .xml file with a .bin beside it; {output} is not.")
    if spec.graph_level != "peaks":
        raise UsageError(f"OpenVINO needs a graph of level peaks, not {spec.graph_level}: nothing decodes heads there.")
    spec = dataclasses.replace(spec, precision=precision)
    try:
        model = ov.Core().read_model(onnx_file)  # not convert_model, which reports to its maker over the network
    except RuntimeError as error:
        reason = next(line for line in reversed(str(error).splitlines()) if line.strip())
        raise ExportError(f"OpenVINO cannot read {onnx_file} ({reason.strip()}); nothing was written.") from error
    quantised = any(node.get_type_name() == "FakeQuantize" for node in model.get_ordered_ops())
    if quantised != (precision == "int8"):
        what = "quantised" if quantised else "not quantised"
        raise ExportError(f"{onnx_file} is {what}, so it makes no OpenVINO model of {precision}; nothing was written.")
    for port, name in zip(model.outputs, PEAKS_OUTPUTS, strict=True):
        port.get_tensor().set_names({name})  # the ONNX name and no other
    model.set_rt_info(spec.to_json(), [METADATA_KEY])
    half = precision == "fp16"
    # the .bin gets its name first (the last one entered leaves first), so a new .xml never lies beside old weights
    with PartialFile(output) as xml, PartialFile(output.with_suffix(".bin")) as weights:
        try:
            with tempfile.TemporaryDirectory(dir=output.parent, prefix=".openvino-") as folder:
                draft = Path(folder) / output.name
                ov.save_model(model, draft, compress_to_fp16=half)
                digest = sha256_of(draft.with_suffix(".bin"))
                model.set_rt_info(digest, [WEIGHTS_KEY])
                ov.save_model(model, draft, compress_to_fp16=half)
                os.replace(draft.with_suffix(".bin"), weights.partial)
                os.replace(draft, xml.partial)
        except (OSError, RuntimeError) as error:
            raise ExportError(f"{output} cannot be written ({first_line(error)}); nothing was.") from error
    return output
