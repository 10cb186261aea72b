"""``hansa tune``: settings that can be chosen without training: CHOCO's gamma, CPFL's cohorts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from hansa.base.errors import ConfigError
from hansa.base.telling import say
from hansa.cli.answer import answering
from hansa.cli.options import Debug, Json, Seed, Sets, Target, read_settings

if TYPE_CHECKING:
    from hansa.experiment import RunFile

tune = typer.Typer(help="Find settings without training.", no_args_is_help=True)

Numbers = Annotated[int, typer.Option(min=1, help="Numbers in each random vector.")]
Rounds = Annotated[int, typer.Option(min=1, help="Rounds of gossip for each gamma.")]
Distance = Annotated[
    float,
    typer.Option(min=0, max=1, help="How far cohorts' class mixes may be from that of all."),
]
Examples = Annotated[
    float, typer.Option(min=0, help="Examples of a class that a cohort should have at least.")
]
Draws = Annotated[int, typer.Option(min=1, help="Random assignments to average over.")]


@tune.command("choco")
def choco(
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
        from hansa.learn.gossip.tune_gamma import tune_gamma
        from hansa.report.grid import Grid

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
        tuned = tune_gamma(
            chosen.algorithm,
            network,
            numbers,
            rounds,
            tell=lambda gamma, error: say(f"gamma {gamma:.3g}: {error:.3g}"),
        )
        answer.data = {
            "gamma": tuned.gamma,
            "errors": [{"gamma": gamma, "error": e} for gamma, e in tuned.errors.items()],
            "share": chosen.algorithm.share,
            "nodes": chosen.nodes,
            "rounds": rounds,
        }
        rows = [
            [f"{gamma:.3g}", f"{e:.2g}", "best" if gamma == tuned.gamma else ""]
            for gamma, e in tuned.errors.items()
        ]
        answer.table(Grid("Gossip", ["gamma", "distance", ""], rows))
        answer.line(f"Squared distance from the mean after {rounds} rounds, 1 at the start.")
        answer.line(f"--set algorithm.gamma={tuned.gamma:.2g}")


@tune.command("cohorts")
def cohorts(
    target: Target = "cpfl",
    sets: Sets = None,
    seed: Seed = None,
    distance: Distance = 0.34,
    examples: Examples = 20.0,
    draws: Draws = 20,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show what 1, 2, 4 ... cohorts of CPFL would cost, and suggest how many: no training."""
    with answering(as_json, debug) as answer:
        from dataclasses import asdict

        from hansa.data.dealing.cohorts import Counted
        from hansa.experiment import prepare
        from hansa.learn import CPFL
        from hansa.learn.federated.suggest_cohorts import suggest_cohorts
        from hansa.report.grid import Grid

        chosen = read_settings(target, sets, seed=seed)
        rule = chosen.algorithm.cohorts if isinstance(chosen.algorithm, CPFL) else None
        # A rule that makes a number of its own, such as one a class, cannot be dialled.
        rule = rule if isinstance(rule, Counted) and rule.name != "by_class" else None
        job = prepare(_one_cohort(chosen))
        suggestion = suggest_cohorts(job, rule, distance, examples, draws)
        answer.data = {
            "cohorts": suggestion.cohorts,
            "tried": [asdict(dial) for dial in suggestion.tried],
            "distance": distance,
            "examples": examples,
            "draws": draws,
        }
        timed = job.clock.modelled
        names = ["cohorts", "clients each", "examples of a class", "distance", "MB a round"]
        if timed:
            names += ["s a round, slowest", "s a round, mean", "device seconds"]
        rows = []
        for dial in suggestion.tried:
            row = [f"{dial.cohorts}", f"{dial.clients:.4g}", f"{dial.examples:.4g}"]
            row += [f"{dial.distance:.2f}", f"{dial.nbytes / 1e6:.3g}"]
            if timed:
                row += [f"{x:.3g}" for x in (dial.slowest, dial.mean, dial.device_seconds)]
            rows.append([*row, "suggested" if dial.cohorts == suggestion.cohorts else ""])
        answer.table(Grid("Cohorts", [*names, ""], rows))
        answer.line(f"The most with a distance of {distance:g} or less and {examples:g} examples")
        answer.line("of a class or more: a rule of thumb of ours, not the paper's.")
        if not timed:
            answer.line("No times: the clock models none (clock: devices).")
        answer.line(f"--set algorithm.cohorts={suggestion.cohorts}")


def _one_cohort(run: RunFile) -> RunFile:
    """The run with what cohorts cost before they are many: no merge, and nobody validates."""
    from hansa.data.dealing.cohorts import UniformCohorts
    from hansa.learn import CPFL, Federated

    method = run.algorithm
    if not isinstance(method, Federated):
        raise ConfigError("algorithm", method.name, "has no cohorts to dial", "algorithm: cpfl")
    plain: dict[str, object] = {"stop": None, "select": "last"}
    if isinstance(method, CPFL):
        plain |= {"cohorts": UniformCohorts(cohorts=1), "merge": "none"}
    return run.model_copy(update={"algorithm": method.model_copy(update=plain)})
