"""A server on this machine for one file, as bad as a test wants."""

from __future__ import annotations

import http.server
import time
from typing import Any


class Server(http.server.ThreadingHTTPServer):
    """Serves one file, as badly as a test wants."""

    daemon_threads = True

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.cut_after: list[int] = []  # bytes after which the next answers end
        self.ranges = True
        self.status = 200
        self.pause_s = 0.0
        self.asked: list[str] = []
        self.agents: list[str] = []

    def address(self, name: str = "model.safetensors") -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range", "")
        self.server.asked.append(f"{self.path} {wanted}".strip())
        if self.server.status != 200:
            self.send_error(self.server.status)
            return
        content, start = self.server.content, 0
        if wanted and self.server.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        part = content[start:]
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        if self.server.cut_after:
            part = part[: self.server.cut_after.pop(0)]
        try:
            for k in range(0, len(part), 4096):
                self.wfile.write(part[k : k + 4096])
                self.wfile.flush()
                time.sleep(self.server.pause_s)
        except OSError:
            pass
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
