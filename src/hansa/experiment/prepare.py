"""From a run file to a job: everything is built and checked before any node starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, HansaError, OwnCodeError
from hansa.base.lazy import torch
from hansa.base.memory import give_back
from hansa.base.modules import import_path
from hansa.base.own_code import in_own_code
from hansa.base.paths import short
from hansa.base.streams import Streams
from hansa.base.telling import doing
from hansa.data import Dataset, plant
from hansa.data.dealing.deal import ByClient, listed, sizes_of
from hansa.engine import Algorithm, Asynchronous, BySite, Job, Network, Simulate
from hansa.engine.exchange.attackers import Attackers
from hansa.engine.exchange.faults import Faults
from hansa.engine.roster import TELLING
from hansa.engine.runtimes.crashes import check_crashes
from hansa.engine.runtimes.runtime import owners, split_nodes
from hansa.experiment.ending import check_until
from hansa.experiment.inputs import plugins_of
from hansa.experiment.protection import check_model, check_privacy
from hansa.experiment.replays import check_replay
from hansa.experiment.runfile import RunFile
from hansa.metrics import MetricSet
from hansa.models import Model, Module, ParameterLayout, initial_model
from hansa.topology.timetable import Timetable


@dataclass(frozen=True)
class Frame:
    """A run before anybody looks at examples: what was checked and built of its settings."""

    run: RunFile
    streams: Streams
    network: Network
    attackers: Attackers | None


def prepare(run: RunFile, place: bool = True) -> Job:
    """Load the data, build the model, deal the examples, and check that all of it can work.

    Args:
        place: whether the runtime is checked too: it starts from here.

    Raises:
        ConfigError: a setting that cannot work, with its dotted name and the way out.
        DataError: the data are missing or damaged.
    """
    nodes, method = run.nodes, run.algorithm
    servers = within("algorithm", lambda: method.servers(nodes), nodes, method)
    if place:
        within("runtime", lambda: run.runtime.check(nodes + servers), nodes)
    for sink in run.sinks:
        within("sinks", sink.check, nodes, sink)
    frame = framed(run)
    if place:
        within("runtime", run.runtime.reach, nodes)
    streams = frame.streams
    doing(f"loading {short(type(run.data).name)}")
    dataset = within("data", lambda: run.data.load(streams), nodes, run.data)
    give_back()  # what decoding has freed
    dealt = within("data", lambda: run.data.divide(dataset, nodes, streams), nodes, run.data)
    dataset, parts, held = run.hold_back(dataset, ByClient(dealt), streams)
    check_parts(parts, run)
    dataset = within(
        "data", lambda: plant(dataset, listed(parts), run.data.markers, streams), nodes
    )
    ends = np.array([0, frame.network.nodes - 1]) if servers else np.array([0])
    job = completed(frame, dataset, listed(parts), list(held.values()))
    try_job(job, ends, here=isinstance(run.runtime, Simulate))
    return job


def framed(run: RunFile) -> Frame:
    """The settings checked as far as they go without examples, and without the runtime's own.

    Raises:
        ConfigError: a setting that cannot work.
    """
    nodes = run.nodes
    method = run.algorithm
    servers = within("algorithm", lambda: method.servers(nodes), nodes, method)
    if run.algorithm.uses_topology:
        within("topology", lambda: run.topology.check(nodes), nodes, run.topology)
    within("model", run.model.check, nodes, run.model)
    _check_pace(run)
    check_privacy(run)
    check_until(run)
    _check_servers(run, servers)
    streams = Streams(run.seed)
    away = _check_faults(run, servers)
    _check_links(run, servers)
    network = Network(run.topology, nodes + servers, streams, servers, away)
    if run.algorithm.uses_topology:
        within("topology", lambda: network.graph(0), nodes, run.topology)
    _check_declared(method)
    within("algorithm", lambda: method.check(network), nodes, method)
    _check_weights(run, network)
    attackers = _attackers(run, streams)
    check_device(run.device)  # imports torch: what can be told without it has been
    return Frame(run, streams, network, attackers)


def completed(
    frame: Frame,
    dataset: Dataset,
    parts: Sequence[np.ndarray],
    held: Sequence[np.ndarray],
) -> Job:
    """The job of a run with its examples, or with those of one party.

    Raises:
        ConfigError: a setting that does not fit the examples.
    """
    run, streams, nodes = frame.run, frame.streams, frame.run.nodes
    within("train", lambda: run.train.check_augment(dataset.spec), nodes)
    within("evaluate", lambda: run.evaluate.check_metrics(dataset.spec), nodes)
    form = run.model
    module = within("model", lambda: initial_model(form, dataset.spec, streams), nodes, form)
    if run.privacy is not None:
        within("model", lambda: check_model(run, module), nodes)
    if run.until is not None and run.until.watches:
        until, metrics = run.until, MetricSet(run.evaluate.metrics, dataset.spec)
        within("until", lambda: until.figure(metrics, run.evaluate, dataset), nodes)
    strategy = run.train.strategy
    return Job(
        rounds=run.rounds,
        streams=streams,
        dataset=dataset.to(torch.device(run.device)),
        parts=parts,
        module=module,
        network=frame.network,
        algorithm=run.algorithm,
        clock=run.clock,
        train=run.train,
        evaluate=run.evaluate,
        checkpoint=run.checkpoint,
        held=held,
        strategy="looped" if strategy == "auto" else strategy,
        device=run.device,
        attackers=frame.attackers,
        form=form,
        plugins=tuple(sorted({*run.plugins} | plugins_of(run))),
        faults=run.faults,
        shaping=run.network,
        privacy=run.privacy,
        until=run.until,
        agrees=not isinstance(run.runtime, BySite),
    )


def try_job(job: Job, ends: np.ndarray, here: bool = True) -> None:
    """What fits no model or no clock shows when a node starts: better before anything does.

    Args:
        ends: ids of some of the nodes, which start.
        here: all nodes live in this process.

    Raises:
        ConfigError: naming the setting.
    """
    nodes, clock, form = job.network.clients, job.clock, job.form
    sizes = job.own_sizes
    samples = job.train.asked_examples(sizes)
    size = ParameterLayout.of(job.module).passed
    if len(sizes) < nodes:  # nobody knows of the others
        samples = samples.max(initial=0)
    within("clock", lambda: clock.check(nodes, size, samples), nodes)
    within("clock", lambda: clock.check_place(here), nodes)
    doing("trying the model")
    assert form is not None
    within("model", lambda: _try_out(job, form), nodes, form)
    within("algorithm", lambda: job.block(ends).trainer.close(), nodes, job.algorithm)


def _try_out(job: Job, form: Model) -> None:
    """Try the model; its errors name it as the run file does."""
    try:
        job.tried  # noqa: B018 - kept with the job
    except ConfigError as error:
        name = form.path if isinstance(form, Module) else form.name
        raise ConfigError("", name, error.problem, error.fix) from error


_BESIDE = ("clock", "data", "evaluate", "model", "train")
"""Parts of a run beside the algorithm, of which an algorithm may say that they do not fit."""


def within(parent, work, nodes, part=None):  # type: ignore[no-untyped-def]
    """Run a part's own check; its error names the field as the run file does.

    Args:
        part: the component, whose errors are its maker's if that is not hansa.
    """
    try:
        return work()
    except ConfigError as error:
        if error.field == "nodes":
            raise
        first = error.field.partition(".")[0]
        own = first in (parent, "privacy") or (parent == "algorithm" and first in _BESIDE)
        named = error if own else error.under(parent)
        if not error.field and error.value is None:
            named = ConfigError(parent, None, f"with {nodes} nodes: {error.problem}", error.fix)
        raise named from None
    except HansaError:
        raise
    except Exception as error:
        article = "an" if parent[0] in "aeiou" else "a"
        expected = f"what {article} {parent} has to give is in docs/tutorials/your_own_algorithm.md"
        own = in_own_code(error, parent, expected, part)
        if own is None:
            raise
        raise own from error


def _check_pace(run: RunFile) -> None:
    """Absences and nodes at their own pace need an algorithm, a clock and a runtime that fit."""
    name = run.algorithm.name
    if run.topology.absences and not run.algorithm.uses_topology:
        served = run.algorithm.servers(run.nodes) > 0
        raise ConfigError(
            "topology",
            run.topology.name,
            f"lets nodes leave, but {name} does not use the topology",
            f"{'faults.absent: {3: [[10, 20]]}' if served else 'a topology without absences'}, or "
            "an algorithm such as dpsgd",
        )
    if run.algorithm.needs_time and not run.clock.modelled:
        raise ConfigError(
            "clock",
            run.clock.name,
            f"{name} decides by modelled time, and this clock has none",
            "clock: phones, modelled or devices",
        )
    check_replay(run)
    colluding = run.attack is not None and run.attack.colluding
    waits = run.faults is not None and run.faults.on_missing in ("wait", "abort")
    on_crash = getattr(run.runtime, "on_crash", "stop")
    within("runtime", lambda: check_crashes(on_crash, run.algorithm, colluding, waits), run.nodes)
    if run.algorithm.own_pace and colluding and not isinstance(run.runtime, Simulate):
        raise ConfigError(
            "attack",
            run.attack.name if run.attack else None,
            f"agrees before every exchange, and in {name} nobody keeps step with others",
            "an attack that does not collude, or runtime: simulate",
        )


def _check_declared(method: Algorithm) -> None:
    """What an algorithm declares has to be something that there is."""

    def refuse(name: str, fix: str) -> OwnCodeError:
        problem = f"its {name} is {getattr(method, name)!r}"
        return OwnCodeError("algorithm", import_path(type(method)), problem, fix)

    told = method.must_tell
    if not isinstance(told, set | frozenset) or not told <= TELLING.keys():
        raise refuse("must_tell", f"a frozenset of some of {', '.join(map(repr, TELLING))}")
    if isinstance(method, Asynchronous):
        if not isinstance(method.kinds, tuple):
            raise refuse("kinds", "a tuple of the kinds of its messages")
        if not isinstance(method.hears, tuple) or not {*method.hears} <= {*method.kinds}:
            raise refuse("hears", f"a tuple of some of its kinds, {method.kinds}")


def _check_faults(run: RunFile, servers: int) -> Timetable:
    """Faults that the algorithm can live with; returns who is away when."""
    faults, method = run.faults, run.algorithm
    if faults is None:
        return {}
    every = run.nodes + servers
    hubs = [hub for hub in method.hubs(run.nodes).tolist() if hub >= run.nodes]
    fixed = hubs if len(hubs) < servers else None
    within("faults", lambda: faults.check(every, run.nodes, fixed), run.nodes)
    leave = "absent" if faults.absent else "crash"
    if faults.away and not method.uses_topology and not servers:
        problem = f"lets nodes leave, but {method.name} does not use the topology"
        fix = f"nobody {leave}, or an algorithm such as dpsgd"
        raise ConfigError(f"faults.{leave}", None, problem, fix)
    _check_mishaps(run, faults, servers)
    field = "faults.loss" if faults.loss else "faults.lost" if faults.lost else "faults.partition"
    value: Any = faults.loss or [list(one) for one in faults.lost[:1]] or None
    if faults.lossy and method.own_pace:
        problem = f"{method.name} has no rounds in which a message could be missing"
        raise ConfigError(field, value, problem, "no loss, or dpsgd or fedavg")
    if faults.lossy and not method.tolerates_loss and faults.on_missing not in ("wait", "abort"):
        raise ConfigError(
            field,
            value,
            f"{method.name} cannot do without a message: it {method.loss_breaks}",
            "faults.on_missing: wait, so that it is sent again, or an algorithm such as dpsgd",
        )
    return faults.away


def _check_mishaps(run: RunFile, faults: Faults, servers: int) -> None:
    """What needs rounds, a clock that models time, or a message that can be done without."""
    method = run.algorithm
    if method.own_pace and (faults.crash or faults.pause):
        field = "faults.crash" if faults.crash else "faults.pause"
        problem = f"is said by rounds, and {method.name} has none"
        raise ConfigError(field, None, problem, "faults.slow, or an algorithm such as dpsgd")
    if faults.slow:
        within("faults", lambda: run.clock.slowed(faults.slow), run.nodes)
    if faults.pause and not run.clock.modelled:
        problem = f"takes modelled time, and clock: {run.clock.name} has none"
        raise ConfigError("faults.pause", None, problem, "clock: modelled, phones or devices")
    held = [pause.node for pause in faults.pause if servers and pause.node < run.nodes]
    if held:
        problem = f"node {held[0]} has no time of its own between rounds: it takes its server's"
        fix = f"faults.slow: {{{held[0]}: 4.0}}, or pause a server, a number from {run.nodes} on"
        raise ConfigError("faults.pause", None, problem, fix)
    waits = faults.on_missing == "wait" or not method.tolerates_loss
    if faults.partition and waits and faults.on_missing != "abort" and not method.own_pace:
        problem = f"parts nodes for whole rounds, and {method.name} waits for what is lost"
        fix = "an algorithm such as dpsgd"
        if method.tolerates_loss:
            problem = "parts nodes for whole rounds: what is sent again does not get through"
            fix = "faults.on_missing: self, renormalise or skip"
        raise ConfigError("faults.partition", None, problem, fix)


def _check_links(run: RunFile, servers: int) -> None:
    """What is said of links has to be of nodes that there are, each at a worker of its own."""
    shaping, every = run.network, run.nodes + servers
    if shaping is None:
        return
    within("network", lambda: shaping.check(every), run.nodes)
    if (workers := getattr(run.runtime, "workers", None)) is not None:
        owner = owners(split_nodes(every, workers, servers))
        within("network", lambda: shaping.check_sites(owner), run.nodes)


def _attackers(run: RunFile, streams: Streams) -> Attackers | None:
    """Who attacks, if anybody does and can."""
    attack, method = run.attack, run.algorithm
    if attack is None:
        return None
    if method.unattackable:
        problem = f"can do nothing: {method.name} {method.unattackable}"
        raise ConfigError("attack", attack.name, problem, method.attackable)
    try:
        return Attackers(attack, attack.attackers(run.nodes, streams))
    except ConfigError as error:
        raise error.under("attack") from None


def _check_weights(run: RunFile, network: Network) -> None:
    """Weights of a graph need an algorithm that mixes by weights."""
    if not run.algorithm.uses_topology or run.algorithm.mixing_rule is not None:
        return
    if network.graph(0).weights is not None:
        raise ConfigError(
            "topology.edge_weights",
            None,
            f"the edges have weights, and {run.algorithm.name} does not mix by weights",
            "edge_weights: ignore, or an algorithm such as dpsgd",
        )


def _check_servers(run: RunFile, servers: int) -> None:
    """What only makes sense among peers, or only with a clock."""
    if servers and run.evaluate.when == "after_training":
        raise ConfigError(
            "evaluate.when",
            run.evaluate.when,
            "the models measured are the servers', who do not train",
            "after_exchange",
        )
    if run.train.budget.timed and not run.clock.modelled:
        raise ConfigError(
            "train.budget",
            run.train.budget.name,
            f"is counted in modelled time, and clock: {run.clock.name} has none",
            "clock: devices, or another budget",
        )


def check_parts(parts: Mapping[int, np.ndarray], run: RunFile) -> None:
    """Refuse examples, by client, that a client cannot train on.

    Raises:
        ConfigError: a client has none, or too few for a batch.
    """
    batch_size = run.train.batch_size
    sizes = sizes_of(listed(parts))
    if (sizes == 0).any():
        empty = np.flatnonzero(sizes == 0)
        raise ConfigError(
            "data.partition",
            None,
            f"leaves {len(empty)} nodes without data, node {list(parts)[empty[0]]} first",
            "use fewer nodes, or a partition with a minimum size",
        )
    smallest = int(sizes.argmin())
    if sizes[smallest] < batch_size and run.train.drop_last:
        raise ConfigError(
            "train.batch_size",
            batch_size,
            f"node {list(parts)[smallest]} has only {sizes[smallest]} training examples",
            f"at most {sizes[smallest]}, or smaller batches where there are too few examples "
            "(train.drop_last: false), or fewer nodes, or a more even data.partition",
        )


def check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError("device", name, "is not a torch device", "cpu, cuda or cuda:1") from None
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if not torch.cuda.is_available() or (device.index or 0) >= count:
            raise ConfigError("device", name, f"there are {count} CUDA devices here", "cpu")
    elif device.type != "cpu":
        raise ConfigError("device", name, "is not supported", "cpu or cuda")
