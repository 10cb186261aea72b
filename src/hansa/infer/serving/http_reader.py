"""Reads one HTTP/1.1 response out of bytes as they come (RFC 9112): no more than members need.

Written out for speed: a server that asks seven members a request reads seven responses, and a
general parser takes longer for that than all the rest. The tests hold it to h11, byte by byte.
"""

from __future__ import annotations

from dataclasses import dataclass, field

HEAD_LIMIT = 1 << 16


class BadResponse(Exception):
    """What came is no response, or too long."""


@dataclass(frozen=True)
class Response:
    """Status, headers by lower-case name, body."""

    status: int
    headers: dict[str, str]
    body: bytes
    keeps: bool = field(default=True)
    """Whether the connection may be used again."""


class ResponseReader:
    """Collects one response; :meth:`feed` returns it once it is whole.

    Args:
        limit: bytes of the body at most.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._head: tuple[int, dict[str, str], bool] | None = None
        self._body = bytearray()
        self._length: int | None = None  # of the body, or of the chunk that is being read
        self._chunked = self._trailing = False
        self.started = False

    def feed(self, data: bytes) -> Response | None:
        """Take bytes.

        Raises:
            BadResponse: they are no response.
        """
        self.started = self.started or bool(data)
        self._buffer += data
        while self._head is None:
            if not self._take_head():
                return None
        status, _, _ = self._head
        if status in (204, 304):
            return self._whole()
        if self._chunked:
            return self._whole() if self._take_chunks() else None
        if self._length is None:  # until the connection ends
            self._move(len(self._buffer))
            return None
        self._move(self._length - len(self._body))
        return self._whole() if len(self._body) == self._length else None

    def end(self) -> Response:
        """The connection has ended.

        Raises:
            BadResponse: in the middle of a response.
        """
        if self._head is None or self._chunked or self._length is not None:
            raise BadResponse("the connection ended before the response")
        return Response(self._head[0], self._head[1], bytes(self._body), False)

    def _whole(self) -> Response:
        assert self._head is not None
        status, headers, keeps = self._head
        # Bytes beyond a response that nobody asked for: the connection is not to be trusted.
        return Response(status, headers, bytes(self._body), keeps and not self._buffer)

    def _take_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > HEAD_LIMIT:
                raise BadResponse("headers are too long")
            return False
        lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        version, _, rest = lines[0].partition(" ")
        code = rest[:3]
        if version not in ("HTTP/1.1", "HTTP/1.0") or not (code.isascii() and code.isdigit()):
            raise BadResponse(f"{lines[0][:60]!r} is no status line")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon or not name or name != name.strip():
                raise BadResponse(f"{line[:60]!r} is no header")
            key, value = name.lower(), value.strip()
            if key == "content-length" and headers.get(key, value) != value:
                raise BadResponse("two lengths")
            headers[key] = value
        status = int(code)
        if status < 200:  # informational: the response itself follows
            if status == 101:
                raise BadResponse("another protocol")
            return bool(self._buffer) and self._take_head()
        keeps = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
        coding = headers.get("transfer-encoding", "").lower()
        if coding not in ("", "chunked"):
            raise BadResponse(f"transfer coding {coding[:40]!r}")
        self._chunked = bool(coding)
        if not self._chunked and "content-length" in headers:
            length = headers["content-length"]
            if not (length.isascii() and length.isdigit()):
                raise BadResponse(f"length {length[:40]!r}")
            self._length = int(length)
            if self._length > self._limit:
                raise BadResponse(f"the body is longer than {self._limit} bytes")
        self._head = (status, headers, keeps)
        return True

    def _take_chunks(self) -> bool:
        while True:
            if self._trailing:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return self._wait()
                del self._buffer[: end + 2]
                if not end:
                    return True
                continue
            if self._length is None:
                end = self._buffer.find(b"\r\n")
                if end < 0:
                    return self._wait()
                size = bytes(self._buffer[:end]).split(b";")[0].strip()
                if not size or size.strip(b"0123456789abcdefABCDEF"):
                    raise BadResponse("no size of a chunk")
                del self._buffer[: end + 2]
                length = int(size, 16)
                if length + len(self._body) > self._limit:
                    raise BadResponse(f"the body is longer than {self._limit} bytes")
                if not length:
                    self._trailing = True
                    continue
                self._length = length
            if len(self._buffer) < self._length + 2:
                return False
            if self._buffer[self._length : self._length + 2] != b"\r\n":
                raise BadResponse("a chunk is longer than it says")
            self._move(self._length)
            del self._buffer[:2]
            self._length = None

    def _wait(self) -> bool:
        if len(self._buffer) > HEAD_LIMIT:
            raise BadResponse("a line is too long")
        return False

    def _move(self, count: int) -> None:
        self._body += self._buffer[:count]
        del self._buffer[:count]
        if len(self._body) > self._limit:
            raise BadResponse(f"the body is longer than {self._limit} bytes")
