# SPDX-License-Identifier: Apache-2.0
"""Files of the hub: fetched once, pinned at the first use, refused when they changed; always one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download

from centermask.model import hub
from centermask.model.hub import PINS, fetch
from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import ModelError
from tests.support.hub_server import HubServer

REPOSITORY, NAME = "timm/dla34.in1k", "model.safetensors"


@pytest.fixture
def server(monkeypatch) -> Iterator[HubServer]:
    """A hub that HF_ENDPOINT names; other tests are offline, see conftest.py."""
    with HubServer() as running:
        running.files[f"{REPOSITORY}/{NAME}"] = b"weights" * 1000
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield running


def pin_in(cache: Path) -> Path:
    (note,) = (cache / PINS).iterdir()
    return note


def test_a_file_is_fetched_and_its_sum_and_commit_are_noted(server, tmp_path):
    path = fetch(REPOSITORY, NAME, tmp_path)
    assert path.read_bytes() == server.files[f"{REPOSITORY}/{NAME}"]
    noted = json.loads(pin_in(tmp_path).read_text())
    assert noted == {"commit": server.commit(REPOSITORY), "sha256": sha256_of(path)}
    assert {line.partition(" ")[0] for line in server.asked} == {"HEAD", "GET"}


def test_a_second_use_asks_nobody(server, tmp_path, monkeypatch):
    first = fetch(REPOSITORY, NAME, tmp_path)
    server.asked.clear()
    server.files[f"{REPOSITORY}/{NAME}"] = b"another version"
    assert fetch(REPOSITORY, NAME, tmp_path) == first
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(REPOSITORY, NAME, tmp_path) == first
    assert server.asked == []


def test_a_file_that_changed_on_the_hub_is_refused_where_the_first_one_is_gone(server, tmp_path):
    first = fetch(REPOSITORY, NAME, tmp_path)
    first.resolve().unlink()
    first.unlink()
    server.files[f"{REPOSITORY}/{NAME}"] = b"another version"
    with pytest.raises(ModelError, match=r"is not what it was at its first use here \(SHA-256 .*; remove .* as new"):
        fetch(REPOSITORY, NAME, tmp_path)
    pin_in(tmp_path).unlink()
    assert fetch(REPOSITORY, NAME, tmp_path).read_bytes() == b"another version"


def test_the_same_file_in_a_new_commit_is_taken(server, tmp_path):
    """The first one is gone, and only a card was changed on the hub."""
    first = fetch(REPOSITORY, NAME, tmp_path)
    first.resolve().unlink()
    first.unlink()
    server.files[f"{REPOSITORY}/README.md"] = b"a card"
    again = fetch(REPOSITORY, NAME, tmp_path)
    assert again != first and again.read_bytes() == server.files[f"{REPOSITORY}/{NAME}"]


def test_a_file_that_changed_on_the_disk_is_refused(server, tmp_path):
    path = fetch(REPOSITORY, NAME, tmp_path)
    path.resolve().write_bytes(b"damaged")
    with pytest.raises(ModelError, match="is not what it was at its first use here"):
        fetch(REPOSITORY, NAME, tmp_path)


def test_what_the_hub_does_not_have_is_one_sentence(server, tmp_path):
    for repository, name in ((REPOSITORY, "gone.safetensors"), ("timm/gone", NAME)):
        with pytest.raises(ModelError, match=rf"{repository} cannot be fetched from {server.url} \(.*404.*\); fetch"):
            fetch(repository, name, tmp_path)
    assert not (tmp_path / PINS).exists()


def test_without_a_hub_it_says_what_to_do(server, tmp_path, monkeypatch):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(ModelError, match=r"fetch model.safetensors from .*/timm/dla34.in1k yourself and name the file"):
        fetch(REPOSITORY, NAME, tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set and it is not cached here"):
        fetch(REPOSITORY, NAME, tmp_path)


def test_a_hub_that_does_not_answer_is_not_waited_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "TIMEOUT_S", 0.2)
    server.silent_s = 3.0
    with pytest.raises(ModelError, match=r"cannot be fetched from .*timed out"):
        fetch(REPOSITORY, NAME, tmp_path)
    assert len(server.asked) == 1  # no retries, which the library else makes for minutes
    server.silent_s = 0.0


def test_what_another_program_cached_is_taken_without_the_hub(server, tmp_path):
    theirs = hf_hub_download(REPOSITORY, NAME, cache_dir=tmp_path, endpoint=server.url)
    server.asked.clear()
    assert fetch(REPOSITORY, NAME, tmp_path) == Path(theirs)
    assert server.asked == [] and json.loads(pin_in(tmp_path).read_text())["sha256"] == sha256_of(Path(theirs))


def test_a_note_that_cannot_be_read_counts_as_none(server, tmp_path):
    fetch(REPOSITORY, NAME, tmp_path)
    pin_in(tmp_path).write_text("{")
    assert fetch(REPOSITORY, NAME, tmp_path).exists()
    assert json.loads(pin_in(tmp_path).read_text())["commit"] == server.commit(REPOSITORY)
