"""What is allowed and yet seldom meant: said by ``hansa check``, after the run and on its page."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import BaseModel

from hansa.data import Dataset, DataSource, Iid
from hansa.engine import Job
from hansa.engine.exchange.faults import Faults
from hansa.engine.links.shaping import Shaping
from hansa.experiment.runfile import RunFile
from hansa.privacy.privacy import Privacy
from hansa.topology import Graph

_LARGE = 20.0
"""Of amounts: so large a root of the mean square is no unit that rates are made for."""


def remarks(chosen: RunFile, job: Job) -> list[str]:
    """Of the data as they were read, the graph as it is, and settings that nothing looks at."""
    lines = [*job.dataset.notes, *of_amounts(job.dataset, chosen.data)]
    if job.algorithm.uses_topology:
        lines += chosen.topology.remarks(job.nodes)
        if not job.network.changing:
            lines += of_graph(job.network.graph(0))
    if job.attackers is not None:
        who = job.attackers.nodes.tolist()
        text = f"attack: {len(who)} of {chosen.nodes} nodes send what {job.attackers.attack.name} "
        text += f"makes of theirs: {', '.join(map(str, who[:20]))}{' ...' * (len(who) > 20)}"
        lines.append(text)
    if job.privacy is not None:
        lines += of_privacy(job.privacy, job.streams.private, job.algorithm.must_tell)
        if job.dataset.spec.amounts:
            lines.append("privacy: the labels' mean and spread (data.amounts) have no noise either")
    return lines + of_faults(job.faults, job.rounds) + of_links(job.shaping) + unused(chosen)


def of_amounts(data: Dataset, source: DataSource) -> list[str]:
    """Labels of a regression whose steps are likely too large."""
    spec = data.spec
    if spec.task != "regression" or spec.kind == "pairs" or spec.amounts or not len(data.train):
        return []
    size = float(data.train.targets.double().square().mean().sqrt())
    if size <= _LARGE:
        return []
    fix = "labels near 1 in their place"
    if hasattr(source, "amounts"):
        fix = "data.amounts: standard has networks learn by their mean and spread"
    return [
        f"labels are amounts of about {size:.3g}, whose steps are as much too large and may "
        f"diverge: {fix}"
    ]


def of_privacy(privacy: Privacy, secret: bool, told: frozenset[str]) -> list[str]:
    """What the guarantee takes for granted, and what it is not about."""
    lines = [
        "privacy: training losses, and figures of examples that clients hold back, are without "
        "noise: they are for their holders"
    ]
    if not secret:
        lines.append(
            "privacy: noise follows from the run's seed unless holders have secrets, so whoever "
            "knows the run file can take it away: right for research, wrong for strangers"
        )
    if "labels" in told:
        lines.append("privacy: how many examples of each class a client has is told without noise")
    if not privacy.noise and privacy.epsilon is None:
        lines.append("privacy: there is clipping and no noise, so epsilon is infinite")
    return lines


def of_faults(faults: Faults | None, rounds: int) -> list[str]:
    """What goes wrong on purpose."""
    if faults is None:
        return []
    said = f", on_missing: {faults.on_missing}" if faults.on_missing else ""
    lines = []
    if faults.loss:
        lines.append(f"faults: {100 * faults.loss:.3g} % of all messages are lost{said}")
    if faults.lost:
        lines.append(f"faults: messages lost by name: {len(faults.lost)}{said}")
    if faults.absent:
        lines.append(f"faults: away in some rounds: {_named(sorted(faults.absent))}")
    for partition in faults.partition:
        begins, until = partition.rounds
        span = f"from round {begins} on" if until is None else f"in rounds {begins} to {until - 1}"
        lines.append(f"faults: the network falls into {_groups(partition.groups)} {span}{said}")
    if faults.crash:
        nodes = sorted({node for crash in faults.crash for node in crash.nodes})
        lines.append(f"faults: crash and lose work: {_named(nodes)}")
    if faults.slow:
        lines.append(f"faults: slow in modelled time: {_named(sorted(faults.slow))}")
    if faults.pause:
        nodes = sorted({pause.node for pause in faults.pause})
        lines.append(f"faults: stand still for a while in modelled time: {_named(nodes)}")
    if late := faults.late(rounds):
        lines.append(f"faults: after the last of {rounds} rounds, and so never: {late}")
    return lines


def _named(nodes: list[int]) -> str:
    shown = ", ".join(map(str, nodes[:8])) + " ..." * (len(nodes) > 8)
    return f"node{'s' * (len(nodes) > 1)} {shown}"


def _groups(groups: tuple[tuple[int, ...], ...]) -> str:
    sizes = ", ".join(str(len(group)) for group in groups)
    return f"groups of {sizes} nodes, and the others,"


def of_links(shaping: Shaping | None) -> list[str]:
    """What links are like where that is said."""
    if shaping is None:
        return []
    lines = []
    if shaping.figures:
        shown = ", ".join(f"{name} {value:g}" for name, value in shaping.figures.items())
        lines.append(f"network: all links: {shown}")
    if apart := len(shaping.nodes) + len(shaping.links):
        lines.append(f"network: nodes and links told apart: {apart}")
    files = [*shaping.matrix.values(), *([shaping.trace] if shaping.trace else [])]
    lines += [f"network: from {path.name}" for path in files]
    return lines


def of_graph(graph: Graph) -> list[str]:
    """Who hears nobody, and what never becomes one model."""
    if graph.nodes < 2:
        return []
    if not graph.edges:
        return ["topology: there is no edge, so nobody hears anybody"]
    lines = []
    alone = np.flatnonzero(graph.in_degrees + graph.out_degrees == 0).tolist()
    if alone:
        shown = ", ".join(map(str, alone[:8])) + (" ..." if len(alone) > 8 else "")
        lines.append(f"topology: {len(alone)} nodes have no neighbour and train alone: {shown}")
    if graph.pieces - len(alone) > 1:
        lines.append(f"topology: the graph is in {graph.pieces} pieces, whose models never meet")
    elif graph.pieces == 1 and not graph.connected:
        lines.append("topology: some nodes never reach some others along the edges' directions")
    return lines


def unused(chosen: RunFile) -> list[str]:
    """Settings that somebody wrote and that this run does not look at."""
    name = type(chosen.algorithm).name
    lines = []
    if _said(chosen, "topology") and not chosen.algorithm.uses_topology:
        lines.append(f"topology is not used: {name} does not ask who hears whom")
    train, data = chosen.train, chosen.data
    if train.local_epochs is not None and _said(train, "local_steps"):
        lines.append("train.local_steps is not used: train.local_epochs stands in its place")
    lines += unused_of_data(data)
    if data.public and not chosen.algorithm.uses_public:
        lines.append(f"data.public holds examples back that {name} does not use")
    if _said(chosen.checkpoint, "keep") and not chosen.checkpoint.every:
        lines.append("checkpoint.keep is not used: checkpoint.every is 0")
    return lines


def unused_of_data(data: DataSource) -> list[str]:
    """Settings of data that somebody wrote and that nothing looks at."""
    lines = []
    if _said(data, "test_fraction") and (held := _own_test_set(data)):
        lines.append(f"data.test_fraction is not used: {held} is the test set")
    if getattr(data, "group", None) and isinstance(data.partition, Iid):
        lines.append(
            "data.group names owners, and data.partition: iid deals without them; natural follows "
            "them"
        )
    return lines


def _said(part: BaseModel, field: str) -> bool:
    """Whether a setting was written; in a resolved file, where all are, whether it was changed."""
    fields = type(part).model_fields
    if field not in fields:
        return False
    if part.model_fields_set >= set(fields):
        return bool(getattr(part, field) != fields[field].get_default(call_default_factory=True))
    return field in part.model_fields_set


def _own_test_set(data: Any) -> str:
    names = ("test_path", "test_split", "test_dataset", "test_arguments")
    return next((f"data.{n}" for n in names if getattr(data, n, None) is not None), "")
