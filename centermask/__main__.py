# SPDX-License-Identifier: Apache-2.0
"""`python -m centermask` is the `centermask` command."""

from centermask.cli import main

main()
