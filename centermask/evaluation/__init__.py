# SPDX-License-Identifier: Apache-2.0
"""AP, curves, confusion and pictures of any network on a data set."""
