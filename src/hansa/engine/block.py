"""A block: any number of nodes that live in one worker, their models one stacked tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar

import numpy as np

from hansa.base import few, many
from hansa.base.few import Figures
from hansa.base.lazy import torch
from hansa.base.streams import Streams
from hansa.data import Dataset, Split
from hansa.data.dealing.deal import OfNodes, sizes_of
from hansa.engine.network import Network, WeightRule
from hansa.engine.outcome import Outcome
from hansa.engine.own_examples import Store, WhenFull
from hansa.engine.roster import Roster
from hansa.engine.shelf import Shelf
from hansa.engine.time.clock import Clock
from hansa.engine.time.presence import Presence
from hansa.models import ParameterLayout
from hansa.privacy.privacy import Privacy
from hansa.topology import Graph, MixingMatrix

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hansa.engine.exchange.letter import Letter

COUNTERS = (
    "steps",
    "samples",
    "training_rounds",
    "messages_sent",
    "messages_received",
    "bytes_sent",
    "bytes_received",
)
MODELLED = (
    "modelled_time",
    "compute_time",
    "transfer_time",
    "energy",
    "training_energy",
    "radio_energy",
)
TRAIN_LOSS = "train_loss"
"""In a block's report: the mean loss of each node's local steps."""
EFFECTIVE_STEPS = "effective_steps"
"""In a block's report: local steps weighed as the optimizer weighs them (see ``Optimizer``)."""
T = TypeVar("T")
LinkState: TypeAlias = tuple[float, float, float, float, int]
Correction: TypeAlias = "Callable[[np.ndarray, torch.Tensor, torch.Tensor], None]"
"""Changes gradients before a step: (positions in the block, rows [m, P], grads [m, P])."""


