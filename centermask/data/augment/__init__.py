# SPDX-License-Identifier: Apache-2.0
"""Augmentation: one affine warp, mosaic, copy-paste."""
