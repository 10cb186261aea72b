"""Packets of plain data on a pipe between a process and one that it has started."""

from __future__ import annotations

from typing import Any, BinaryIO, Protocol

from hansa.base.errors import WireError
from hansa.base.lazy import msgpack

_LENGTH = 4  # bytes that say how long what follows is
_MOST = 1 << 28  # bytes


class Readable(Protocol):
    """A file, of which a read may give less than was asked for."""

    def read(self, size: int, /) -> bytes | None:
        """Up to so many bytes; none at the end."""


def write_packet(file: BinaryIO, packet: dict[str, Any]) -> None:
    """Write a packet of plain data."""
    body = msgpack.packb(packet)
    file.write(len(body).to_bytes(_LENGTH, "big") + body)
    file.flush()


def read_packet(file: Readable) -> dict[str, Any] | None:
    """The next packet of a file, waiting for it; None: there is no other.

    Raises:
        WireError: it ends within a packet, or is none.
    """
    head = _read(file, _LENGTH)
    if not head:
        return None
    body = _read(file, _size(head)) if len(head) == _LENGTH else b""
    packets, rest = split_packets(head + body)
    if rest or not packets:
        raise WireError("a pipe that ends within a packet")
    return packets[0]


def split_packets(data: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """The whole packets at the beginning of some bytes, and what is behind them.

    Raises:
        WireError: something is no packet.
    """
    packets, at = [], 0
    while len(data) - at >= _LENGTH:
        end = at + _LENGTH + _size(data[at : at + _LENGTH])
        if end > len(data):
            break
        packet = msgpack.unpackb(data[at + _LENGTH : end], strict_map_key=False)
        if not isinstance(packet, dict):
            raise WireError("a packet that names nothing")
        packets.append(packet)
        at = end
    return packets, data[at:]


def _size(head: bytes) -> int:
    size = int.from_bytes(head, "big")
    if size > _MOST:
        raise WireError(f"a packet of {size} bytes")
    return size


def _read(file: Readable, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
