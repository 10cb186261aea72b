"""What leaves a site in its run: each thing, to whom, and how many bytes, before anything does.

What is told at joining is packed as it will be. What is sent in rounds is rehearsed: the run's
first rounds are played in this process by nodes that all have this site's examples, with the run's
graphs and codecs, and what this site's nodes send to others is noted. Nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hansa.codec import Table, Tables
from hansa.data.own_table import MOMENTS, NAMES
from hansa.engine import Job, Send, Tell
from hansa.engine.block import Block
from hansa.engine.exchange.asked import Asked, Exchange
from hansa.engine.exchange.exchange import Routes, sizes_of
from hansa.engine.exchange.wire import HEADER_BYTES, pack_control
from hansa.engine.links.hello import Hello, digests
from hansa.engine.links.ticket import Ticket
from hansa.engine.runtimes.host import Host
from hansa.engine.runtimes.own_ledger import STAGE
from hansa.experiment.sites.entry import TOLD, Entry
from hansa.experiment.sites.parties import OwnParty
from hansa.experiment.sites.site_file import SiteFile

_ROUNDS = 6
"""Rounds that are rehearsed at most."""
_KINDS = {
    "model": "its model",
    "invite": "who is invited",
    "measured": "a model, to be measured",
    "release": "whose update is not wanted",
    "update": "its update",
}


@dataclass(frozen=True)
class Sent:
    """A message of this site's nodes to another site.

    Attributes:
        round: from 0.
        to: the site.
        nbytes: header included.
    """

    round: int
    kind: str
    to: int
    nbytes: int


class Listening(Exchange):
    """Exchanges as ever, and notes what some nodes send to others' sites."""

    def __init__(self, job: Job, owner: np.ndarray, site: int) -> None:
        super().__init__(job.clock, None, job.faults, job.algorithm.tolerates_loss)
        self.owner, self.site = owner, site
        self.sent: list[Sent] = []

    def __call__(self, block: Block, asked: Asked[Any], round: int, phase: int) -> Any:
        """Do it, and note it."""
        if isinstance(asked, Send):
            routes, sizes = Routes.of(block, asked), sizes_of(asked)
            ids = block.ids[routes.senders]
            self._note(round, asked.kind, ids, routes.receivers, sizes[routes.message])
        elif isinstance(asked, Tell):
            self._note(round, asked.kind, asked.senders, asked.receivers, _words_of(asked))
        return super().__call__(block, asked, round, phase)

    def _note(
        self, round: int, kind: str, senders: np.ndarray, receivers: np.ndarray, sizes: np.ndarray
    ) -> None:
        away = (self.owner[senders] == self.site) & (self.owner[receivers] != self.site)
        for to, size in zip(
            self.owner[receivers[away]].tolist(), sizes[away].tolist(), strict=True
        ):
            self.sent.append(Sent(round, kind, to, size))


def _words_of(tell: Tell) -> np.ndarray:
    """Bytes of each word with its header, int64 [words]."""
    count = len(tell.senders)
    columns = {
        name: np.asarray(tell.values.get(name, np.zeros(count)), dtype=np.asarray(value).dtype)
        for name, value in tell.default.items()
    }
    sizes = Table().size(Tables.rows(**columns)) if columns else np.zeros(count, dtype=np.int64)
    return sizes + HEADER_BYTES


def explained(file: SiteFile) -> dict[str, Any]:
    """Rows of ``when`` (joining, round, besides), ``what``, ``to``, ``bytes`` and ``exact``, with
    ``remarks`` and what this site ``refused`` to tell.

    Bytes are those of each message to each receiver, header included, or of what a round has of
    them; those of ``besides`` are the links' own.

    Raises:
        ConfigError, DataError: a setting of the site or of the run cannot work.
    """
    entry = Entry.of(file)
    ticket = entry.ticket()
    rows, remarks = _joining(entry), []
    party = entry.party
    if entry.run.algorithm.own_pace:
        remarks.append("nodes keep their own pace: how often they send follows from their speed")
    else:
        rounds, ends = _rehearsed(entry)
        rows += rounds
        remarks += ends
    if isinstance(party, OwnParty) and NAMES in party.needs:
        remarks.append(
            "models may be larger than these where other sites have more classes or words; "
            "data.declared in the run file says them beforehand"
        )
    rows += _besides(ticket, entry)
    remarks.append(
        "models are trained on this site's examples, and something can be learnt from them: "
        "docs/security.md says what"
    )
    refused = [name for name in party.needs if name not in file.tells]
    return {
        "site": file.name, "session": file.session, "rows": rows, "remarks": remarks,
        "refused": refused,
    }  # fmt: skip


def row(when: str, what: str, to: str, nbytes: int | None, exact: bool = True) -> dict[str, Any]:
    """A row."""
    return {"when": when, "what": what, "to": to, "bytes": nbytes, "exact": exact}


