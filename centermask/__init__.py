# SPDX-License-Identifier: Apache-2.0
"""CenterMask: real-time instance segmentation. The training stack; the runtime is centermask_runtime."""

__version__ = "0.1.0"
