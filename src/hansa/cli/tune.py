"""``hansa tune``: the best consensus step size of CHOCO-SGD, found without training."""

from __future__ import annotations

from typing import Annotated

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import answering, say
from hansa.cli.options import Debug, Json, Seed, Sets, Target, read_settings

Numbers = Annotated[int, typer.Option(min=1, help="Numbers in each random vector.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds of gossip for each gamma.")]


def tune(
    target: Target = "choco",
    sets: Sets = None,
    seed: Seed = None,
    numbers: Numbers = 2000,
    rounds: Rounds = 200,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Find the gamma with which CHOCO agrees fastest: gossip on random vectors, no training."""
    with answering(as_json, debug) as answer:
        from hansa.base.streams import Streams
        from hansa.engine import Network
        from hansa.learn import Choco
        from hansa.learn.tune_gamma import tune_gamma
        from hansa.report.tables import Grid

        chosen = read_settings(target, sets, seed=seed)
        if not isinstance(chosen.algorithm, Choco):
            name = type(chosen.algorithm).name
            raise ConfigError("algorithm", name, "has no gamma to tune", "algorithm: choco")
        network = Network(chosen.topology, chosen.nodes, Streams(chosen.seed))
        try:
            field = "topology"
            chosen.topology.check(chosen.nodes)
            field = "algorithm"
            chosen.algorithm.check(network)
        except ConfigError as error:
            raise error.under(field) from None
        found = tune_gamma(
            chosen.algorithm,
            network,
            numbers,
            rounds,
            tell=lambda gamma, error: say(f"gamma {gamma:.3g}: {error:.3g}"),
        )
        answer.data = {
            "gamma": found.gamma,
            "errors": [{"gamma": gamma, "error": e} for gamma, e in found.errors.items()],
            "share": chosen.algorithm.share,
            "nodes": chosen.nodes,
            "rounds": rounds,
        }
        rows = [
            [f"{gamma:.3g}", f"{e:.2g}", "best" if gamma == found.gamma else ""]
            for gamma, e in found.errors.items()
        ]
        answer.table(Grid("Gossip", ["gamma", "distance", ""], rows))
        answer.line(f"Squared distance from the mean after {rounds} rounds, 1 at the start.")
        answer.line(f"--set algorithm.gamma={found.gamma:.2g}")
