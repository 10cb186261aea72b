"""A job of the engine from start to end, in a folder of its own, and the models it came to.

Verbs that train on the way to something else play such jobs: one-shot ensembles and robust
inference let every client train alone first (:class:`Alone`).
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.data import Dataset
from hansa.engine import (
    Algorithm,
    Block,
    CheckpointSettings,
    EvaluateSettings,
    Inbox,
    Job,
    Network,
    Runtime,
    Simulate,
    TrainSettings,
    WallClock,
    WorkerRuntime,
    latest,
    read_manifest,
)
from hansa.engine.exchange.attackers import Attackers
from hansa.engine.runtimes.checkpoint import load_block, peek
from hansa.engine.training.gradients import has_convolution, supports_stacking
from hansa.experiment.hosting import hosted
from hansa.experiment.jobs import collect, host_job
from hansa.metrics import Metric, usual
from hansa.models import Model, initial_model
from hansa.report import RunFolder
from hansa.report.folder import plain
from hansa.report.marks import marks_of
from hansa.topology import Regular, Topology

if TYPE_CHECKING:
    from torch import Tensor, nn


class Alone(Algorithm):
    """Local steps and no exchange, each node from numbers of its own."""

    uses_topology: ClassVar[bool] = False
    model: Model
    same_init: bool = False

    def start(self, block: Block) -> None:
        if self.same_init:
            return
        spec, layout = block.trainer.dataset.spec, block.trainer.layout
        for row, node in enumerate(block.ids):
            own = Streams(block.streams.own.integer("initial model", int(node)))
            block.rows[row] = layout.flatten(initial_model(self.model, spec, own))

    def outgoing(self, block: Block, t: int) -> None:
        return None

    def incoming(self, block: Block, inbox: Inbox, t: int) -> None:
        """Never called: nothing is sent."""


@dataclass(frozen=True)
class Place:
    """Where the nodes of such jobs live.

    Attributes:
        runtime: of every run of the engine; a run of one node is always here.
        plugins: modules or files that workers load first.
    """

    runtime: Runtime = field(default_factory=Simulate)
    plugins: tuple[str, ...] = ()

    def runtime_for(self, nodes: int) -> Runtime:
        """The runtime of a run of so many nodes, with at most a worker for each."""
        if not isinstance(self.runtime, WorkerRuntime):
            return self.runtime
        workers = min(self.runtime.workers, nodes)
        return self.runtime.model_copy(update={"workers": workers}) if workers > 1 else Simulate()


HERE = Place()


@dataclass(frozen=True)
class Played:
    """What a run came to.

    Attributes:
        rows: [k, D], the models at its end.
        module: their form.
        bytes_sent: by all nodes.
        curve: (round, accuracy) on the test set where it was measured, the mean over models.
        rounds: how many there were.
        figures: by round, what the metrics that were asked for say, the mean over models.
        accuracies: of each measured model at the end, by ascending node.
    """

    rows: Tensor
    module: nn.Module
    bytes_sent: int
    curve: list[tuple[int, float]]
    rounds: int
    figures: dict[int, dict[str, float]] = field(default_factory=dict)
    accuracies: tuple[float, ...] = ()


def play(
    path: Path,
    job: Job,
    *,
    config: Mapping[str, Any] | None = None,
    place: Place = HERE,
    figures: Sequence[str] = (),
    verb: str = "combine",
) -> Played:
    """Run one job of :func:`job_of`.

    An interrupted run of the same job under ``path`` goes on; what another left is thrown away.

    Args:
        config: what tells the job from others, beside its seed, nodes and rounds.
        place: where the nodes live; those of a job without a form are here.
        figures: names of what is measured and shall be told by round.
        verb: on whose way the job is played.

    Raises:
        ConfigError: checkpoints would be sealed.
        RunError: something failed on the way.
    """
    if getattr(getattr(place.runtime, "channel", None), "seal", False):
        problem = "leaves nothing that models can be read from, and they are needed here"
        raise ConfigError("runtime.channel.seal", True, problem, "seal: false")
    nodes, rounds = len(job.parts), job.rounds
    settings = {"seed": job.streams.seed, "nodes": nodes, "rounds": rounds, **(config or {})}
    folder, checkpoint = _folder(path, settings, marks_of(place))
    runtime = Simulate() if job.form is None else place.runtime_for(job.nodes)
    with hosted(folder, verb, report=False) as hosting:
        collector = collect(job, folder, checkpoint)
        hosting.facts = lambda: {
            "rounds": collector.rounds_done,
            "nodes": nodes,
            "bytes_sent": collector.bytes_sent,
        }
        if collector.rounds_done < rounds and not (checkpoint and peek(checkpoint).get("stopped")):
            host_job(job, runtime, collector, checkpoint)
    saved = latest(path / "checkpoints")
    assert saved is not None  # the run ended, so it saved
    block = job.block(np.arange(job.nodes))
    load_block(block, saved, read_manifest(saved))
    rows = block.models()[1]
    asked = _figures(folder, figures) if figures else {}
    curve, done = _curve(folder), collector.rounds_done
    alone = _accuracies(folder, done)
    return Played(rows, job.module, collector.bytes_sent, curve, done, asked, alone)


def job_of(
    *,
    dataset: Dataset,
    parts: Sequence[np.ndarray],
    module: nn.Module,
    algorithm: Algorithm,
    train: TrainSettings,
    rounds: int,
    seed: int,
    every: int,
    topology: Topology | None = None,
    device: str = "cpu",
    plugins: Sequence[str] = (),
    form: Model | None = None,
    held: Sequence[np.ndarray] = (),
    metrics: Sequence[Metric] = (),
    attackers: Attackers | None = None,
) -> Job:
    """A job whose nodes are the parts, and servers come after them.

    Args:
        form: what the module is built from; without it the nodes are here.
        held: examples of each node that models are validated on; with them the nodes are here.
        metrics: are measured besides the usual ones.
        attackers: the nodes that send something else than they should.
        plugins: modules or files that workers load first.

    Raises:
        ConfigError: the algorithm or the topology does not fit.
    """
    nodes, streams = len(parts), Streams(seed)
    servers = algorithm.servers(nodes)
    topology = topology or Regular(degree=1)
    if algorithm.uses_topology:
        try:
            topology.check(nodes)
        except ConfigError as error:
            raise error.under("topology") from None
    network = Network(topology, nodes + servers, streams, servers)
    algorithm.check(network)
    return Job(
        rounds=rounds,
        streams=streams,
        dataset=dataset,
        parts=parts,
        module=module,
        network=network,
        algorithm=algorithm,
        clock=WallClock(),
        train=train,
        evaluate=EvaluateSettings(
            every=every,
            dense_start=False,
            average_model=False,
            metrics=_with_usual(metrics, dataset),
        ),
        checkpoint=CheckpointSettings(every=rounds, keep=1),
        strategy=_strategy(train, module, device),
        device=device,
        held=held,
        form=form,
        plugins=tuple(plugins),
        attackers=attackers,
    )


def round_bytes(job: Job) -> int:
    """Bytes that all nodes of a job send in its first round, tried in one block."""
    block, exchange = job.block(np.arange(job.nodes)), job.exchange()
    script, came, phase = job.algorithm.round(block, 0), None, 0
    with contextlib.closing(block.trainer):
        while True:
            try:
                asked = script.send(came)
            except StopIteration:
                return int(block.state["bytes_sent"].sum())
            came = exchange(block, asked, 0, phase)
            phase += asked.turn is None


def _folder(
    path: Path, settings: dict[str, Any], marks: Mapping[str, Any]
) -> tuple[RunFolder, Path | None]:
    """A run's folder and the checkpoint that it goes on from, if it was interrupted."""
    if (path / "config.yaml").exists():
        folder = RunFolder.open(path)
        checkpoint = latest(path / "checkpoints")
        if folder.config == plain(settings) and checkpoint and folder.find_damage() is None:
            folder.withdraw()
            folder.truncate(int(read_manifest(checkpoint)["round"]))
            return folder, checkpoint
    if (path / "environment.json").exists():  # the first file of a run's folder
        shutil.rmtree(path)
    return RunFolder.create(path, settings, marks), None


