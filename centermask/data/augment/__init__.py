# SPDX-License-Identifier: Apache-2.0
"""Augmentation: one affine warp, colours, mosaic, copy-paste."""
