# SPDX-License-Identifier: Apache-2.0
"""The layouts in which data sets come, one file per layout."""
