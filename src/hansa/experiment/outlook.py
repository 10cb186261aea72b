"""What a run is about to do: in numbers, and as a graph and a split for the report."""

from __future__ import annotations

from typing import Any

import numpy as np

from hansa.base.paths import short
from hansa.data import label_histogram
from hansa.data.dealing.deal import sizes_of
from hansa.engine import Job
from hansa.engine.accounts import EPSILON, NOISE, RATE, summed_up
from hansa.engine.training.private_steps import PrivateSteps
from hansa.experiment.forecast import forecast
from hansa.experiment.precision_gain import remark_on, step_share
from hansa.experiment.remarks import remarks
from hansa.experiment.runfile import RunFile
from hansa.models import ParameterLayout
from hansa.privacy.example import ExamplePrivacy
from hansa.report import RunFolder
from hansa.topology import likely

_EDGES_SHOWN = 4000
_CLIENTS_SHOWN = 10_000  # a page draws no more than a sample of those
_SPECTRUM_LIMIT = 2000  # nodes; the spectrum of a huge sparse ring takes longer than the run


def describe(job: Job, chosen: RunFile, folder: RunFolder) -> None:
    """Leave the topology and the split of the data where the report finds them."""
    sizes = sizes_of(job.parts)
    partition: dict[str, Any] = {"clients": len(sizes), "examples": int(sizes.sum())}
    shown = np.arange(len(sizes))
    if len(shown) > _CLIENTS_SHOWN:
        shown = np.linspace(0, len(sizes) - 1, _CLIENTS_SHOWN).astype(np.int64)
        partition["names"] = shown.tolist()
    partition["sizes"] = sizes[shown].tolist()
    if classes := job.dataset.spec.classes:
        names = job.dataset.class_names or tuple(map(str, range(classes)))
        targets = job.dataset.train.targets.cpu().numpy()
        parts = [job.parts[i] for i in shown.tolist()]
        histogram = label_histogram(targets, parts, classes)
        partition |= {"classes": list(names), "histogram": histogram.tolist()}
    if job.servers:
        partition["servers"] = job.servers
    folder.write_json("partition.json", partition)
    if planted := job.dataset.planted:
        folder.write_json("markers.json", [one.dump() for one in planted])
    describe_topology(job, folder)


def describe_topology(job: Job, folder: RunFolder) -> None:
    """Leave the graph where the report finds it, if there is one."""
    if not job.algorithm.uses_topology:
        return
    graph = job.network.graph(0)
    weights = likely(graph)
    rule = job.algorithm.mixing_rule or "metropolis_hastings"
    edges = list(zip(graph.indices.tolist(), graph.receivers.tolist(), strict=True))
    if graph.symmetric:
        edges = [(i, j) for i, j in edges if i < j]
    shown: dict[str, Any] = {
        "nodes": job.nodes,
        "edges": edges[:_EDGES_SHOWN],
        "directed": not graph.symmetric,
        "changing": job.network.changing,
        "weights": rule if graph.weights is None else "the file's",
        "rounds_shown": [0],
    }
    if job.nodes <= _SPECTRUM_LIMIT:
        shown["second_eigenvalue"] = weights.second_eigenvalue()
        shown["spectral_gap"] = weights.spectral_gap
    folder.write_json("topology.json", shown)


def plan(chosen: RunFile, job: Job) -> dict[str, Any]:
    """What a run would do, in numbers, without running it."""
    layout = ParameterLayout.of(job.module)
    sizes = sizes_of(job.parts)
    held = int(sizes_of(job.held).sum())
    facts: dict[str, Any] = {
        "algorithm": short(type(chosen.algorithm).name),
        "nodes": job.network.clients,
        **({"servers": job.servers} if job.servers else {}),
        "rounds": job.rounds,
        "model_parameters": layout.trainable,
        **({"frozen_parameters": layout.frozen_numbers} if layout.frozen else {}),
        "model_bytes": layout.nbytes,
        "train_examples": len(job.dataset.train) - held,
        "validation_examples": len(job.dataset.validation or ()),
        "test_examples": len(job.dataset.test),
        **({"held_back_examples": held} if held else {}),
        "task": job.dataset.spec.task,
        **({"classes": job.dataset.spec.classes} if job.dataset.spec.classes else {}),
        "examples_per_node": {"min": int(sizes.min()), "max": int(sizes.max())},
        "steps_per_node": job.rounds * int(chosen.train.asked(sizes).max()),
    }
    facts["clients_tell"] = _told(job)
    if planted := job.dataset.planted:
        facts["marked_examples"] = sum(len(one.index) for one in planted)
    if job.algorithm.uses_topology:
        graph = job.network.graph(0)
        facts["neighbours"] = {
            "min": int(graph.in_degrees.min()),
            "max": int(graph.in_degrees.max()),
        }
    if isinstance(job.privacy, ExamplePrivacy):
        facts["privacy"] = _foreseen(job, job.privacy, sizes)
    facts["forecast"] = forecast(job)
    facts["remarks"] = remarks(chosen, job)
    if chosen.train.precision == "bfloat16":
        share = step_share(job)
        facts["bfloat16_step_of_float32"] = round(share, 2)
        facts["remarks"] += [remark for remark in [remark_on(share, job.device)] if remark]
    return facts


def _foreseen(job: Job, privacy: ExamplePrivacy, sizes: np.ndarray) -> dict[str, Any]:
    """What privacy will have cost if every node takes all of its steps."""
    private = PrivateSteps(privacy, job.train, job.rounds)
    have = np.unique(sizes[sizes > 0])
    steps = np.minimum(
        job.train.asked(have) * job.rounds, private.affordable(have, np.zeros_like(have))
    )
    terms = [private.terms(size) for size in have.tolist()]
    figures = {NOISE: [one.noise for one in terms], RATE: [one.rate for one in terms]}
    arrays = {name: np.array(values) for name, values in figures.items()}
    return summed_up(privacy, {EPSILON: private.epsilons(have, steps), **arrays})


def _told(job: Job) -> str:
    """What every client has to tell all parties when it joins, in words."""
    words = {
        "sizes": "how many examples it has",
        "labels": "how many of each class",
        "keys": "the key by which it signs, and whose ratings it has",
    }
    return (
        " and ".join(words[what] for what in words if what in job.algorithm.must_tell) or "nothing"
    )
