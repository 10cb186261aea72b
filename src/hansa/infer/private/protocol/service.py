"""What a server serves and what it needs to know of it, whatever the mode."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol


class ServerSide(Protocol):
    """The server's half of one session; deterministic in its secret and in what it is asked."""

    def answer(self, query: int, step: int, payload: bytes) -> bytes:
        """The reply to an accepted request."""
        ...

    def restore(self, query: int, payloads: Sequence[bytes]) -> None:
        """Take up a query where these requests of it were answered."""
        ...

    def close(self) -> None:
        """Free what was prepared for the session; it may be taken up again from its requests."""
        ...


class ClientSide(Protocol):
    """The client's half of one session."""

    @property
    def rows(self) -> int:
        """Rows of one query at most."""
        ...

    @property
    def largest_reply(self) -> int:
        """Bytes of a reply at most."""
        ...

    def prepared(self, rows: Any) -> Any:
        """Rows as the data are stored, as the network reads them."""
        ...

    def open(self) -> Generator[bytes, bytes, Any]:
        """What comes before the first query."""
        ...

    def ask(self, query: int, rows: Any) -> Generator[bytes, bytes, Any]:
        """One query; ends in answers with ``classes`` and, where they are revealed, ``logits``."""
        ...


class Equations(NamedTuple):
    """What one query tells of a layer to who chooses what it uploads.

    Attributes:
        told: linear equations in a query: its outputs.
        unknown: weights and biases.
    """

    told: int
    unknown: int


class Service(Protocol):
    """A program in a scheme, prepared; shared by the sessions of all threads.

    Attributes:
        digest: of program and scheme: sessions go on only with the same.
        weights: digest of the integers of the network alone, whatever the scheme.
        told_rows: rows of which a query tells the sums of each layer at most; none in mode shares.
        outline, scheme: as clients get them, JSON.
        budgeted: whether equations are counted.
        equations: by layer.
        largest_request, largest_reply: bytes of a body at most.
    """

    digest: bytes
    weights: bytes
    told_rows: int
    outline: bytes
    scheme: bytes
    budgeted: bool
    equations: Mapping[str, Equations]
    largest_request: int
    largest_reply: int

    def steps(self, query: int) -> int:
        """Requests of a query; of the opening for -1."""
        ...

    def session(self, mask_seed: bytes, secret: bytes) -> ServerSide:
        """A session's half."""
        ...

    def warm(self) -> None:
        """Compile and load all that a first query would wait for."""
        ...
