"""A verb of one's own in one file: parties find the mean of numbers that each of them keeps.

In a round, pairs of parties that are drawn at random both take the mean of their two numbers
(randomized gossip; Boyd et al., 2006)::

    python -m toy run parties.yaml --out RUN
    python -m toy resume RUN --set rounds=50
    hansa report RUN --plugin toy.py
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field

from hansa import ConfigError, HansaError, RunFolder, register
from hansa.base.bundle import bundle_file, read_bundle, write_bundle
from hansa.base.streams import Streams
from hansa.experiment.environment import describe_machine
from hansa.experiment.hosting import Hosting, begun, hosted, placed, reopened
from hansa.experiment.settings_file import SettingsFile, override
from hansa.report.grid import Grid
from hansa.report.measured import Measured
from hansa.report.run_page import RunPage
from hansa.report.units import quantity

NUMBER_BYTES = 8  # of a float64 message
Tell = Callable[[int, float], None]


class ToyFile(SettingsFile):
    """Parties with a number each that look for the mean of all."""

    command: ClassVar[str] = "toy"
    resumable: ClassVar[tuple[str, ...]] = ("rounds",)

    verb: Literal["toy"] = Field("toy", description="whose file this is")
    seed: int = Field(1, description="names all random streams; same seed, same result")
    nodes: int = Field(16, ge=2, description="how many parties there are")
    rounds: int = Field(30, ge=1, description="how many times pairs meet")
    pairs: int = Field(4, ge=1, description="how many pairs meet in a round")
    spread: float = Field(1.0, gt=0, description="standard deviation of the numbers")
    save_every: int = Field(5, ge=1, description="rounds between two saved states")

    def numbers(self) -> np.ndarray:
        """What the parties hold at first: float64 [nodes].

        Raises:
            ConfigError: more pairs than parties that can meet.
        """
        if 2 * self.pairs > self.nodes:
            problem = f"are more than {self.nodes} parties can make"
            raise ConfigError("pairs", self.pairs, problem, f"at most {self.nodes // 2}")
        return Streams(self.seed).numpy("numbers").normal(scale=self.spread, size=self.nodes)


def run(
    settings: Mapping[str, Any], out: Path | None = None, tell: Tell = lambda done, gap: None
) -> RunFolder:
    """Let the parties meet in a new run folder.

    Raises:
        ConfigError: a setting that cannot work, before anything is written.
    """
    chosen = ToyFile.parse(settings)
    with placed(chosen, out) as path:
        numbers = chosen.numbers()
        with begun(path, chosen, describe_machine(chosen.seed)) as hosting:
            _meet(hosting, chosen, numbers, 0, tell)
        return hosting.folder


def resume(
    path: Path, changes: Mapping[str, Any] | None = None, tell: Tell = lambda done, gap: None
) -> RunFolder:
    """Go on with a run from the last state that was saved; it ends as if it had not been ended.

    Raises:
        CheckpointError: the folder is another verb's, or is damaged.
        ConfigError: a setting cannot change any more, or no round is left.
    """
    with reopened(path, ToyFile, changes, extensible=True) as again:
        state = again.folder.path / "state"
        done, numbers = 0, again.settings.numbers()
        if bundle_file(state).exists():
            facts, tensors = read_bundle(state)
            done, numbers = facts["round"], tensors["numbers"].numpy()
        chosen, ended = again.settings, (again.folder.summary or {}).get("status") == "finished"
        if ended and done >= chosen.rounds:
            problem = f"the run has finished its {done} rounds"
            raise ConfigError("rounds", chosen.rounds, problem, "a larger number")
        again.enter(done)
        with hosted(again.folder, "toy") as hosting:
            _meet(hosting, chosen, numbers, done, tell)
        return again.folder


def _meet(hosting: Hosting, chosen: ToyFile, numbers: np.ndarray, done: int, tell: Tell) -> None:
    """The rounds that are left; ``numbers`` change in place."""
    folder, aim = hosting.folder, float(chosen.numbers().mean())

    def gap() -> float:
        return float(np.sqrt(np.square(numbers - aim).mean()))

    def sent(after: int) -> int:
        return after * 2 * chosen.pairs * NUMBER_BYTES

    def facts() -> dict[str, Any]:
        final = {"disagreement": gap()}
        return {"nodes": chosen.nodes, "rounds": done, "bytes_sent": sent(done), "final": final}

    hosting.facts = facts
    if not done:
        folder.record(0, "disagreement", gap(), bytes=0)
    for t in range(done, chosen.rounds):
        drawn = Streams(chosen.seed).numpy("pairs", round=t).permutation(chosen.nodes)
        pairs = drawn[: 2 * chosen.pairs].reshape(-1, 2)
        numbers[pairs] = numbers[pairs].mean(1, keepdims=True)
        done = t + 1
        folder.record(done, "disagreement", gap(), bytes=sent(done))
        if done % chosen.save_every == 0 or done == chosen.rounds:
            folder.flush()  # so that what is measured reaches as far as the state
            write_bundle(
                folder.path / "state", {"round": done}, {"numbers": torch.from_numpy(numbers)}
            )
        tell(done, gap())


@register("toy", paper="Boyd et al.", year=2006, url="https://doi.org/10.1109/TIT.2006.874516")
class ToyPage(RunPage):
    """How near the parties came to their mean."""

    def claim(self, path: Path, config: Mapping[str, Any] | None) -> int:
        return 2 * ((config or {}).get("verb") == "toy")

    def who(self, of: Measured) -> str:
        return "parties"

    def headline(self, of: Measured) -> str:
        return f"{of.nodes} parties look for their mean, {of.config['pairs']} pairs a round"

    def table(self, of: Measured, *, every: bool = False) -> Grid:
        first, last = of.metrics["value"][0], of.metrics["value"][-1]
        rows = [
            ["at first", quantity(first, "disagreement"), ""],
            ["now", quantity(last, "disagreement"), str(of.rounds)],
        ]
        return Grid("Disagreement", ["", "root mean square", "round"], rows)


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns an exit status."""
    parser = argparse.ArgumentParser(prog="toy", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    begin, again = verbs.add_parser("run"), verbs.add_parser("resume")
    begin.add_argument("file", type=Path)
    begin.add_argument("--out", type=Path)
    again.add_argument("folder", type=Path)
    for one in (begin, again):
        one.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args(arguments)

    def tell(done: int, gap: float) -> None:
        print(f"round {done}: {quantity(gap, 'disagreement')}", file=sys.stderr, flush=True)

    try:
        if given.verb == "run":
            chosen = ToyFile.load(given.file, tuple(given.set))
            print(run(chosen.dump(), given.out, tell).path)
        else:
            print(resume(given.folder, override({}, tuple(given.set)), tell).path)
    except KeyboardInterrupt:
        print("interrupted; toy resume RUN goes on", file=sys.stderr)
        return 130
    except HansaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
