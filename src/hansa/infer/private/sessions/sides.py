"""The two sides of a session, whatever its mode."""

from __future__ import annotations

from typing import Any

from hansa.base.lazy import Lazy
from hansa.infer.private.program import Program
from hansa.infer.private.sessions.client import ClientSession
from hansa.infer.private.sessions.model import ServerModel
from hansa.infer.private.sessions.outline import Outline
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.sessions.server import ServerSession

shares = Lazy("hansa.infer.private.shares.share_sessions")


def client_session(
    outline: Outline, scheme: Scheme, mask_seed: bytes, secret: bytes, threads: int = 1
) -> Any:
    """The client's side: ``open()`` and ``ask(query, rows)``."""
    if scheme.mode == "shares":
        return shares.ShareClient(outline, scheme, mask_seed, secret, threads)
    return ClientSession(outline, scheme, mask_seed, secret, threads)


def server_model(program: Program, scheme: Scheme, threads: int = 1, memory: int = 1 << 29) -> Any:
    """What the server's sessions share."""
    if scheme.mode == "shares":
        return shares.ShareModel(program, scheme, threads, memory)
    return ServerModel(program, scheme, threads, memory)


def server_session(model: Any, mask_seed: bytes, secret: bytes) -> Any:
    """The server's side: ``answer(query, step, payload)`` and ``restore(query, payloads)``."""
    if model.scheme.mode == "shares":
        return shares.ShareServer(model, mask_seed, secret)
    return ServerSession(model, mask_seed, secret)
