"""How good a model is for a site: on test examples of the site's owners, or by its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.lazy import torch, without_gradients
from hansa.combine.merge.merge_tasks import Part, Split
from hansa.data import Natural
from hansa.experiment.trained import TrainedRun

if TYPE_CHECKING:
    from torch import Tensor

_EVALUATED = 512  # examples at a time


class SiteJudge:
    """Accuracy on the test set: of all, of a site's owners, or with classes as a site has them.

    Args:
        judged_on: ``own`` or ``all``.

    Attributes:
        owners: of each site the owners whose examples it has; empty where test examples do not
            tell whose they are.
    """

    def __init__(self, trained: TrainedRun, judged_on: str) -> None:
        job = trained.job
        self._data, self._module = job.dataset, trained.module(0)
        self._parts = dict(enumerate(job.parts[: job.network.clients]))
        self._shares: dict[str, Tensor] = {}
        self.owners: dict[str, np.ndarray] = {}
        train, test = self._data.train, self._data.test
        dealt = isinstance(trained.settings.data.partition, Natural)
        if dealt and train.groups is not None and test.groups is not None:
            owners = {n: np.unique(train.groups[part]) for n, part in self._parts.items()}
            if all(np.isin(theirs, test.groups).any() for theirs in owners.values()):
                self.owners = {f"site_{node}": theirs for node, theirs in owners.items()}
        if judged_on == "own" and not self.owners:
            for node, part in self._parts.items():
                labels = train.targets[torch.from_numpy(part)].long().flatten()
                counts = labels.bincount(minlength=self._data.spec.classes)
                self._shares[f"site_{node}"] = counts.double() / counts.sum()
        self._by_owner = judged_on == "own" and bool(self.owners)

    def notes(self, names: Sequence[str]) -> tuple[str, ...]:
        """Who the owners of a site are, where they have names."""
        called = self._data.group_names
        if not self.owners or not called:
            return ()
        who = {name: ", ".join(called[int(g)] for g in self.owners[name]) for name in names}
        return ("sites and their owners: " + "; ".join(f"{n}: {o}" for n, o in who.items()),)

    def held(self, task: str) -> int:
        """How many test examples judge a site."""
        return len(self._tested(task))

    def inputs(self, task: str, part: Part) -> tuple[Tensor, Tensor]:
        """Examples of a site's owners, as the network reads them, and their classes.

        Args:
            part: those that the site has, or those of the test set.

        Raises:
            ConfigError: test examples do not tell whose they are.
        """
        if part == "own":
            node = int(task.removeprefix("site_"))
            return self._data.gather(self._data.train, torch.from_numpy(self._parts[node]))
        if task not in self.owners:
            problem = "its test examples do not tell whose they are"
            raise ConfigError("tasks.run", task, problem, "a run with partition: natural")
        return self._data.gather(self._data.test, torch.from_numpy(self._of_owners(task)))

    def _of_owners(self, task: str) -> np.ndarray:
        groups = self._data.test.groups
        assert groups is not None
        return np.flatnonzero(np.isin(groups, self.owners[task]))

    def _tested(self, task: str) -> np.ndarray:
        return self._of_owners(task) if self._by_owner else np.arange(len(self._data.test))

    @without_gradients
    def __call__(self, task: str, state: Mapping[str, Tensor], split: Split) -> float:
        self._module.load_state_dict(dict(state))
        self._module.eval()
        test, tested = self._data.test, torch.from_numpy(self._tested(task))
        right = torch.empty(len(tested), dtype=torch.double)
        for some in torch.arange(len(tested)).split(_EVALUATED):
            x, y = self._data.gather(test, tested[some])
            right[some] = (named(self._module(x)) == y).double()
        if task not in self._shares:
            return float(right.mean())
        classes = self._data.spec.classes
        labels = test.targets.long().flatten()
        each = torch.zeros(classes, dtype=torch.double).index_add_(0, labels, right)
        each /= labels.bincount(minlength=classes).clamp(min=1)
        present = labels.bincount(minlength=classes) > 0  # of the others nothing can be said
        shares = self._shares[task] * present
        return float((each * shares).sum() / shares.sum())


def named(scores: Tensor) -> Tensor:
    """int64 [m]: the classes that scores [m, C] name; of one score, whether it is above 0."""
    return (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(-1)
