# SPDX-License-Identifier: Apache-2.0
"""Whether a package is there, and the command that brings it."""

from __future__ import annotations

import pytest

from centermask_runtime.errors import UsageError
from centermask_runtime.packages import install_command, is_installed, need


def test_a_module_is_found_without_being_imported():
    assert is_installed("numpy") and is_installed("numpy.linalg") and is_installed("json")


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.part", "numpy.no_such_part"])
def test_a_missing_module_is_missing_however_deep(module):
    assert not is_installed(module)


def test_the_sentence_says_what_for_and_how():
    need("numpy", "train", "counting")
    with pytest.raises(UsageError) as refused:
        need("no_such_package", "track", "following objects")
    assert str(refused.value) == ("no_such_package is needed for following objects: pip install 'centermask[track]'.")


def test_several_extras_are_one_command():
    assert install_command(["export", "openvino"]) == "pip install 'centermask[export,openvino]'"
