"""From the file of ``hansa infer serve`` to the model that is served."""

from __future__ import annotations

from typing import Any

from hansa.base.errors import ConfigError
from hansa.ensemble import Aggregator
from hansa.infer.robust.answering import Answerer, Positional
from hansa.infer.robust.score_aggregator import ScoreAggregator
from hansa.infer.serving.aggregate_model import AggregateModel, Waiting
from hansa.infer.serving.breaker import Breaker
from hansa.infer.serving.endpoint import Endpoint
from hansa.infer.serving.http_client import MemberClient
from hansa.infer.serving.member_reply import Gives
from hansa.infer.serving.serve_file import ServeFile
from hansa.serving.listening import token_from

LEAST_REPLY, NUMBER_BYTES = 1 << 20, 64
"""Bytes of a member's response at most: these, and so many for each number that is due."""


def plan(file: ServeFile, model: AggregateModel) -> dict[str, Any]:
    """What can be said of it before anything is asked, in plain data."""
    return {
        "model": model.name,
        "members": len(model.endpoints),
        "rule": model.answerer.aggregator.name,
        "classes": ", ".join(model.class_names),
        "liars": file.liars,
        "quorum": model.waiting.quorum,
        "deadline": f"{file.deadline_ms:g} ms, a member's {file.member_deadline_ms:g} ms",
    }


def aggregate_of(
    file: ServeFile,
    aggregator: ScoreAggregator | Aggregator | None = None,
    class_names: tuple[str, ...] = (),
) -> AggregateModel:
    """The model of a file.

    Args:
        aggregator: what a run or an ensemble brings; None: the file's own.
        class_names: of the run or the ensemble; the file's own go before.

    Raises:
        ConfigError: there is no member, a token or certificate cannot be read, or the quorum is
            less than the aggregator needs.
    """
    if not file.endpoints:
        raise ConfigError("endpoints", [], "there is no member to ask", "endpoints: [{url: ...}]")
    chosen = aggregator or file.rule
    names = file.classes or class_names
    if chosen is None or len(names) < 2:
        raise ConfigError("classes", list(names), "are not known", "classes: [ill, well]")
    if file.classes and class_names and len(file.classes) != len(class_names):
        problem = f"are {len(file.classes)}, and what answers knows {len(class_names)}"
        raise ConfigError("classes", list(file.classes), problem, "as many, in the same order")
    n = len(file.endpoints)
    answerer = Answerer(chosen, len(names), n, file.liars, file.margin, file.certified_only)
    quorum = answerer.least if file.quorum is None else file.quorum
    if not answerer.least <= quorum <= n:
        problem = f"is not from {answerer.least} to {n}: 2 f + 1, and what {chosen.name} needs"
        raise ConfigError("quorum", quorum, problem, "leave it out, or more members")
    waiting = Waiting(file.deadline_ms / 1000, quorum, file.early, file.batch)
    limit = LEAST_REPLY + NUMBER_BYTES * file.batch * len(names)
    endpoints = []
    for k, (name, member) in enumerate(zip(file.names(), file.endpoints, strict=True)):
        try:
            token = token_from(member.token, "token")
            ca = None if member.ca is None else str(member.ca)
            client = MemberClient(member.url, token, ca, limit)
        except ConfigError as error:
            raise error.under(f"endpoints.{k}") from None
        breaker = Breaker(file.breaker.failures, file.breaker.wait_ms / 1000)
        deadline = (member.timeout_ms or file.member_deadline_ms) / 1000
        output: str | None = member.output
        gives: Gives = member.gives
        if isinstance(chosen, Positional):  # a rule of scores
            output, gives = output or "scores", "scores"
        endpoints.append(Endpoint(name, client, member.model, deadline, breaker, output, gives))
    return AggregateModel(file.model, endpoints, answerer, names, waiting, file.forms())
