"""What servers ask of a request: its token, a body not too long, time that is left."""

from __future__ import annotations

import hmac
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

DEADLINE_HEADER = "x-request-deadline-ms"
"""Milliseconds that are left for a request when it is sent."""


class Refused(Exception):
    """A request that gets an error for an answer.

    Args:
        status: of HTTP.
        text: what was wrong, as the answer says it.
        headers: of the answer, such as Retry-After.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, dict(headers or {})


def admit(request: Request, token: bytes | None) -> None:
    """Hold a request against the token that it has to bear; None: nobody has to.

    Raises:
        Refused: 401; it bears none, or another.
    """
    if token is None:
        return
    scheme, _, borne = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(borne.strip().encode("utf-8", "replace"), token)
    if scheme.lower() != "bearer" or not right:
        raise Refused(401, "the bearer token is missing or wrong", {"WWW-Authenticate": "Bearer"})


async def body_of(request: Request, limit: int) -> bytes:
    """A request's body.

    Raises:
        Refused: 413; it is longer than ``limit`` bytes. The rest is not read.
    """
    size = request.headers.get("content-length", "")
    too_long = Refused(413, f"the body is longer than {limit} bytes")
    if size.isdigit() and int(size) > limit:
        raise too_long
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise too_long
    return bytes(body)


def left_of(header: str | None) -> float | None:
    """Seconds that a header of milliseconds leaves.

    Raises:
        Refused: it is no number of them; 504 where none is left.
    """
    if header is None:
        return None
    try:
        left = float(header)
    except ValueError:
        left = math.nan
    if not math.isfinite(left):
        raise Refused(400, f"{DEADLINE_HEADER}: {header[:40]!r} is no number of milliseconds")
    if left <= 0:
        raise Refused(504, "the deadline has passed already")
    return left / 1000


def json_response(said: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer in JSON."""
    from starlette.responses import Response

    text = json.dumps(said, allow_nan=False, separators=(",", ":"))
    return Response(text, status, headers, media_type="application/json")
