# SPDX-License-Identifier: Apache-2.0
"""Files of the Hugging Face hub, fetched once and pinned: what was used first is what is used ever after.

The first use notes commit and SHA-256 beside the hub's own cache. From then on the cached file is taken without asking
the hub, and a file with another sum is refused, whether it changed on the hub or on the disk.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from centermask_runtime.checksum import sha256_of
from centermask_runtime.errors import ModelError
from centermask_runtime.packages import need
from centermask_runtime.partial_file import write_whole

TIMEOUT_S = 5.0  # for the hub to answer at all
PINS = "centermask-pins"


@dataclass(frozen=True)
class Pin:
    """What a file was at its first use."""

    commit: str
    sha256: str


def fetch(repository: str, name: str, cache: Path | None = None) -> Path:
    """Finds a file of a repository of the hub in the cache, or downloads it; returns its place.

    cache: by default the hub's own, which HF_HUB_CACHE and HF_HOME move. HF_ENDPOINT names another hub.
    Raises UsageError where huggingface_hub is missing, and ModelError where the hub cannot be reached, has no such
    file, or gives another file than at the first use.

        fetch("timm/dla34.in1k", "model.safetensors")
    """
    need("huggingface_hub", "train", f"fetching {repository}")
    from huggingface_hub import constants, try_to_load_from_cache

    folder = Path(constants.HF_HUB_CACHE) if cache is None else cache
    note = folder / PINS / f"{repository.replace('/', '--')}--{name}.json"
    pin = _read(note)
    cached = try_to_load_from_cache(repository, name, folder, "main" if pin is None else pin.commit)
    path = Path(cached) if isinstance(cached, str) else _download(repository, name, folder)
    found = sha256_of(path)
    if pin is None:
        commit = path.parent.name  # <cache>/models--.../snapshots/<commit>/<name>
        write_whole(note, json.dumps(asdict(Pin(commit, found))).encode())
    elif found != pin.sha256:
        raise ModelError(
            f"{name} of {repository} is not what it was at its first use here (SHA-256 {found[:12]}..., not "
            f"{pin.sha256[:12]}...): {path}; remove {note} and that file to take it as new."
        )
    return path


def _download(repository: str, name: str, folder: Path) -> Path:
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, hf_hub_url

    endpoint = os.environ.get("HF_ENDPOINT") or constants.ENDPOINT
    advice = f"fetch {name} from {endpoint}/{repository} yourself and name the file, or ask for the weights none"
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"{repository} is asked for, but HF_HUB_OFFLINE is set and it is not cached here; {advice}.")
    try:
        url = hf_hub_url(repository, name, endpoint=endpoint)
        commit = get_hf_file_metadata(url, timeout=TIMEOUT_S, endpoint=endpoint).commit_hash  # does not try for minutes
        return Path(hf_hub_download(repository, name, revision=commit, cache_dir=folder, endpoint=endpoint))
    except Exception as error:  # those of the library, of its HTTP client and of the system have no common base
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ModelError(f"{repository} cannot be fetched from {endpoint} ({reason[:160]}); {advice}.") from error


def _read(note: Path) -> Pin | None:
    """Reads a note; a damaged one is none, as nothing can be compared with it."""
    try:
        return Pin(**json.loads(note.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
