# SPDX-License-Identifier: Apache-2.0
"""Fetching data sets: transfers that resume, archives that nobody trusts."""
