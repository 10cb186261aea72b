"""A pool tried on test queries: associated, fitted, and every method in every regime measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.bundle import read_facts
from hansa.base.files import write_json
from hansa.route.abstaining import auroc, conformal, p_values
from hansa.route.answering import BASE, AnsweringModel
from hansa.route.evaluation import TestSets, bench_of, evaluated, retrieval
from hansa.route.fitting import Fit, fit
from hansa.route.indexing import Associated, associate
from hansa.route.pool_scorer import answered, scored
from hansa.route.route_file import RouteFile
from hansa.route.routing import Router
from hansa.route.score_ledger import ScoreLedger
from hansa.route.screening import Looked, admitted, screened
from hansa.route.sets import RoutedTask

Say = Callable[[str], None]
ALPHAS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)


@dataclass
class Setting:
    """What pools of one seed share.

    Attributes:
        vectors: of each task's validation examples [n_t, d], of length 1.
        foreign: float32 [m, d], vectors of texts of no task.
    """

    chosen: RouteFile
    seed: int
    model: AnsweringModel
    tasks: tuple[RoutedTask, ...]
    vectors: list[np.ndarray]
    test: TestSets
    foreign: np.ndarray
    centroids: np.ndarray
    ledger: ScoreLedger


class TriedPool:
    """One pool, as far as it has been measured.

    Args:
        tasks: as the pool knows them: their own adapters may be called otherwise there.
        file: where results are kept; what is there is not measured again.
    """

    def __init__(
        self, setting: Setting, name: str, tasks: Sequence[RoutedTask], adapters: Sequence[str],
        digests: Mapping[str, str], file: Path, say: Say,
    ) -> None:  # fmt: skip
        self.setting, self.name, self.say = setting, name, say
        self.tasks, self.adapters, self.digests = tuple(tasks), list(adapters), dict(digests)
        self.file = file
        self.result: dict[str, Any] = read_facts(file) if file.exists() else {
            "seed": setting.seed, "pool": name, "rows": [], "adapters": len(self.adapters),
        }  # fmt: skip
        self.looked: list[Looked] = []
        self.associated: Associated
        self.router: Router

    def try_all(self) -> None:
        """Screen, associate, fit, and measure what is not there yet."""
        self._screen()
        self.associated = self._associate(self.adapters)
        self._fit()
        for regime in self.setting.chosen.regimes:
            for label, method in self.setting.chosen.named().items():
                if any((r["regime"], r["method"]) == (regime, label) for r in self.result["rows"]):
                    continue
                self.say(f"{self.name} pool, {regime}: {label}")
                bench = bench_of(
                    self.setting.model, self._test(), self.setting.vectors,
                    self.associated.matrix, self.router, regime, self.setting.seed,
                    self.setting.chosen.batch_size,
                )  # fmt: skip
                row = {"regime": regime, "method": label, **evaluated(method, bench, self._test())}
                self.result["rows"].append(row)
                self.keep()
        if "abstention" not in self.result:
            self.result["abstention"] = self._abstention()
        self.keep()

    def keep(self) -> None:
        """Write what there is."""
        write_json(self.file, self.result)

    def _test(self) -> TestSets:
        sets = self.setting.test
        split = [sets.vectors[sets.own == t] for t in range(len(self.tasks))]
        return TestSets(self.tasks, split)

    def _screen(self) -> None:
        if self.setting.chosen.screen is None:
            return
        slab = self.setting.model.slab
        pool = {name: slab.factors(name) for name in self.adapters}
        matrix = self._associate(self.adapters).matrix
        base = []
        for task in self.tasks:
            queries = [example.query for example in task.validation]
            batch = self.setting.chosen.batch_size
            said = answered(self.setting.model, queries, [BASE] * len(queries), batch)
            base.append(float(scored(task.metric, said, task.validation).mean()))
        self.looked = screened(
            pool, self.setting.chosen.screen, matrix.means(), matrix.counts(), np.array(base)
        )
        self.adapters = admitted(self.looked)
        self.result["refused"] = {one.name: list(one.refused) for one in self.looked if one.refused}

    def _associate(self, adapters: Sequence[str]) -> Associated:
        chosen, setting = self.setting.chosen, self.setting
        return associate(
            setting.model, self.tasks, adapters, self.digests, chosen.association, setting.ledger,
            setting.seed, chosen.batch_size, lambda text: self.say(f"{self.name} pool, {text}"),
        )  # fmt: skip

    def _fit(self) -> None:
        chosen, matrix = self.setting.chosen, self.associated.matrix
        counts = matrix.counts()
        self.result["association"] = {
            "answers": int(counts.sum()),
            "exhaustive": self.associated.exhaustive,
        }
        router = Router(self.setting.centroids, matrix.choices())
        if "fit" not in self.result:
            self.result["fit"] = vars(self._fitted(router))
        k = chosen.k or self.result["fit"]["k"]
        temperature = chosen.temperature
        if temperature is None:
            temperature = self.result["fit"]["temperature"]
        self.router = router.but(k, temperature)
        means, (low, high) = matrix.means(), matrix.intervals()
        self.result["matrix"] = {
            "tasks": list(matrix.tasks),
            "adapters": list(matrix.adapters),
            "means": [[None if np.isnan(x) else round(float(x), 4) for x in row] for row in means],
            "low": np.round(low, 4).tolist(),
            "high": np.round(high, 4).tolist(),
            "counts": counts.tolist(),
            "choices": matrix.choices().tolist(),
            "own": matrix.own.tolist(),
        }
        self.result["retrieval"] = retrieval(self.router, self._test())
        self.keep()

    def _fitted(self, router: Router) -> Fit:
        chosen, setting = self.setting.chosen, self.setting
        more: dict[str, Any] = {}
        if chosen.k is not None:
            more["ks"] = (chosen.k,)
        if chosen.temperature is not None:
            more["temperatures"] = (chosen.temperature,)
        return fit(
            setting.model, self.tasks, setting.vectors, self.associated.matrix, router,
            setting.seed, chosen.fit_queries, batch=chosen.batch_size,
            say=lambda text: self.say(f"{self.name} pool, {text}"), **more,
        )  # fmt: skip

    def _abstention(self) -> dict[str, Any]:
        """Shares of test and of foreign queries that are answered, over alpha."""
        setting, test = self.setting, self._test()
        calibration = conformal(setting.vectors)
        inside = p_values(self.router.similarities(test.vectors), calibration)
        bench = bench_of(
            setting.model, test, setting.vectors, self.associated.matrix, self.router, "id",
            setting.seed, setting.chosen.batch_size,
        )  # fmt: skip
        routed = self.router.route(test.vectors, None, bench.choices())
        right = test.scores(bench.answers([one.mixture for one in routed]))
        outside = np.zeros(0)
        if len(setting.foreign):
            outside = p_values(self.router.similarities(setting.foreign), calibration)
            outside[~setting.foreign.any(1)] = 0  # no direction: never answered
        curve = []
        for alpha in ALPHAS:
            kept = inside > alpha
            row: dict[str, Any] = {"alpha": alpha, "answered": float(kept.mean())}
            row["score"] = float(right[kept].mean()) if kept.any() else None
            row["foreign"] = float((outside > alpha).mean()) if len(outside) else None
            curve.append(row)
        area = auroc(inside, outside) if len(outside) else None
        return {"curve": curve, "auroc": area, "foreign": len(outside)}
