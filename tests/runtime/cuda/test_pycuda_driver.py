# SPDX-License-Identifier: Apache-2.0
"""The pycuda provider. pycuda is built from source against a CUDA toolkit and cannot be had everywhere, so here its
interface is imitated as its source has it, down to how it packs arguments. What is tested is what we ask of pycuda."""

from __future__ import annotations

import importlib.machinery
import struct
import sys
import threading
import types

import numpy as np
import pytest

from centermask_runtime.cuda.driver import DriverError
from centermask_runtime.cuda.providers import installed_providers, open_driver


class Error(Exception):
    pass


class Kernel:
    """As pycuda.driver.Function: prepare() keeps a struct format of the types, the call packs with it."""

    def __init__(self, log):
        self.log = log

    def prepare(self, types):
        self.arg_format = "".join(kind.char for kind in types)
        return self

    def prepared_async_call(self, grid, block, stream, *arguments, shared_size=0):
        packed = struct.pack(self.arg_format, *arguments)
        self.log.append(("launch", grid, block, stream, self.arg_format, packed, shared_size))


class Fake:
    """The parts of pycuda.driver that the provider uses, each noting what was asked of it."""

    Error = Error

    def __init__(self):
        self.log = log = []
        fake = self

        class Memory:
            def __init__(self, nbytes):
                if nbytes > 1 << 30:
                    raise Error("cuMemAlloc failed: out of memory")
                self.address = 0x1000 * (1 + len(log))
                log.append(("alloc", nbytes))

            def __int__(self):
                return self.address

            def free(self):
                log.append(("free", self.address))

        class Context:
            current = None

            def push(self):
                Context.current = self

            def pop(self):
                Context.current = None

            @staticmethod
            def synchronize():
                log.append(("synchronize context",))

        class Device:
            def __init__(self, number):
                self.number = number

            count = staticmethod(lambda: 1)
            name = staticmethod(lambda: "Fake GPU")
            compute_capability = staticmethod(lambda: (8, 6))
            retain_primary_context = staticmethod(Context)

        class Stream:
            def __init__(self, flags):
                self.flags = flags
                self.handle = 0x5000 + 0x10 * len(log)  # the CUstream
                log.append(("stream", flags))

            def synchronize(self):
                log.append(("synchronize", self))

            def wait_for_event(self, event):
                log.append(("wait", self, event))

        class Event:
            def record(self, stream):
                log.append(("record", self, stream))

            def time_since(self, other):
                return 2.5

            def synchronize(self):
                log.append(("synchronize event", self))

        class Module:
            def get_function(self, name):
                if name != "known":
                    raise Error("cuModuleGetFunction failed: named symbol not found")
                return Kernel(log)

        def pagelocked_empty(count, dtype):
            class Owner(np.ndarray):
                def free(self):
                    log.append(("free pinned",))

            return np.empty(count, dtype).view(Owner)[:].view(np.ndarray)

        self.mem_alloc, self.Context, self.Device, self.Stream, self.Event = Memory, Context, Device, Stream, Event
        self.pagelocked_empty = pagelocked_empty
        self.module_from_buffer = lambda image: Module()
        self.init = lambda: None
        self.memcpy_htod_async = lambda to, array, stream: fake.log.append(("up", to, array, stream))
        self.memcpy_dtoh_async = lambda array, source, stream: fake.log.append(("down", array, source, stream))
        self.memset_d8_async = lambda to, value, count, stream: fake.log.append(("fill", to, value, count, stream))


@pytest.fixture
def fake(monkeypatch):
    pycuda, made = types.ModuleType("pycuda"), Fake()
    driver = types.ModuleType("pycuda.driver")
    driver.__dict__.update({name: getattr(made, name) for name in dir(made) if not name.startswith("_")})
    pycuda.VERSION, pycuda.driver, pycuda.__path__ = (2026, 1), driver, []
    pycuda.__spec__ = importlib.machinery.ModuleSpec("pycuda", None)
    monkeypatch.setitem(sys.modules, "pycuda", pycuda)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    return made


def test_auto_takes_pycuda_where_it_is_installed(fake):
    assert installed_providers()[0] == "pycuda"
    driver = open_driver()
    assert driver.name == "pycuda 2026.1 on Fake GPU" and driver.compute_capability == (8, 6)
    assert not driver.supports_graphs and fake.Context.current is not None
    driver.close(), driver.close()
    assert fake.Context.current is None


