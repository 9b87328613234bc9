# SPDX-License-Identifier: Apache-2.0
"""Frames to Instances: one protocol, a CPU and a GPU pipeline."""
