# SPDX-License-Identifier: Apache-2.0
"""What listens to a training: pictures, curves, event files."""
