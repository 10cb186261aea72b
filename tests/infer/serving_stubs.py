"""Members made up for tests of serving: what they answer, and when, is the test's to say."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from hansa.infer.serving.aggregate_model import AggregateModel
from hansa.infer.serving.serve_file import ServeFile
from hansa.infer.serving.serve_model import aggregate_of
from hansa.infer.serving.v2_app import V2App

Reply = tuple[int, Any] | bytes
"""Status and what JSON holds, or all bytes of a response."""
Behaviour = Callable[[dict[str, Any]], Awaitable[Reply]]
CLASSES = ("a", "b", "c")


def rows_reply(rows: Any, name: str = "probabilities") -> Reply:
    """A good answer with such rows."""
    array = np.asarray(rows, dtype=float)
    tensor = {
        "name": name, "shape": list(array.shape), "datatype": "FP64", "data": array.ravel().tolist()
    }  # fmt: skip
    return 200, {"model_name": "member", "outputs": [tensor]}


def says(*row: float) -> Behaviour:
    """The same row for every example."""

    async def answer(request: dict[str, Any]) -> Reply:
        return rows_reply([list(row)] * request["inputs"][0]["shape"][0])

    return answer


def replies(reply: Reply) -> Behaviour:
    """The same response to everything."""

    async def answer(request: dict[str, Any]) -> Reply:
        return reply

    return answer


class Stub:
    """A member on a port, in the loop of the test.

    Attributes:
        asked: requests so far.
        left: connections that were closed while an answer was due.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.ready = True
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.left = asyncio.Event()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> Stub:
        """Listen on a free port; started again, on the same one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def kill(self) -> None:
        """Be gone, with all connections."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if head[0].startswith("GET"):
                    reply: Reply = (200 if self.ready else 503, {})
                else:
                    self.asked.append(json.loads(body))
                    self.headers.append(headers)
                    reply = await self._answer(self.asked[-1], reader)
                writer.write(reply if isinstance(reply, bytes) else _whole(*reply))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _answer(self, request: dict[str, Any], reader: asyncio.StreamReader) -> Reply:
        answer = asyncio.ensure_future(self.behaviour(request))
        gone = asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if answer not in done:
            answer.cancel()
            self.left.set()
            raise ConnectionResetError
        gone.cancel()
        await asyncio.wait({gone})
        return answer.result()


def _whole(status: int, said: Any) -> bytes:
    body = json.dumps(said).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def file_of(stubs: list[Stub], **changes: Any) -> ServeFile:
    """A file with these members, and all the time in the world."""
    endpoints = [{"url": stub.url} for stub in stubs]
    for k, more in changes.pop("each", {}).items():
        endpoints[k] |= more
    settings = {
        "endpoints": endpoints, "classes": list(CLASSES), "deadline_ms": 60_000,
        "member_deadline_ms": 60_000, **changes,
    }  # fmt: skip
    return ServeFile.parse(settings)


def question(batch: int = 1, **more: Any) -> dict[str, Any]:
    """A request that any member takes."""
    tensor = {"name": "x", "shape": [batch, 1], "datatype": "FP32", "data": [0.5] * batch}
    return {"inputs": [tensor], **more}


class Served:
    """An aggregate of stubs, asked without a port of its own."""

    def __init__(self, model: AggregateModel) -> None:
        self.model = model
        self.app = V2App(model)
        transport = httpx.ASGITransport(self.app.app())
        self.http = httpx.AsyncClient(transport=transport, base_url="http://aggregate")

    async def infer(self, request: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        """Ask once."""
        asked = question() if request is None else request
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/v2/models/hansa/infer", json=asked, headers=named)


def outputs_of(response: httpx.Response) -> dict[str, list[Any]]:
    """Data of each output."""
    return {tensor["name"]: tensor["data"] for tensor in response.json()["outputs"]}


def serving(
    behaviours: list[Behaviour],
    test: Callable[[Served, list[Stub]], Awaitable[None]],
    **changes: Any,
) -> None:
    """Run a test on an aggregate of members that behave so."""

    async def main() -> None:
        stubs = [await Stub(behaviour).start() for behaviour in behaviours]
        served = Served(aggregate_of(file_of(stubs, **changes)))
        served.model.warm()
        try:
            await asyncio.wait_for(test(served, stubs), 300)
        finally:
            await served.model.close()
            await served.http.aclose()
            for stub in stubs:
                await stub.kill()
        await asyncio.sleep(0)

    asyncio.run(main())


def signed_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signs itself, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "member")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    (folder / "cert.pem").write_bytes(signed.public_bytes(encoding))
    (folder / "key.pem").write_bytes(
        key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return folder / "cert.pem", folder / "key.pem"
