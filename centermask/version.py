# SPDX-License-Identifier: Apache-2.0
"""The version of all three packages, in a file that every module may import."""

__version__ = "0.1.0"