def _curve(folder: RunFolder) -> list[tuple[int, float]]:
    import polars

    accuracies = folder.metrics().filter(
        (polars.col("name") == "accuracy") & polars.col("node").is_not_null()
    )
    means = accuracies.group_by("round").agg(polars.col("value").mean()).sort("round")
    return list(zip(means["round"].to_list(), means["value"].to_list(), strict=True))


def _accuracies(folder: RunFolder, done: int) -> tuple[float, ...]:
    """Accuracy on the test set after ``done`` rounds, by ascending node."""
    import polars

    last = (polars.col("round") == done) & polars.col("node").is_not_null()
    accuracies = folder.metrics().filter((polars.col("name") == "accuracy") & last).sort("node")
    return tuple(accuracies["value"].to_list())


def _with_usual(metrics: Sequence[Metric], dataset: Dataset) -> tuple[Metric, ...]:
    """None where nothing is asked for; else these and, before them, the usual ones."""
    asked = {metric.figure for metric in metrics}
    first = [metric for metric in usual(dataset.spec) if metric.figure not in asked]
    return (*first, *metrics) if metrics else ()


def _figures(folder: RunFolder, names: Sequence[str]) -> dict[int, dict[str, float]]:
    import polars

    wanted = polars.col("name").is_in(list(names)) & polars.col("node").is_not_null()
    rows = folder.metrics().filter(wanted).group_by("round", "name").agg(polars.col("value").mean())
    by_round: dict[int, dict[str, float]] = {}
    for done, name, value in rows.rows():
        by_round.setdefault(done, {})[name] = value
    return by_round


def _strategy(train: TrainSettings, module: nn.Module, device: str) -> Literal["looped", "stacked"]:
    """The strategy asked for; else by model and device, so that a file repeats to the bit."""
    if train.strategy != "auto":
        return train.strategy
    if not supports_stacking(module) or (device == "cpu" and has_convolution(module)):
        return "looped"
    return "stacked"
