# SPDX-License-Identifier: Apache-2.0
"""Data sets: read from several layouts, checked, examined, downloaded, augmented, and turned into batches."""
