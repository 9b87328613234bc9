# SPDX-License-Identifier: Apache-2.0
"""Objects over time: which is which from frame to frame, where they went, and what they crossed."""
