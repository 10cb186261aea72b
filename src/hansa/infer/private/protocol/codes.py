"""Why a server refuses: public codes, the same for everybody, and what a client does about each.

A refusal says what is public to begin with: orders, sizes, counts and times. Nothing in it depends
on a weight, a key or what is encrypted.
"""

from __future__ import annotations

from typing import Any

from hansa.base.errors import HansaError
from hansa.infer.private.protocol.frames import Frame, Kind, pack_facts, unpack_facts

CHEATING = "cheating"
"""The code with which a session is over: who cheats may not try a second time in it, since every
try that is found out tells a bit of what the session draws from."""
CODES: dict[str, str] = {
    "malformed": "it is no frame, or one that cannot come here",
    "too_large": "a body is longer than its step takes",
    "wrong_version": "the other side speaks another version of the protocol",
    "unknown_session": "the session has ended, has expired or never was",
    "unknown_client": "the client shows no certificate that the server knows",
    "foreign_session": "the session belongs to another client",
    "other_program": "the server serves another program than when the session began",
    "out_of_order": "the step or query is not the next",
    "replayed": "the step was answered before, and later ones were too",
    "changed": "the step was accepted with other bytes",
    "rejected": "the request is not what its step takes",
    CHEATING: "the request is that of a client that does not keep to the protocol",
    "session_quota": "the session has no queries left",
    "client_quota": "the client has no queries left",
    "too_many_sessions": "the client has as many sessions as it may",
    "budget": "the answer would give more equations on a layer's weights than it may",
    "too_many_bytes": "the session holds as many bytes as it may",
    "timed_out": "the other side took too long",
    "busy": "the server has as much to do as it can hold",
    "draining": "the server is about to end",
    "failed": "the server could not answer",
}
"""What each means."""
PASSING = frozenset({"busy", "draining", "timed_out"})
"""Those that a client meets by asking again later."""
_LONGEST = 400


class Refusal(HansaError):
    """A request that is refused.

    Args:
        code: one of ``CODES``, or what the sessions call it.
        text: more on it; public.
    """

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(code, text)
        self.code, self.text = code, text

    def __str__(self) -> str:
        text = self.text or CODES.get(self.code, "")
        return f"{self.code}: {text}" if text else self.code

    @property
    def passing(self) -> bool:
        """Whether it is worth asking again."""
        return self.code in PASSING

    def frame(self, about: Frame | None = None) -> Frame:
        """As it is sent, in answer to ``about``."""
        body = pack_facts({"code": self.code, "text": self.text[:_LONGEST]})
        if about is None:
            return Frame(Kind.REFUSAL, body=body)
        return Frame(Kind.REFUSAL, about.session, about.query, about.step, body)

    @classmethod
    def of(cls, frame: Frame) -> Refusal:
        """As it came; what the other side wrote is made printable.

        Raises:
            WireError: the frame holds none.
        """
        facts: dict[str, Any] = unpack_facts(frame.body, code=str, text=str)
        clean = {
            name: "".join(c if c.isprintable() else "?" for c in value)[:_LONGEST]
            for name, value in facts.items()
        }
        return cls(**clean)
