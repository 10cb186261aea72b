"""Clients of an ensemble that lie: they upload another model than they trained, and what they send
while a rule is learned is another thing too.

They train and score as all others do; only what leaves them is forged, by an attack of the engine
(:mod:`hansa.ensemble.attacks`). What clients tell in counts (examples of each class, tallies of
votes, how many proxies a rule gets right) is as it should be: no attack on rows of numbers says
what a lie would be there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings, Predictor
from hansa.engine.exchange.attackers import Attackers
from hansa.ensemble.attacks import Scene

if TYPE_CHECKING:
    from torch import Tensor

FIELD = "attack"


def attackers_of(settings: EnsembleSettings, clients: Sequence[int]) -> Attackers | None:
    """Who of some clients lies, by their place among them; None: nobody does.

    Raises:
        ConfigError: there is no such client, nobody lies, or everybody does.
    """
    if settings.attack is None:
        return None
    try:
        who = settings.attack.attackers(settings.clients, Streams(settings.seed))
    except ConfigError as error:
        words = (error.problem.replace("nodes", "clients"), error.fix)
        raise ConfigError(f"{FIELD}.{error.field}", error.value, *words) from None
    return Attackers(settings.attack, who).among(list(clients))


def check_attack(
    settings: EnsembleSettings, clients: Sequence[int], brought: Collection[int]
) -> Attackers | None:
    """Who lies, by their place among the clients that take part; refuses what cannot be forged.

    Args:
        brought: clients whose models were trained elsewhere.

    Raises:
        ConfigError: a liar's model has no numbers of its own here, or what is sent is no row.
    """
    attackers = attackers_of(settings, clients)
    if settings.attack is None or attackers is None:
        return None
    name, kinds = settings.attack.name, [*settings.models, *settings.predictors]
    for client in (int(clients[k]) for k in attackers.nodes):
        fix = f"{FIELD}.nodes: clients that train a network here"
        if client in brought:
            problem = f"client {client} brings a model, which is taken as it is"
            raise ConfigError(FIELD, name, problem, fix)
        if isinstance(kinds[client % len(kinds)], Predictor):
            problem = f"client {client} fits a predictor, which has no numbers to forge"
            raise ConfigError(FIELD, name, problem, fix)
    if settings.aggregate.over == "server":
        problem = "clients send their proxies themselves to the server, which no attack forges"
        raise ConfigError(FIELD, name, problem, "aggregate.over: clients")
    if settings.baselines.methods:
        problem = "baselines train all clients anew, and nobody lies there"
        fix = "baselines.methods: [], and hansa learn with the same attack beside it"
        raise ConfigError(FIELD, name, problem, fix)
    return attackers


def forged_uploads(
    settings: EnsembleSettings, ids: Sequence[int], rows: Tensor, streams: Streams
) -> Tensor:
    """Models [k, D] of clients of one form as they are uploaded; liars collude among these.

    Raises:
        ConfigError: as :func:`attackers_of`.
    """
    attackers = attackers_of(settings, ids)
    if attackers is None:
        return rows
    at = torch.from_numpy(attackers.nodes)
    own = rows[at].clone()
    scene = Scene(
        np.asarray(ids)[attackers.nodes],
        settings.local.epochs,
        0,
        "upload",
        streams,
        own if attackers.attack.colluding else None,
        len(ids),
        attackers.nodes,
    )
    uploads = rows.clone()
    uploads[at] = attackers.forge(own, scene).to(uploads)
    return uploads
