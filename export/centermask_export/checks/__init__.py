# SPDX-License-Identifier: Apache-2.0
"""Whether an artefact says the same as what it was made from."""
