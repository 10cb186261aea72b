"""What a message between sites holds, once all of it has been checked."""

from __future__ import annotations

from collections.abc import Sequence

from hansa.base.errors import WireError
from hansa.engine.exchange.wire import HEADER_BYTES, Buffer, Header


def opened(
    parts: Sequence[Buffer], owner: Sequence[int], source: int, here: int
) -> tuple[list[Header], Buffer]:
    """The headers of a message, one for each who hears it, and its payload.

    Args:
        parts: as they came.
        owner: site of each node of the run.
        source: the site that has sent it.
        here: the site that it came to.

    Raises:
        WireError: something is not as it should be.
    """
    if len(parts) != 2 or not len(parts[0]) or len(parts[0]) % HEADER_BYTES:
        raise WireError("not headers and a payload")
    head, payload = memoryview(parts[0]), memoryview(parts[1])
    first = Header.unpack(head[:HEADER_BYTES])
    first.verify(payload)
    headers = [first]
    headers += [
        Header.unpack(head[at : at + HEADER_BYTES])
        for at in range(HEADER_BYTES, len(head), HEADER_BYTES)
    ]
    for header in headers:
        if (header.size, header.checksum) != (first.size, first.checksum):
            raise WireError("its headers announce different payloads")
        if not (header.sender < len(owner) and header.receiver < len(owner)):
            raise WireError("names a node that does not exist")
        if owner[header.sender] != source:
            raise WireError("its sender does not live where it came from")
        if owner[header.receiver] != here:
            raise WireError("its receiver does not live here")
        if header.when != first.when or header.kind != first.kind:
            raise WireError("its headers are of different exchanges")
    return headers, payload
