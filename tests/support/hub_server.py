# SPDX-License-Identifier: Apache-2.0
"""A small Hugging Face hub on this machine: a real HTTP server with the addresses and headers of the hub's own.

A file is at /<owner>/<repository>/resolve/<revision>/<name>; the answer names commit and ETag (Git LFS: the SHA-256),
and what is missing is told apart by X-Error-Code. Only the branch main and its last commit are known.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class HubServer:
    """Repositories in memory."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}  # <owner>/<repository>/<name>
        self.asked: list[str] = []  # method and path of each request
        self.silent_s = 0.0  # before an answer
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                server.answer(self)

            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    def commit(self, repository: str) -> str:
        """A commit's name follows from what is in it, as Git's does."""
        files = sorted(item for item in self.files.items() if item[0].startswith(f"{repository}/"))
        return hashlib.sha1(repr(files).encode(), usedforsecurity=False).hexdigest()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.asked.append(f"{request.command} {request.path}")
        time.sleep(self.silent_s)
        parts = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", request.path)
        repository, revision, name = parts.groups() if parts else ("", "", "")
        content = self.files.get(f"{repository}/{name}")
        if not any(file.startswith(f"{repository}/") for file in self.files):
            self._missing(request, "RepoNotFound", "Repository not found")
        elif revision not in ("main", self.commit(repository)):
            self._missing(request, "RevisionNotFound", "Invalid rev id")
        elif content is None:
            self._missing(request, "EntryNotFound", "Entry not found")
        else:
            request.send_response(200)
            request.send_header("X-Repo-Commit", self.commit(repository))
            request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            if request.command == "GET":
                request.wfile.write(content)

    @staticmethod
    def _missing(request: BaseHTTPRequestHandler, code: str, message: str) -> None:
        request.send_response(404)
        request.send_header("X-Error-Code", code)
        request.send_header("X-Error-Message", message)
        request.send_header("Content-Length", "0")
        request.end_headers()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()
