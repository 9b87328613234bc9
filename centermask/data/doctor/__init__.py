# SPDX-License-Identifier: Apache-2.0
"""The doctor looks for what is wrong with a data set: findings.py says what it can find, examine.py how it goes."""