class LocalWork(Protocol):
    """What a block needs of its trainer."""

    device: torch.device
    layout: ParameterLayout
    module: nn.Module
    dataset: Dataset
    rounds: int
    threads: int
    counters: tuple[str, ...]
    """Integer buffers that training changes, as :attr:`Block.state` names them."""
    weighs_steps: bool
    """Whether training leaves ``effective_steps`` in the report (see ``Optimizer``)."""

    @property
    def frozen(self) -> str:
        """The digest of what is frozen in the model; empty where nothing is."""

    def train(
        self,
        block: Block,
        round: int,
        who: np.ndarray | None = None,
        steps: int | np.ndarray | None = None,
        draw: int | None = None,
        correct: Correction | None = None,
    ) -> None:
        """Take local steps at these positions (default all), in place.

        Batches come from the streams of the round, or of ``draw`` where a node works more than
        once a round.
        """

    def asked_examples(self, sizes: np.ndarray) -> np.ndarray:
        """Examples of a round without a budget, int64 [k], for nodes with ``sizes`` [k] of them."""

    def planned(
        self,
        ids: np.ndarray,
        sizes: np.ndarray,
        streams: Streams,
        round: int,
        pace: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """(steps, examples) int64 [k] that nodes with ``sizes`` examples would do in a round."""

    def learning_rate(self, round: int) -> float:
        """The learning rate of a round."""

    def chunks(self, who: np.ndarray) -> list[np.ndarray]:
        """Positions cut into adjacent pieces that are worked on at a time."""

    def submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        """Have one of the threads do something soon."""

    def losses(
        self,
        rows: Tensor,
        which: np.ndarray,
        parts: Sequence[np.ndarray],
        batch_size: int,
        own: Mapping[str, Tensor] | None = None,
    ) -> np.ndarray:
        """Mean loss of row ``which[i]`` on the training examples ``parts[i]``, float64 [m]."""

    def evaluate(
        self,
        rows: Tensor,
        split: Split,
        batch_size: int,
        own: Mapping[str, Tensor] | None = None,
    ) -> dict[str, np.ndarray]:
        """Every figure of each row, float64 [k], with its ``own`` integer buffers if given."""

    def evaluate_parts(
        self,
        rows: Tensor,
        which: np.ndarray,
        parts: Sequence[np.ndarray],
        batch_size: int,
        own: Mapping[str, Tensor] | None = None,
    ) -> dict[str, np.ndarray]:
        """Every figure of row ``which[i]`` on the training examples ``parts[i]``, float64 [m]."""

    def close(self) -> None:
        """Free what it holds."""


@dataclass
class Block:
    """The nodes of one worker. All per-node things are in the order of ``ids``.

    Among peers every node keeps a model. Where there are servers only they do: clients get a row
    while they work (:meth:`visit`) and cost no memory between rounds.

    Attributes:
        ids: int64 [n], the nodes' names in the run, ascending.
        residents: int64 [r], positions of the nodes that keep a model between rounds, ascending.
        rows: float32 [r, D], the models of the residents in the layout of
            :class:`ParameterLayout`.
        parts: the nodes' training examples, one index array each; none for servers.
        streams: named random streams of the run.
        network: topology and mixing weights.
        trainer: local work.
        state: named per-node state, tensors [n, ...]; saved in checkpoints. An algorithm adds
            its own under a prefix. The engine keeps the counters there, cumulative: local steps,
            examples, rounds with training, messages and bytes sent and received, and the
            modelled time (of training, of transfers, and in all) and energy (of training, of the
            radio, and their sum).
        kept: named state of the residents, tensors [r, ...]; saved in checkpoints.
        shelves: named rows of those nodes that have one; saved in checkpoints.
        held: examples that nodes keep back to validate models, one index array each.
        roster: what the nodes of the run told of themselves.
        report: this round's measurements by name, arrays [n]; NaN where a node has none. Of very
            many nodes it may be a :class:`~hansa.base.few.Few`, of which ``np.asarray`` makes one.
            An algorithm may add its own, or those of some nodes by :meth:`note`: they become
            metrics, by node when models are measured.
        log: as ``report``, but recorded by node in every round, and of any nodes of the run, arrays
            [nodes]: a server says what it knows of its clients.
        events: what happened in this round that a reader of the run should know.
        clock: the run's clock, for algorithms whose nodes keep to their own time.
        awake: who may train in this round, bool [n]; None: all. The others keep their models
            in :meth:`train` and take part in everything else.
        effort: an example's compute in each node's model as a share of that in the whole one, [n],
            for algorithms whose nodes train parts of it; None: all of it.
        facts: what can be computed anew at any time, so that it is not saved.
        workers: how many workers the nodes of the run are split over.
        outcome: what the run has come to, once it has ended.
        store: the nodes' examples where they may grow (:meth:`open_store`), else None.
        mail: what was sent to its nodes and not taken yet, for algorithms without rounds.
        tables: what was worked out for exactly these nodes and can be worked out anew.
        links: what is under way on links from nodes of the block, by (sender, receiver): the state
            of a :class:`~hansa.engine.links.link_filter.Filter`, where a run file shapes links and
            time is modelled; saved in checkpoints.
        before: local steps that nodes had taken before this block came to be, int64 [n]: of a crew
            those in its clients' block.
        privacy: what protects examples or nodes, if anything does.
        past: what nodes of the block were, by (rounds done, node), that will become it again (see
            :mod:`hansa.engine.past`); saved in checkpoints.
    """

    ids: np.ndarray
    rows: Tensor
    parts: Sequence[np.ndarray]
    streams: Streams
    network: Network
    trainer: LocalWork
    residents: np.ndarray
    roster: Roster
    held: Sequence[np.ndarray] = ()
    state: dict[str, Tensor] = field(default_factory=dict)
    kept: dict[str, Tensor] = field(default_factory=dict)
    shelves: dict[str, Shelf] = field(default_factory=dict)
    report: dict[str, Figures] = field(default_factory=dict)
    log: dict[str, Figures] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    clock: Clock | None = None
    awake: np.ndarray | None = None
    effort: np.ndarray | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    outcome: Outcome | None = None
    numbers: np.ndarray | None = None
    store: Store | None = None
    mail: list[Letter] = field(default_factory=list)
    tables: dict[str, Any] = field(default_factory=dict)
    links: dict[tuple[int, int], LinkState] = field(default_factory=dict)
    past: dict[tuple[int, int], dict[str, Tensor]] = field(default_factory=dict)
    before: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    privacy: Privacy | None = None

    @classmethod
    def start(
        cls,
        ids: np.ndarray,
        initial: Tensor,
        parts: Sequence[np.ndarray],
        streams: Streams,
        network: Network,
        trainer: LocalWork,
        roster: Roster,
        held: Sequence[np.ndarray] = (),
    ) -> Block:
        """A block before the first round: every resident at the same initial model [D].

        Args:
            parts: examples of each client of the run.
            held: what each client keeps back, or nothing.
        """
        ids = np.asarray(ids, dtype=np.int64)
        servers = ids >= network.clients
        residents = np.flatnonzero(servers) if network.servers else np.arange(len(ids))
        block = cls(
            ids=ids,
            rows=initial.to(trainer.device).repeat(len(residents), 1),
            parts=OfNodes(parts, ids, network.clients),
            streams=streams,
            network=network,
            trainer=trainer,
            residents=residents,
            roster=roster,
            held=OfNodes(held, ids, network.clients),
        )
        block._reset()
        return block

    def _reset(self) -> None:
        """State as it is before anything was done."""
        n = len(self)
        if len(self.before) != n:
            self.before = many.zeros(n, np.int64)
        for name in COUNTERS:
            self.state[name] = many.counter(n)
        for name in MODELLED:
            self.state[name] = many.counter(n, np.float64)
        buffers = dict(self.trainer.module.named_buffers())
        for entry in self.trainer.layout.integer_buffers:
            value = buffers[entry.name]
            self.state[f"buffer.{entry.name}"] = value.repeat(n, *[1] * value.ndim).clone()

    def visit(self, who: np.ndarray, rows: Tensor) -> Block:
        """A block of its own for the nodes at ``who``, at the models ``rows`` [k, D].

        It starts without state: an optimizer's begins anew. What was done in it is put back
        with :meth:`settle`.
        """
        crew = replace(
            self,
            ids=self.ids[who],
            rows=rows,
            parts=self.parts_of(who),
            held=[self.held[i] for i in who],
            residents=np.arange(len(who)),
            state={},
            kept={},
            report={},
            log={},
            awake=None if self.awake is None else self.awake[who],
            effort=None if self.effort is None else self.effort[who],
            before=self.before[who] + self.state["steps"].numpy()[who],
            tables={},
        )
        crew._reset()
        return crew

    def open_store(
        self,
        unique: Sequence[int] | bool | None = None,
        capacity: int | None = None,
        when_full: WhenFull = "refuse",
        notes: Mapping[str, np.generic] | None = None,
    ) -> Store:
        """Let the nodes' examples grow, from now on; for :meth:`Algorithm.start`.

        What a node gathers counts among its own examples: it is in ``parts``, local steps draw
        from it and checkpoints hold it. ``roster`` says what was told at joining.

        Args: as those of :class:`Store`.
        """
        self.parts = [*self.parts]
        self.store = Store(
            self.ids,
            self.parts,
            self.trainer.dataset,
            self.streams,
            unique,
            capacity,
            when_full,
            notes,
        )
        self.trainer.dataset = self.store.dataset
        return self.store

    def parts_of(self, who: np.ndarray) -> Sequence[np.ndarray]:
        """The examples of the nodes at ``who``, for a block of their own; they grow with these."""
        if self.store is None:
            return [self.parts[i] for i in who]
        return self.store.parts(self.ids[who])

    def models(self) -> tuple[np.ndarray, Tensor]:
        """(positions [k], rows [k, D]) of what the run has come to; before: the residents'."""
        end = self.outcome or Outcome()
        at = self.residents if end.ids is None else self.positions(end.ids)
        return at, self.rows if end.rows is None else end.rows

    def aside(self, state: dict[str, Tensor]) -> Block:
        """The same nodes with other per-node state, to try something."""
        return replace(self, state=state)

    def settle(self, crew: Block) -> None:
        """Count what a visiting block did, and take over its report."""
        who = self.positions(crew.ids)
        for name in ("steps", "samples"):
            self.state[name][who] += crew.state[name]
        for name, values in crew.report.items():
            self.note(name, who, values)

    def note(self, name: str, at: Any, values: Any) -> None:
        """Put figures of the nodes at some positions into this round's report."""
        if name not in self.report:
            self.report[name] = few.nobody(len(self))
        self.report[name][at] = values

    def integers(self, at: np.ndarray) -> dict[str, Tensor]:
        """The integer buffers of the nodes at these positions, by their name in the state."""
        index = torch.from_numpy(at)
        named = (f"buffer.{entry.name}" for entry in self.trainer.layout.integer_buffers)
        return {name: self.state[name][index] for name in named}

    @property
    def sizes(self) -> np.ndarray:
        """int64 [nodes of the run]: how many training examples each has told that it has.

        Raises:
            NotTold: the algorithm did not ask for it.
        """
        return self.roster.sizes

    @property
    def own_sizes(self) -> np.ndarray:
        """int64 [n]: how many training examples the block's nodes have, whoever is told."""
        return sizes_of(self.parts)

    @property
    def clients(self) -> int:
        """How many nodes of the run have data; the ids from there on are servers."""
        return self.network.clients

    @property
    def nodes(self) -> int:
        """How many nodes the whole run has."""
        return self.network.nodes

    @property
    def rounds(self) -> int:
        """How many rounds the whole run has."""
        return self.trainer.rounds

    @property
    def whole(self) -> bool:
        """Whether these are all nodes of the run: whoever has the block sees everything."""
        return len(self.ids) == self.nodes

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: np.ndarray) -> np.ndarray:
        """Where these nodes of the run stand in the block; those not in it are left out."""
        if self.whole:
            return np.array(ids, dtype=np.int64)
        at = np.searchsorted(self.ids, ids)
        inside = at < len(self.ids)
        inside[inside] = self.ids[at[inside]] == np.asarray(ids)[inside]
        found: np.ndarray = at[inside]
        return found

    def train(
        self,
        round: int,
        who: np.ndarray | None = None,
        steps: int | np.ndarray | None = None,
        draw: int | None = None,
        correct: Correction | None = None,
    ) -> None:
        """Local work of the nodes that are present and awake (see :meth:`LocalWork.train`)."""
        able = self.able(round)
        if not able.all():
            who = np.flatnonzero(able) if who is None else np.asarray(who)[able[who]]
        self.trainer.train(self, round, who, steps, draw, correct)

    @property
    def presence(self) -> Presence:
        """Who is there in the run, by round and by time."""
        return Presence(self.network, self.clock)

    def present(self, round: int) -> np.ndarray:
        """bool [n]: which of the block's nodes take part in a round; the others do not train."""
        return self.presence.at(round)[self.ids]

    def able(self, round: int) -> np.ndarray:
        """bool [n]: which of the block's nodes are present in a round and may train in it."""
        present = self.present(round)
        return present if self.awake is None else present & self.awake

    def graph(self, round: int) -> Graph:
        """The topology's graph in a round, over all nodes of the run."""
        return self.network.graph(round)

    def mixing(self, graph: Graph, rule: WeightRule) -> MixingMatrix:
        """Mixing weights on a graph, over all nodes of the run."""
        return self.network.mixing(graph, rule)
