"""How much a client may ask, kept on disk by client and program.

In mode ``budget`` what is counted is equations: each query gives a client that chooses what it
uploads one equation on a layer's weights an output. The count is of what was told, not of what was
asked for: a query counts whole as soon as it begins, and once, however often it is asked again.
What was told of weights stays told when they are served in another scheme or by another version:
it is counted from what their other services of the folder have kept.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.base.errors import CheckpointError, ConfigError
from hansa.infer.private.protocol.codes import Refusal
from hansa.infer.private.protocol.owned_files import own_folder, write_whole
from hansa.infer.private.protocol.service import Equations, Service


@dataclass(frozen=True)
class Quotas:
    """What clients may take.

    Attributes:
        session_queries, client_queries: queries of a session, and of a client in all its sessions.
        client_sessions: sessions that a client has at a time; all clients without certificates
            are one.
        sessions: of all clients.
        held_bytes: of requests that a session's query keeps.
        idle_s: seconds after which a session that nobody uses has expired.
        budget: the share of a layer's unknown weights of which equations may be told.
    """

    session_queries: int = 100_000
    client_queries: int = 10_000_000
    client_sessions: int = 64
    sessions: int = 1024
    held_bytes: int = 256 << 20
    idle_s: float = 3600.0
    budget: float = 0.5

    def __post_init__(self) -> None:
        for name in ("session_queries", "client_queries", "client_sessions", "sessions"):
            if getattr(self, name) < 1:
                raise ConfigError(name, getattr(self, name), "lets nobody ask", "1 or more")
        if not self.idle_s > 0:
            raise ConfigError("idle_s", self.idle_s, "ends every session", "seconds above 0")
        if not 0 < self.budget <= 1:
            problem = "is no share of the unknown weights"
            raise ConfigError("budget", self.budget, problem, "above 0, 1 at most")


def check_budget(equations: Mapping[str, Equations], share: float) -> None:
    """That a budget lets anybody ask at all.

    Raises:
        ConfigError: one query tells more of a layer than the budget; names it.
    """
    for name, (told, unknown) in equations.items():
        if told > int(share * unknown):
            problem = (
                f"is of no use for {name}: one query tells up to {told} equations on its {unknown} "
                f"weights, and the budget is {share:g} of them"
            )
            fix = "--mode shares, which needs no budget; or --mode shuffle, which has none"
            raise ConfigError("mode", "budget", problem, fix)


class Allowances:
    """The clients' counts.

    Args:
        folder: where they are kept; one file a client.
    """

    def __init__(self, folder: Path, service: Service, quotas: Quotas) -> None:
        self._folder, self._service, self._quotas = own_folder(folder), service, quotas
        self._lock = threading.Lock()
        self._program, self._weights = service.digest.hex(), service.weights.hex()
        self._before = self._told_before() if service.budgeted else {}

    def take(self, identity: str, session: str, query: int) -> None:
        """Count a query that begins; where equations are counted, on the disk when this returns.

        Args:
            query: its number in the session, from 0.

        Raises:
            Refusal: the client has nothing left; names the layer where equations are counted.
        """
        with self._lock:
            counts = self._read(identity)
            now = counts["sessions"].get(session, 0)
            if query + 1 <= now:
                return
            if query + 1 > self._quotas.session_queries:
                text = f"{self._quotas.session_queries} queries are all that a session has"
                raise Refusal("session_quota", text)
            total = self._total(counts) + query + 1 - now
            if total > self._quotas.client_queries:
                text = f"{self._quotas.client_queries} queries are all that a client has"
                raise Refusal("client_quota", text)
            self._equations(identity, total)
            counts["sessions"][session] = query + 1
            self._write(identity, counts)

    def left(self, identity: str) -> int:
        """Queries that the client may still begin."""
        with self._lock:
            used = self._total(self._read(identity))
        left = self._quotas.client_queries - used
        if self._service.budgeted:
            most = min(
                (int(self._quotas.budget * e.unknown) - self._earlier(identity, e)) // e.told
                for e in self._told()
            )
            left = min(left, most - used)
        return max(0, left)

    def close(self, identity: str, session: str) -> None:
        """A session is over; what it was told stays counted."""
        with self._lock:
            counts = self._read(identity)
            if (queries := counts["sessions"].pop(session, None)) is not None:
                counts["closed"] += queries
                self._write(identity, counts)

    def _told(self) -> list[Any]:
        return list(self._service.equations.values())

    def _equations(self, identity: str, queries: int) -> None:
        if not self._service.budgeted:
            return
        for k, one in enumerate(self._told()):
            most = int(self._quotas.budget * one.unknown)
            told = queries * one.told + self._earlier(identity, one)
            if told > most:
                text = (
                    f"layer {k} would tell {told} equations on its {one.unknown} weights, "
                    f"and {most} are the budget"
                )
                raise Refusal("budget", text)

    def _earlier(self, identity: str, one: Equations) -> int:
        """Equations on a layer that other services of the same weights told."""
        return self._before.get(identity, 0) * one.told // self._service.told_rows

    def _told_before(self) -> dict[str, int]:
        """Rows of which other services of the same weights told the sums, by client."""
        rows: dict[str, int] = {}
        for path in sorted(self._folder.glob("*.json")):
            counts = self._counts(path)
            if counts.get("weights") == self._weights and counts["program"] != self._program:
                told = self._total(counts) * int(counts["told_rows"])
                rows[counts["client"]] = rows.get(counts["client"], 0) + told
        return rows

    def _path(self, identity: str) -> Path:
        name = hashlib.sha256(f"{identity} {self._program}".encode()).hexdigest()
        return self._folder / f"{name}.json"

    def _read(self, identity: str) -> dict[str, Any]:
        try:
            return self._counts(self._path(identity))
        except FileNotFoundError:
            told = {"weights": self._weights, "told_rows": self._service.told_rows}
            client = {"client": identity, "program": self._program}
            return {**client, **told, "closed": 0, "sessions": {}}

    @staticmethod
    def _counts(path: Path) -> dict[str, Any]:
        try:
            counts: dict[str, Any] = json.loads(path.read_text())
            if not isinstance(counts["closed"], int) or not isinstance(counts["sessions"], dict):
                raise TypeError
        except (ValueError, KeyError, TypeError):
            # A damaged count that were taken for none would give the budget away.
            raise CheckpointError(f"{path} is damaged: it holds what a client was told") from None
        return counts

    def _write(self, identity: str, counts: dict[str, Any]) -> None:
        data = json.dumps(counts).encode()
        write_whole(self._path(identity), data, sync=self._service.budgeted)

    @staticmethod
    def _total(counts: dict[str, Any]) -> int:
        return int(counts["closed"]) + sum(counts["sessions"].values())
