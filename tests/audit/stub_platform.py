"""A platform to audit, for the tests: an HTTP server that keeps a log of what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Platform:
    """What the server does and has done.

    Attributes:
        decide: the decision about a row.
        served: (agent's token, member's id, key of the call) of each query that it answered.
        plan: what becomes of the next calls, in order: a status to answer with, ``hold`` to wait
            for :attr:`release`, ``drop`` to take it and break off, or ``serve``. After it, serve.
        headers: of answers that are no 200.
    """

    decide: Callable[[dict[str, Any]], Any]
    served: list[tuple[str, Any, str]] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    plan: list[int | str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    v2: bool = False
    url: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    release: threading.Event = field(default_factory=threading.Event)
    answers: dict[str, bytes] = field(default_factory=dict)


@contextmanager
def serving(platform: Platform) -> Iterator[Platform]:
    """Serve on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *words: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Idempotency-Key"]
            step = platform.plan.pop(0) if platform.plan else "serve"
            platform.calls.append(key)
            if isinstance(step, int):
                self.answer(step, b'{"error": "not now"}', platform.headers)
                platform.reached.set()
                return
            agent = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if key not in platform.answers:  # a call that comes again is answered from the record
                said = self.decided(body)
                rows = [self.id_of(row) for row in self.rows_of(body)]
                platform.served += [(agent, row, key) for row in rows]
                platform.answers[key] = json.dumps(said).encode()
            if step == "hold":
                platform.reached.set()
                platform.release.wait(60)
            if step == "drop":
                self.close_connection = True
                return
            if step == "garbage":
                self.answer(200, b"<html>", {})
                return
            self.answer(200, platform.answers[key], {})

        def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # whoever asked was killed
                self.close_connection = True

        def rows_of(self, body: dict[str, Any]) -> list[dict[str, Any]]:
            if not platform.v2:
                return list(body["rows"])
            inputs = body["inputs"]
            count = inputs[0]["shape"][0]
            return [{one["name"]: one["data"][k] for one in inputs} for k in range(count)]

        def id_of(self, row: dict[str, Any]) -> Any:
            return row.get("id", row.get("member"))

        def decided(self, body: dict[str, Any]) -> dict[str, Any]:
            decisions = [platform.decide(row) for row in self.rows_of(body)]
            if not platform.v2:
                return {"answers": decisions}
            tensor = {"name": "out", "datatype": "FP32", "shape": [len(decisions), 1]}
            return {"model_name": "loan", "outputs": [{**tensor, "data": decisions}]}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    platform.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield platform
    finally:
        platform.release.set()
        server.shutdown()
        thread.join()
        server.server_close()