def _joining(entry: Entry) -> list[dict[str, Any]]:
    """What it tells when it joins, each with its part of the message."""
    everyone = "each other site"
    tells = dict(entry.party.tells())
    stage = {"done": 0, "playing": False, "asks": True}
    whole = len(pack_control("tells", tells={**tells, STAGE: stage}))
    rows = []
    groups: dict[str, list[str]] = {
        "sizes": ["sizes", "held"], "labels": ["labels"], "keys": ["keys", "owned"],
        NAMES: [NAMES], MOMENTS: [MOMENTS],
    }  # fmt: skip
    for name, parts in groups.items():
        told = [part for part in parts if part in tells]
        if not told:
            continue
        rest = {key: value for key, value in tells.items() if key not in told}
        size = len(pack_control("tells", tells={**tells, STAGE: stage})) - len(
            pack_control("tells", tells={**rest, STAGE: stage})
        )
        rows.append(row("joining", _words(name, tells[told[0]]), everyone, size))
    rest = whole - sum(one["bytes"] for one in rows)
    first = row("joining", "which nodes live here, and how many rounds it has done", everyone, rest)
    return [first, *rows]


def _words(name: str, told: Any) -> str:
    """What is told under a name."""
    if name == MOMENTS:
        figures = ", ".join(k for k in told)
        return f"of each input column: {figures} (sums over its training examples)"
    return TOLD[name]


def _rehearsed(entry: Entry) -> tuple[list[dict[str, Any]], list[str]]:
    """Rows of a round, and of the end; what to say of them."""
    job = entry.party.rehearsed()
    rounds = min(job.rounds, _ROUNDS)
    played = replace(
        job,
        rounds=rounds,
        train=job.train.model_copy(update={"local_steps": 1, "local_epochs": None}),
        evaluate=job.evaluate.model_copy(
            update={"every": 10**9, "dense_start": False, "per_client": False}
        ),
        checkpoint=job.checkpoint.model_copy(update={"every": 0}),
        joined=None,
    )
    block = played.block(np.arange(played.nodes))
    exchange = Listening(played, np.array(entry.owner), entry.site)
    Host(played, block, exchange, lambda report: None, lambda block, done: None).run()
    return _rows(entry, exchange.sent, rounds)


def _rows(entry: Entry, sent: list[Sent], rounds: int) -> tuple[list[dict[str, Any]], list[str]]:
    rows, remarks = [], []
    pairs = sorted({(one.kind, one.to) for one in sent})
    for kind, to in pairs:
        sizes = [one.nbytes for one in sent if (one.kind, one.to) == (kind, to)]
        by_round = [
            sum(o.nbytes for o in sent if (o.kind, o.to, o.round) == (kind, to, t))
            for t in range(rounds)
        ]
        what = _KINDS.get(kind, f"{kind!r} of the algorithm")
        name = entry.names[to]
        if rounds > 1 and not any(by_round[:-1]):
            rows.append(
                row("besides", f"{what}, at the end or to measure", name, by_round[-1], False)
            )
            continue
        exact = len({*by_round}) == 1
        many = len(sizes) / rounds
        if many > 1:
            what += f" ({many:g} messages)"
        elif many < 1:
            what += f" (in {many:.0%} of the rounds)"
        rows.append(row("round", what, name, round(sum(by_round) / rounds), exact))
    if not all(one["exact"] for one in rows if one["when"] == "round"):
        remarks.append(
            f"sizes that vary from round to round are means over {rounds} rehearsed rounds"
        )
    return rows, remarks


def _besides(ticket: Ticket, entry: Entry) -> list[dict[str, Any]]:
    """What links say themselves."""
    hello = Hello(ticket.site, 0, ticket.run, 0, bytes(8), config=digests(ticket.config), facts={})
    fields = len(ticket.config)
    everyone = "each other site"
    return [
        row("besides", "its certificate: its key's name and public half", everyone, None, False),
        row(
            "besides",
            f"a greeting: version, session, and 64 bits of a digest of each of {fields} settings",
            everyone,
            len(hello.pack()),
            False,
        ),
        *_evidence(ticket),
        row("besides", "after each round: its number, and that it lives", everyone, None, False),
    ]


def _evidence(ticket: Ticket) -> list[dict[str, Any]]:
    """What it shows of the hardware that it runs on, if it is asked to."""
    if ticket.channel is None or not ticket.channel.attests:
        return []
    what = "evidence of its hardware, with the chip's certificates and id, before anything else"
    return [row("besides", what, "each other site", None, False)]


def total(facts: Mapping[str, Any], when: str) -> int:
    """The bytes of all rows of a part."""
    return sum(one["bytes"] or 0 for one in facts["rows"] if one["when"] == when)
