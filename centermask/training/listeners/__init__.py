# SPDX-License-Identifier: Apache-2.0
"""Listeners add their functions to the Callbacks of a training: plots.py draws pictures, tensorboard_events.py events.

The pictures themselves are drawn by batches.py, labels.py and results.py, which know no training.
"""
