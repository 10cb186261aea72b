"""The examples on which members are combined, and the scores that members give them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.data import Dataset, Split, hold_back_each, label_histogram
from hansa.data.source import moments
from hansa.ensemble import Alignment, Panel, Rule, rows_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Division:
    """Who has what.

    Attributes:
        clients: ids of the clients that take part.
        train: examples that each client's model is trained on.
        proxy: examples of each client that the rule is fitted on; may be none.
        counts: int64 [M, classes], training examples of each class.
        notes: what a reader should know.
    """

    clients: list[int]
    train: list[np.ndarray]
    proxy: list[np.ndarray]
    counts: np.ndarray
    notes: tuple[str, ...] = ()


def divide(settings: EnsembleSettings, dataset: Dataset, streams: Streams) -> Division:
    """Deal the examples and hold proxies back; checked before anything is trained.

    Raises:
        ConfigError: nobody is left, nobody has a proxy, or nobody has a class.
    """
    if dataset.spec.task == "regression":
        raise ConfigError("data", dataset.name, "has no classes to combine scores of", "classes")
    if settings.data.markers:
        problem = "are planted by hansa learn only"
        raise ConfigError("data.markers", None, problem, "leave them out")
    wrong = [i for i in settings.without if not 0 <= i < settings.clients]
    if wrong:
        fix = f"numbers from 0 to {settings.clients - 1}"
        raise ConfigError("without", wrong[0], f"there are {settings.clients} clients", fix)
    clients = [i for i in range(settings.clients) if i not in settings.without]
    if not clients:
        raise ConfigError(
            "without", list(settings.without), "leaves no client", "keep one at least"
        )
    every = settings.data.divide(dataset, settings.clients, streams)
    parts = [every[i] for i in clients]
    targets = dataset.train.targets.cpu().numpy()
    train, proxy = parts, parts
    if settings.proxies == "held_back":
        train, proxy = hold_back_each(
            parts,
            streams,
            settings.proxy,
            nodes=clients,
            targets=targets if settings.stratified else None,
            at_least=2,
            purpose="proxy",
        )
    counts = label_histogram(targets, train, dataset.spec.classes)
    return Division(clients, train, proxy, counts, _judge(settings, dataset, proxy, counts))


def standardizes(settings: EnsembleSettings, dataset: Dataset) -> bool:
    """Whether inputs are scaled by statistics over all training examples."""
    way = settings.data.normalize
    by_default = way is None and dataset.spec.kind == "table"
    return dataset.scale is not None and (way == "standardize" or by_default)


def restandardized(settings: EnsembleSettings, dataset: Dataset, division: Division) -> Dataset:
    """The data set with inputs standardized by the examples of the clients that take part."""
    if not standardizes(settings, dataset):
        return dataset
    held = np.unique(np.concatenate([*division.train, *division.proxy]))
    mean, deviation = moments(dataset.train.inputs[torch.from_numpy(held)])
    return replace(dataset, scale=1 / deviation, shift=-mean / deviation)


def _judge(
    settings: EnsembleSettings, dataset: Dataset, proxy: Sequence[np.ndarray], counts: np.ndarray
) -> tuple[str, ...]:
    """Refuse what cannot work; tell what may disappoint."""
    classes = dataset.spec.classes
    names = dataset.class_names or tuple(map(str, range(classes)))
    notes = []
    nobodys = [names[c] for c in np.flatnonzero(counts.sum(0) == 0)]
    if nobodys:
        problem = f"no client has a training example of {_listed(nobodys)}"
        if not settings.without:
            fix = "more clients or data, or fewer classes"
            raise ConfigError("data.partition", None, problem, fix)
        notes.append(f"{problem} any more")  # who asks to be left out is left out
    whole = np.concatenate(list(proxy))
    least = settings.aggregate.folds if settings.without else 2 * classes
    if len(whole) < least and any(r.learned or r.counts_votes for r in settings.rules):
        raise ConfigError(
            "proxy",
            settings.proxy,
            f"leaves {len(whole)} examples to combine {len(counts)} models by; {classes} classes "
            f"need {least} at least",
            "a larger share, proxies: reused or crossed, or rules that are not fitted: "
            "average, label_weighted",
        )
    bare = sum(len(part) == 0 for part in proxy)
    if bare:
        notes.append(
            f"{bare} of {len(proxy)} clients have too few examples to hold any back: their models "
            "count, but they take no part in phase 2"
        )
    held = np.bincount(dataset.train.targets.cpu().numpy()[whole], minlength=classes)
    missing = [names[c] for c in np.flatnonzero(held == 0)]
    if missing:
        notes.append(f"no proxy holds an example of {_listed(missing)}: rules cannot learn it")
    return tuple(notes)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"class{'es' * (len(names) > 1)} " + ", ".join(names[:8]) + more


@dataclass(frozen=True)
class Scores:
    """What the members say of all proxies and of the test set.

    Attributes:
        train: [M, N, C], of the proxies end to end.
        targets: [N].
        parts: each client's place among the N, by client; may be empty.
        inputs: [N, ...] as a model takes them, for rules that look.
        test, test_targets, test_inputs: the same for the test set.
        alignments: of each member, where their scores differ in kind; the scores have it behind
            them.
    """

    panel: Panel
    train: Tensor
    targets: Tensor
    parts: list[np.ndarray]
    inputs: Tensor | None
    test: Tensor
    test_targets: Tensor
    test_inputs: Tensor | None
    alignments: list[Alignment] | None = None

    def rows(self, rule: Rule) -> Tensor:
        """What a rule gets of the proxies, [N, M * C (+ F)]."""
        return rows_of(self.train, self.inputs if rule.sees_input else None)

    def test_rows(self, rule: Rule) -> Tensor:
        """What a rule gets of the test set."""
        return rows_of(self.test, self.test_inputs if rule.sees_input else None)

    def dataset(self, rule: Rule, name: str) -> Dataset:
        """The scores as a data set: proxies to train on, the test set to measure on."""
        rows, tests = self.rows(rule).contiguous(), self.test_rows(rule).contiguous()
        shape, outputs = (rows.shape[1],), self.panel.outputs
        spec = DataSpec("table", shape, outputs)
        if self.panel.binary:
            spec = DataSpec("table", shape, outputs, "binary")
        return Dataset(name, spec, Split(rows, self.targets), None, Split(tests, self.test_targets))

    def without(self, member: int) -> Scores:
        """The same without a member and without its proxy."""
        keep = [i for i in range(self.panel.members) if i != member]
        parts = [self.parts[i] for i in keep]
        rows = np.sort(np.concatenate(parts)) if parts else np.zeros(0, np.int64)
        place = np.full(len(self.targets), -1, dtype=np.int64)
        place[rows] = np.arange(len(rows))
        at = torch.from_numpy(rows)
        return Scores(
            self.panel.without(member),
            self.train[keep][:, at],
            self.targets[at],
            [place[part] for part in parts],
            None if self.inputs is None else self.inputs[at],
            self.test[keep],
            self.test_targets,
            self.test_inputs,
            None if self.alignments is None else [self.alignments[i] for i in keep],
        )
