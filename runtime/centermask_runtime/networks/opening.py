# SPDX-License-Identifier: Apache-2.0
"""Which back end runs an exported file: ONNX Runtime an .onnx, OpenVINO an .xml, TensorRT or TensorRT-RTX an engine.

A back end is imported when a file needs it, so that none has to be installed for the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from centermask_runtime.arguments import path_of
from centermask_runtime.cpus import threads_to_use
from centermask_runtime.device import ENGINE_SUFFIXES, Device, check_threads
from centermask_runtime.errors import ModelError, first_line
from centermask_runtime.packages import need

if TYPE_CHECKING:
    from centermask_runtime.cuda.driver import Driver
    from centermask_runtime.networks.gpu_network import GpuNetwork
    from centermask_runtime.networks.network import Network

MODEL_SUFFIXES = (".onnx", ".xml", *ENGINE_SUFFIXES)
TORCH_SUFFIXES = (".safetensors", ".torchscript")  # that centermask.opening knows


def find_file(model: str | Path, suffixes: Sequence[str] = MODEL_SUFFIXES) -> Path | None:
    """The model file that `model` is, or the .xml in the folder that it is; None where it is no such path.

    Raises ModelError where a file of these suffixes is named and not there, or a folder holds not one .xml; UsageError
    for what is neither path nor text.
    """
    path = path_of(model, "A model")
    if path.suffix in suffixes:
        if not path.is_file():
            raise ModelError(f"There is no model file {path}.")
        return path
    if path.is_dir():
        found = sorted(path.glob("*.xml"))
        if len(found) == 1:
            return found[0]
        raise ModelError(f"The folder {path} holds {len(found) or 'no'} OpenVINO models (.xml); name a model file.")
    return None


def find_exported(model: str | Path) -> Path:
    """The exported file that `model` names, or the .xml in its folder. Raises ModelError that says what else it is."""
    path = find_file(model)
    if path is not None:
        return path
    if Path(model).suffix in TORCH_SUFFIXES:
        raise ModelError(
            f"{model} needs PyTorch: open it by `from centermask import CenterMask`, or export it to .onnx first."
        )
    raise ModelError(
        f"'{model}' is no exported model file ({', '.join(MODEL_SUFFIXES)}); a released model opens by its name "
        "with `from centermask import CenterMask`."
    )


def open_network(path: str | Path, device: Device | None = None, threads: int | None = None) -> Network:
    """The network of an exported file on a device, which nothing falls back from. The caller closes it.

    threads: of the CPU; None is all of them. An engine, and an .onnx file on a GPU, come with a driver of their own and
    give their outputs to the host; whoever wants speed there takes open_pipeline, which keeps them on the device.
    Raises ModelError for the file, UsageError for the device and for a missing package, DriverError for the GPU.

        with open_network("model.onnx", Device.of("cpu"), threads=4) as network: ...
    """
    path, device = find_exported(path), device or Device()
    return _open_gpu_as_network(path, device) if device.runs_gpu_network(path) else open_cpu_network(path, threads)


def open_cpu_network(path: Path, threads: int | None = None) -> Network:
    """The network of an .onnx or .xml file on the CPU. Raises ModelError, UsageError."""
    threads = threads_to_use(check_threads(threads))
    if path.suffix == ".xml":
        need("openvino", "openvino", f"running {path.name}")
        from centermask_runtime.networks.openvino_runtime import OpenVinoNetwork

        return OpenVinoNetwork(path, threads=threads)
    from centermask_runtime.networks.onnx_runtime import OnnxRuntimeNetwork

    return OnnxRuntimeNetwork(path, threads=threads)


@contextmanager
def gpu_stream(path: str | Path, provider: str = "auto", device: int = 0) -> Iterator[tuple[Driver, int]]:
    """A driver and a stream on it, both given back at the end. Raises UsageError, DriverError; see open_driver.

    path: the file that will run there. Where there is no GPU, the error says that an engine needs one.
    """
    from centermask_runtime.cuda.driver import DriverError
    from centermask_runtime.cuda.providers import open_driver

    with ExitStack() as made:
        try:
            driver = open_driver(provider, device)
        except DriverError as error:
            if Path(path).suffix not in ENGINE_SUFFIXES:
                raise
            raise DriverError(
                f"{path} is an engine, which needs an NVIDIA GPU ({first_line(error)}); without one, run the .onnx "
                "file that it was built from."
            ) from error
        made.callback(driver.close)
        stream = driver.create_stream()
        made.callback(driver.destroy_stream, stream)
        yield driver, stream


def open_gpu_network(path: str | Path, driver: Driver, stream: int, *, device: int = 0) -> GpuNetwork:
    """A network whose work goes on the stream: for the batch size of the file, or for 1 where that is open.

    Raises ModelError.
    """
    path = Path(path)
    if path.suffix == ".onnx":
        from centermask_runtime.networks.onnx_runtime_gpu import OnnxRuntimeGpuNetwork

        return OnnxRuntimeGpuNetwork(path, stream, device=device)
    if path.suffix in ENGINE_SUFFIXES:
        from centermask_runtime.networks.tensorrt_engine import TensorRTEngine

        return TensorRTEngine(path, driver).network()
    raise ModelError(f"{path} is no .onnx, {' or '.join(ENGINE_SUFFIXES)} file: give what `centermask export` wrote.")


def _open_gpu_as_network(path: Path, device: Device) -> Network:
    """On a driver and a stream of its own, which close with it."""
    from centermask_runtime.networks.gpu_network import as_network

    with ExitStack() as made:
        driver, stream = made.enter_context(gpu_stream(path, device.cuda_driver, device.index))
        network = open_gpu_network(path, driver, stream, device=device.index)
        return as_network(driver, network, stream, below=made.pop_all())
