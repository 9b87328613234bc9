# SPDX-License-Identifier: Apache-2.0
"""SHA-256 of files, against sums that NIST publishes."""

from __future__ import annotations

import pytest

from centermask_runtime.checksum import sha256_of


@pytest.mark.parametrize(
    ("content", "digits"),
    [
        (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (b"a" * 1_000_000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"),
    ],
)
def test_the_sum_is_the_published_one(tmp_path, content, digits):
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == digits


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        sha256_of(tmp_path / "gone")
