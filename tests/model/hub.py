"""A hub of one model over HTTP, with as much of the Hugging Face Hub's API as a snapshot download asks for: the listing of a
revision, and each file by HEAD and GET. Its lies: nothing is signed, stored on another host or compressed."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c" * 40


@dataclass
class Hub:
    endpoint: str = ""
    asked: list[str] = field(default_factory=list)  # names of the files that were downloaded


@contextmanager
def running_hub(name: str, folder: Path) -> Iterator[Hub]:
    """Serves the files in ``folder`` as revision ``main`` of the model ``name``."""
    hub = Hub()
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    handler = type("Handler", (_Handler,), {"hub": hub, "name": name, "files": files})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub
    name: str
    files: dict[str, bytes]

    def log_message(self, *_: Any) -> None:
        pass

    def _serve(self) -> None:
        path = self.path.partition("?")[0]
        api = f"/api/models/{self.name}"
        if path in (f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": name} for name in sorted(self.files)]
            self._answer(
                200,
                json.dumps({"id": self.name, "modelId": self.name, "sha": COMMIT, "siblings": siblings}).encode(),
                {},
            )
            return
        if path in (f"{api}/tree/main", f"{api}/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": _oid(data)}
                for name, data in sorted(self.files.items())
            ]
            self._answer(200, json.dumps(tree).encode(), {})
            return
        head, _, wanted = path.partition("/resolve/")
        file = wanted.partition("/")[2]
        if head != f"/{self.name}" or file not in self.files:
            self._answer(404, b"", {"X-Error-Code": "RepoNotFound" if head != f"/{self.name}" else "EntryNotFound"})
            return
        if self.command == "GET":
            self.hub.asked.append(file)
        data = self.files[file]
        self._answer(200, data, {"X-Repo-Commit": COMMIT, "ETag": f'"{_oid(data)}"'})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = _serve  # noqa: N815  # names that http.server asks for


def _oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
