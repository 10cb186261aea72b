"""What a run folder says of what happened when, for a run that shall do the same."""

from __future__ import annotations

from dataclasses import dataclass

from hansa.base.errors import CheckpointError
from hansa.engine.exchange.recorded import Recorded
from hansa.engine.runtimes.arrivals import Order
from hansa.engine.runtimes.arrivals_file import read_arrivals
from hansa.report import RunFolder


@dataclass(frozen=True)
class Recording:
    """What a run has recorded.

    Attributes:
        done: of how many rounds.
        faults: what went wrong besides what its run file asks for.
        own_pace: whether the order of arrivals is recorded too, since there are no rounds.
    """

    folder: RunFolder
    done: int
    faults: Recorded
    own_pace: bool

    @classmethod
    def read(cls, folder: RunFolder, own_pace: bool) -> Recording:
        """The recording in a run's folder.

        Raises:
            CheckpointError: it is damaged.
        """
        done = read_arrivals(folder.path)[1] if own_pace else _rounds(folder)
        try:
            faults = Recorded.of(folder.events())
        except (KeyError, TypeError, ValueError) as error:
            problem = f"an event of what went wrong is none ({error!r})"
            raise CheckpointError(f"{folder.path / 'events.jsonl'}: {problem}") from error
        return cls(folder, done, faults.until(done), own_pace)

    def order(self, nodes: int, start: int) -> Order | None:
        """The order of arrivals from round ``start`` on, where it matters."""
        if not self.own_pace:
            return None
        return Order(read_arrivals(self.folder.path)[0], nodes, start)


def _rounds(folder: RunFolder) -> int:
    """Of how many rounds, from the first on, something was measured."""
    import polars

    whole = folder.metrics().filter(polars.col("name") == "round_seconds")
    rounds = set(whole["round"].to_list())
    return next((done for done in range(len(rounds) + 1) if done + 1 not in rounds), 0)
