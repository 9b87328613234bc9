# SPDX-License-Identifier: Apache-2.0
"""Where results go: one kind of output a file."""