def test_arguments_are_packed_with_their_exact_types_in_order(fake):
    driver = open_driver("pycuda")
    kernel = driver.function(driver.load_module(b"image"), "known")
    stream = driver.create_stream()
    arguments = [np.uint64(2**63 + 5), np.int32(-4), np.float32(0.5), np.int64(-(2**40)), np.float64(0.1), np.uint32(7)]
    named = dict(zip("abcdef", arguments, strict=True))
    driver.launch(kernel, (3, 2, 1), (32, 8, 1), 4096, stream, named)
    ((_, grid, block, on, kinds, packed, shared),) = [entry for entry in fake.log if entry[0] == "launch"]
    assert (grid, block, shared) == ((3, 2, 1), (32, 8, 1), 4096) and on.flags == 1  # non-blocking
    assert [np.dtype(kind) for kind in kinds] == [argument.dtype for argument in arguments]
    assert struct.unpack(kinds, packed) == tuple(argument.item() for argument in arguments)
    driver.launch(kernel, (0, 2, 1), (32, 8, 1), 0, stream, named)
    assert len([entry for entry in fake.log if entry[0] == "launch"]) == 1


def test_equal_arguments_of_other_types_are_packed_anew(fake):
    driver = open_driver("pycuda")
    kernel = driver.function(driver.load_module(b"image"), "known")
    for argument in (np.int32(1), np.float32(1), np.uint64(1)):
        driver.launch(kernel, (1, 1, 1), (32, 1, 1), 0, 0, {"only": argument})
    packed = [entry[5] for entry in fake.log if entry[0] == "launch"]
    assert packed == [argument.tobytes() for argument in (np.int32(1), np.float32(1), np.uint64(1))]


def test_copies_name_memory_array_and_stream(fake):
    driver = open_driver("pycuda")
    pointer, stream, array = driver.allocate(64), driver.create_stream(), np.arange(4)
    driver.upload(pointer, array, stream)
    driver.download(array, pointer, 0)
    driver.fill(pointer, 3, 16, stream)
    up, down, fill = fake.log[-3:]
    assert up[:2] == ("up", pointer) and up[2] is array and up[3].flags == 1
    assert down[0] == "down" and down[1] is array and down[2:] == (pointer, None)
    assert fill[:4] == ("fill", pointer, 3, 16)
    driver.synchronize(0)
    assert fake.log[-1] == ("synchronize context",)


def test_a_stream_is_the_drivers_own_for_other_libraries_work_on_it_too(fake):
    driver = open_driver("pycuda")
    stream, other = driver.create_stream(), driver.create_stream()
    driver.fill(16, 0, 16, stream)
    assert stream == fake.log[-1][-1].handle != other


def test_events_order_streams_and_give_times(fake):
    driver = open_driver("pycuda")
    stream, start, end = driver.create_stream(), driver.create_event(), driver.create_event()
    assert start != end
    driver.record(start, stream)
    driver.wait(stream, start)
    assert [entry[0] for entry in fake.log] == ["stream", "record", "wait"]
    driver.wait(0, start)  # pycuda cannot put a wait on the default stream
    assert fake.log[-1][0] == "synchronize event"
    assert driver.elapsed_ms(start, end) == 2.5


def test_everything_is_given_back(fake):
    driver = open_driver("pycuda")
    kept = driver.allocate(16), driver.allocate(16)
    driver.allocate_pinned(8)
    driver.free(kept[0])
    driver.load_module(b"image"), driver.create_stream(), driver.create_event()
    driver.close()
    assert not any(driver.live.values())
    assert sorted(entry for entry in fake.log if entry[0].startswith("free")) == sorted(
        [("free", kept[0]), ("free pinned",), ("free", kept[1])]
    )


@pytest.mark.parametrize("device", [1, -1])
def test_a_device_that_is_not_there_is_named(fake, device):
    with pytest.raises(DriverError, match=f"CUDA device {device} was asked for, but this machine has 1"):
        open_driver("pycuda", device)


def test_errors_name_the_driver_function(fake):
    driver = open_driver("pycuda")
    with pytest.raises(DriverError, match="cuMemAlloc failed with cuMemAlloc failed: out of memory"):
        driver.allocate(1 << 40)
    module = driver.load_module(b"image")
    with pytest.raises(DriverError, match="cuModuleGetFunction failed"):
        driver.function(module, "unknown")


def test_what_pycuda_lacks_is_said_with_the_way_out(fake):
    driver = open_driver("pycuda")
    with pytest.raises(DriverError, match="no CUDA graphs: choose the driver provider cuda-bindings"):
        driver.begin_capture(1)
    with pytest.raises(DriverError, match="stream that another library made"):
        driver.synchronize(0xABC)
    raised = []

    def elsewhere():
        try:
            driver.allocate(4)
        except DriverError as error:
            raised.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert raised and "another thread" in raised[0]


def test_a_pycuda_that_cannot_be_loaded_is_one_sentence(monkeypatch, fake):
    monkeypatch.delitem(sys.modules, "pycuda.driver")
    with pytest.raises(DriverError, match=r"pycuda was asked for, but it cannot be loaded \(.*\): install"):
        open_driver("pycuda")
