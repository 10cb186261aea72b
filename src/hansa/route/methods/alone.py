"""One answer for all: no adapter, the best single one, and the query's own."""

from __future__ import annotations

import numpy as np

from hansa.base.component import register
from hansa.route.answering import BASE, Mixture
from hansa.route.bench import Bench
from hansa.route.methods.method import MixtureMethod


@register("base")
class Base(MixtureMethod):
    """No adapter at all."""

    def mixtures(self, bench: Bench) -> list[Mixture]:
        return [BASE] * len(bench.queries)


@register("single_best")
class SingleBest(MixtureMethod):
    """One adapter for everything: the best mean over tasks of score by the task's best score."""

    def mixtures(self, bench: Bench) -> list[Mixture]:
        means = np.nan_to_num(bench.matrix.means())
        top = means.max(1, keepdims=True)
        shares = means / np.where(top > 0, top, 1)
        chosen = {}
        for task, _ in bench.groups():
            seen = ~bench.allowed.excluded[task]
            pool = bench.pool(task)
            if pool and seen.any():
                best = pool[int(shares[seen][:, pool].mean(0).argmax())]
                chosen[task] = Mixture((best,), (1.0,))
        return [chosen.get(int(task), BASE) for task in bench.own]


@register("oracle")
class Oracle(MixtureMethod):
    """The adapter that was trained on the query's task, whatever the regime: 100 % by definition.

    Of a task without one, the adapter that validates best.
    """

    def mixtures(self, bench: Bench) -> list[Mixture]:
        own = [int(a) if a >= 0 else bench.matrix.best(t) for t, a in enumerate(bench.matrix.own)]
        return [Mixture((own[t],), (1.0,)) if own[t] >= 0 else BASE for t in bench.own]
