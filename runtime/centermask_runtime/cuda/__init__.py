# SPDX-License-Identifier: Apache-2.0
"""The pipeline on an NVIDIA GPU: kernels, the driver layer they run through, and the stages made of them."""
