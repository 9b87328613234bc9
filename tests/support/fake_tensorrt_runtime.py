# SPDX-License-Identifier: Apache-2.0
"""TensorRT's Python interface, as far as TensorRTEngine uses it, on the CPU driver: for machines without a GPU.

A plan is JSON: shapes of its profiles and what is wrong with it. Work goes on the stream that is given, and writes
arrays that the test has set.
"""

from __future__ import annotations

import enum
import json

import numpy as np

from centermask_runtime.cuda.layouts import outputs_layout


class DataType(enum.Enum):
    FLOAT, INT32, UINT8 = 0, 3, 5


class TensorIOMode(enum.Enum):
    INPUT, OUTPUT = 1, 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC, USER_MANAGED = 0, 2


class ILogger:
    class Severity(enum.Enum):
        INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2


def library(driver, spec, arrays, capturable=None):
    """The module: `capturable` is what is_stream_capturable says, and None leaves it out, as TensorRT does."""

    class IExecutionContext:
        def __init__(self, engine):
            self.engine, self.addresses, self.calls = engine, {}, []
            self.memory = self.profile = self.shape = None

        def set_optimization_profile_async(self, profile, stream):
            self.profile = profile
            return profile < self.engine.num_optimization_profiles

        def set_input_shape(self, name, shape):
            self.shape = name, shape
            return True

        def set_device_memory(self, pointer, nbytes):
            self.memory = pointer, nbytes

        def set_tensor_address(self, name, address):
            self.calls.append(name)
            self.addresses[name] = address
            return True

        def execute_async_v3(self, stream_handle):
            assert self.memory is not None and self.shape is not None, "executed before it was set up"
            assert self.memory[0] in driver.allocated
            if self.engine.plan.get("fails"):
                self.engine.logger.log(ILogger.Severity.ERROR, "the device is lost.\n")
                return False
            for name, array in arrays.items():
                driver.upload(self.addresses[name], array, stream_handle)
            return True

        if capturable is not None:

            def is_stream_capturable(self, stream):
                return capturable

    class ICudaEngine:
        def __init__(self, plan, logger):
            self.plan, self.logger, self.contexts = plan, logger, []
            self.num_optimization_profiles = len(plan["profiles"])
            kinds = {name: DataType.INT32 if f.dtype == np.int32 else DataType.FLOAT for name, f in layout.items()}
            self.tensors = {"images": (TensorIOMode.INPUT, DataType.UINT8)}
            self.tensors |= {name: (TensorIOMode.OUTPUT, kind) for name, kind in kinds.items()}
            self.tensors.pop(plan.get("without"), None)
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, index):
            return list(self.tensors)[index]

        def get_tensor_mode(self, name):
            return self.tensors[name][0]

        def get_tensor_dtype(self, name):
            return self.tensors[name][1]

        def get_tensor_shape(self, name):
            return self.plan["shape"]

        def get_tensor_profile_shape(self, name, profile):
            return self.plan["profiles"][profile]

        def get_device_memory_size_for_profile_v2(self, profile):
            return 1000 * (profile + 1)

        def create_execution_context(self, strategy):
            assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
            self.contexts.append(IExecutionContext(self))
            return self.contexts[-1]

    class Runtime:
        def __init__(self, logger):
            self.logger = logger

        def deserialize_cuda_engine(self, content):
            plan = json.loads(content)
            if plan.get("refused"):
                self.logger.log(ILogger.Severity.ERROR, "The engine plan file is not compatible with this version.")
                return None
            module.engines.append(ICudaEngine(plan, self.logger))
            return module.engines[-1]

    layout = outputs_layout(spec, 1).fields
    module = type("module", (), {})()
    module.engines = []
    module.Runtime, module.ICudaEngine, module.IExecutionContext = Runtime, ICudaEngine, IExecutionContext
    module.ILogger, module.DataType, module.TensorIOMode = ILogger, DataType, TensorIOMode
    module.ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy
    module.__name__, module.__version__ = "tensorrt", "10.99"
    return module
