"""The reader of responses, held to h11; the client over real sockets: deadlines, reuse, TLS."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import ConfigError
from hansa.infer.serving.http_client import MemberClient, Unreachable, split_url
from hansa.infer.serving.http_reader import BadResponse, Response, ResponseReader

from .serving_stubs import signed_certificate


def by_h11(data: bytes, ended: bool) -> tuple[int, bytes] | None:
    """Status and body by another implementation; None where it is not whole."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if ended:
        connection.receive_data(b"")
    status, body = 0, b""
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return status, body
        elif event is h11.NEED_DATA:
            return None


def in_pieces(data: bytes, cuts: list[int], ended: bool) -> Response | None:
    reader = ResponseReader(1 << 20)
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    response = None
    for start, end in itertools.pairwise(places):
        response = reader.feed(data[start:end])
    return reader.end() if ended and response is None else response


@st.composite
def responses(draw: Any) -> tuple[bytes, bool]:
    """A response on the wire, and whether the connection ends it."""
    status = draw(st.sampled_from([200, 204, 404, 500, 503]))
    body = draw(st.binary(max_size=60))
    way = draw(st.sampled_from(["length", "chunks", "end"]))
    head = draw(st.sampled_from([b"", b"HTTP/1.1 100 Continue\r\n\r\n"]))
    head += b"HTTP/1.1 %d Some Reason\r\nContent-Type: application/json\r\n" % status
    if status == 204:
        return head + b"\r\n", False
    if way == "length":
        return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, False
    if way == "end":
        return head + b"Connection: close\r\n\r\n" + body, True
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    text = b"".join(b"%x;ext=1\r\n%s\r\n" % (len(p), p) for p in pieces if p)
    trailer = draw(st.sampled_from([b"", b"X-Sum: 3\r\n"]))
    return head + b"Transfer-Encoding: chunked\r\n\r\n" + text + b"0\r\n" + trailer + b"\r\n", False


@given(sent=responses(), cuts=st.lists(st.integers(0, 1000), max_size=6))
def test_a_response_is_read_as_h11_reads_it(sent: tuple[bytes, bool], cuts: list[int]) -> None:
    data, ended = sent
    response = in_pieces(data, cuts, ended)
    assert response is not None
    assert (response.status, response.body) == by_h11(data, ended)
    assert response.keeps == (not ended)


@given(sent=responses(), cut=st.integers(0, 1000))
def test_half_a_response_is_none(sent: tuple[bytes, bool], cut: int) -> None:
    data, ended = sent
    if ended:
        return
    reader = ResponseReader(1 << 20)
    assert reader.feed(data[: cut % len(data)]) is None
    with pytest.raises(BadResponse, match="ended before"):
        reader.end()


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/2 200\r\n\r\n",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"x" * (1 << 17),
    ],
)
def test_what_is_no_response_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader(1 << 20).feed(data)


def test_bytes_that_nobody_asked_for_end_a_connection() -> None:
    response = ResponseReader(100).feed(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab")
    assert response is not None
    assert response.body == b"a"
    assert not response.keeps


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    running = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=tls)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()


async def request_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            head += await reader.readexactly(int(line.split(b":")[1]))
    return head


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_a_connection_is_used_again_and_a_stale_one_is_made_anew() -> None:
    async def main() -> None:
        opened, heard = 0, []

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            for _ in range(2):  # then the member closes what it keeps idle
                heard.append(await request_of(reader))
                writer.write(OK)
            writer.close()

        async with server(handler) as port:
            client = MemberClient(f"http://127.0.0.1:{port}/base", "secret")
            for k in range(4):
                response = await client.call("POST", "/x", b"body%d" % k, {"x-a": "1"}, 30)
                assert (response.status, response.body) == (200, b"ok")
            assert opened == 2
            assert heard[3].startswith(b"POST /base/x HTTP/1.1\r\n")
            assert b"Authorization: Bearer secret\r\n" in heard[3]
            assert heard[3].endswith(b"\r\n\r\nbody3")
            await client.close()

    asyncio.run(main())


def test_a_call_out_of_time_is_given_up_and_the_member_notices() -> None:
    async def main() -> None:
        gone = asyncio.Event()

        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            assert await reader.read() == b""
            gone.set()
            writer.close()

        async with server(handler) as port:
            client = MemberClient(f"http://127.0.0.1:{port}")
            with pytest.raises(TimeoutError):
                await client.call("GET", "/", left_s=0.05)
            await asyncio.wait_for(gone.wait(), 30)

    asyncio.run(main())


def test_nobody_there_and_a_broken_answer_are_told_apart() -> None:
    async def main() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            path = (await request_of(reader)).split()[1]
            writer.write({b"/half": OK[:20], b"/bad": b"what?\r\n\r\n"}[path])
            writer.close()

        async with server(handler) as port:
            client = MemberClient(f"http://127.0.0.1:{port}")
            with pytest.raises(Unreachable, match="ended before"):
                await client.call("GET", "/half", left_s=30)
            with pytest.raises(BadResponse, match="no status line"):
                await client.call("GET", "/bad", left_s=30)
        with pytest.raises(Unreachable):
            await client.call("GET", "/", left_s=30)

    asyncio.run(main())


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that it signs itself, and its key."""
    return signed_certificate(tmp_path_factory.mktemp("tls"))


def test_a_member_behind_tls_is_reached_only_where_it_is_trusted(
    certificate: tuple[Path, Path],
) -> None:
    async def main() -> None:
        async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await request_of(reader)
            writer.write(OK)
            writer.close()

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        async with server(handler, context) as port:
            trusting = MemberClient(f"https://127.0.0.1:{port}", ca=str(certificate[0]))
            assert (await trusting.call("GET", "/", left_s=30)).body == b"ok"
            strange = MemberClient(f"https://127.0.0.1:{port}")
            with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
                await strange.call("GET", "/", left_s=30)
            named = MemberClient(f"https://localhost:{port}", ca=str(certificate[0]))
            with pytest.raises(Unreachable):
                await named.call("GET", "/", left_s=30)
            await trusting.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "url", ["127.0.0.1:80", "ftp://x", "http://", "http://u:p@x", "http://x:99999", "http://x?q=1"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        split_url(url)
    assert error.value.field == "url"
    assert "p@" not in str(error.value)


def test_addresses() -> None:
    assert split_url("http://x/y/") == ("x", 80, False, "/y")
    assert split_url("https://[::1]:7") == ("::1", 7, True, "")


def test_certificates_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="ca"):
        MemberClient("https://x", ca=str(tmp_path / "ca.pem"))
