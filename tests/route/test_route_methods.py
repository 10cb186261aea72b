"""Methods on a bench made by hand: what each mixes, and what its answers are computed by."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from hansa.route.answering import BASE, AnsweringModel, Mixture, Query
from hansa.route.bench import Bench
from hansa.route.evaluation import TestSets, evaluated, normalised, retrieval
from hansa.route.fitting import fit, grid_of
from hansa.route.methods.alone import Oracle, SingleBest
from hansa.route.methods.clusters import Clusters
from hansa.route.methods.fusion import Fusion, fused
from hansa.route.methods.lora_retriever import LoraRetriever
from hansa.route.methods.lorahub import LoraHub
from hansa.route.methods.lorauter import Lorauter, NoValidation
from hansa.route.methods.token_routing import Arrow, SpectR
from hansa.route.methods.uniform import Average, Uniform
from hansa.route.noisy_pool import Noise, spoilt
from hansa.route.pseudo_tasks import pseudo_tasks
from hansa.route.regimes import Regime, allowed
from hansa.route.routing import Router
from hansa.route.row_mixing import mixing
from hansa.route.score_matrix import matrix_of
from hansa.route.sets import Example, RoutedTask
from hansa.route.slab import AdapterSlab

TestSets.__test__ = False  # type: ignore[attr-defined]


class Layers(AnsweringModel):
    """Two linear layers; the answer to a text is the place of its largest output."""

    def __init__(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.module = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Linear(5, 4)).eval()
        self.slab = AdapterSlab.over(self.module)
        self.asked: list[Mixture] = []

    def inputs(self, queries: Sequence[Query]) -> torch.Tensor:
        rows = [np.random.default_rng(abs(hash_of(q.text))).normal(size=6) for q in queries]
        return torch.tensor(np.stack(rows), dtype=torch.float32)

    def outputs(self, queries: Sequence[Query], mixtures: Sequence[Mixture]) -> torch.Tensor:
        with torch.no_grad(), mixing(self.module, self.slab, mixtures):
            result: torch.Tensor = self.module(self.inputs(queries))
        return result

    def answers(self, queries: Sequence[Query], mixtures: Sequence[Mixture]) -> list[str]:
        self.asked += mixtures
        return [str(int(row.argmax())) for row in self.outputs(queries, mixtures)]


def hash_of(text: str) -> int:
    return int.from_bytes(text.encode(), "little") % 2**32


def pool(model: Layers, names: Sequence[str], ranks: Sequence[int]) -> None:
    for name, rank in zip(names, ranks, strict=True):
        draw = torch.Generator().manual_seed(len(model.slab))
        model.slab.add(name, {layer: (torch.randn(rank, i, generator=draw),
                                      torch.randn(o, rank, generator=draw))
                              for layer, (i, o) in model.slab.linears.items()})  # fmt: skip


NAMES = ["a0", "a1", "a2", "a3"]
MEANS = [[0.9, 0.2, 0.1, 0.0], [0.8, 0.6, 0.1, 0.0], [0.0, 0.1, 0.2, 0.7]]


def bench(regime: Regime = "id", k: int = 2) -> Bench:
    model = Layers()
    pool(model, NAMES, [2, 3, 1, 2])
    tasks = tuple(
        RoutedTask(f"t{t}", f"d{t // 2}", tuple(Example(Query(f"v{t}{n}"), "1") for n in range(10)),
                   (Example(Query(f"q{t}"), "2"),), own=f"a{t}")
        for t in range(3)
    )  # fmt: skip
    scores = [
        np.array([[float(n < round(10 * m)) for n in range(10)] for m in row], np.float32)
        for row in MEANS
    ]
    matrix = matrix_of([t.name for t in tasks], NAMES, scores, [t.own for t in tasks], [True] * 3)
    places = np.array([[1, 0.3, 0], [1, 0, 0.2], [0, 0.1, 1]])
    places = (places / np.linalg.norm(places, axis=1, keepdims=True)).astype(np.float32)
    router = Router(places, matrix.choices(), k, 0.1)
    queries = tuple(task.test[0].query for task in tasks)
    rng = np.random.default_rng(0)
    validation = tuple(
        (lambda x: (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32))(
            place + 0.02 * rng.normal(size=(10, 3))
        )
        for place in places
    )
    left = allowed(regime, matrix, places)
    return Bench(model, tasks, matrix, router, queries, places, np.arange(3), left, validation)


def test_lorauter_takes_what_validates_best_and_no_validation_the_own() -> None:
    ours, theirs = Lorauter().mixtures(bench()), NoValidation().mixtures(bench())
    assert [m.adapters for m in ours] == [(0,), (0,), (3, 0)]  # tasks 0 and 1 share adapter 0
    assert [sorted(m.adapters) for m in theirs] == [[0, 1], [0, 1], [1, 2]]
    assert sum(theirs[0].weights) == pytest.approx(1)
    assert Lorauter(k=1).mixtures(bench())[2] == Mixture((3,), (1.0,))
    # Its task is gone, and its adapter 0: the nearest task is 1, whose second best is 1.
    assert Lorauter(k=1).mixtures(bench("ood"))[0] == Mixture((1,), (1.0,))
    assert Lorauter(k=1).mixtures(bench("semi"))[1] == Mixture((0,), (1.0,))


def test_equal_weights_the_average_and_single_adapters() -> None:
    assert Uniform(k=2).mixtures(bench())[2] == Mixture((3, 0), (0.5, 0.5))
    assert Average().mixtures(bench())[0].folded() == Mixture((0, 1, 2, 3), (0.25,) * 4)
    assert Average().mixtures(bench("semi"))[0].folded().adapters == (1, 2, 3)
    assert [m.adapters for m in Oracle().mixtures(bench("ood"))] == [(0,), (1,), (2,)]
    # Task shares of a0: 1, 1, 0; of a3: 0, 0, 1.
    assert [m.adapters for m in SingleBest().mixtures(bench())] == [(0,)] * 3
    # In OOD a query of task 0 knows tasks 1 and 2 and no a0: a1 has .75 and .14 there, a3 0 and 1.
    assert SingleBest().mixtures(bench("ood"))[0].adapters == (3,)


def test_lora_retriever_retrieves_what_was_trained_on_the_nearest_texts() -> None:
    near = LoraRetriever(mode="selection").mixtures(bench())
    assert [m.adapters for m in near] == [(0,), (1,), (2,)]  # a3 has no texts
    two = LoraRetriever(k=2).mixtures(bench("ood"))
    assert [sorted(m.adapters) for m in two] == [[1, 2], [0, 2], [0, 1]]
    assert two[0].weights == (0.5, 0.5)


def test_fusion_is_the_product_of_summed_factors_and_not_the_sum_of_products() -> None:
    one = bench()
    slab = one.model.slab
    weights = {"a0": 0.5, "a1": 0.5}
    factors = fused(slab, weights)
    for layer, (a, b) in factors.items():
        each = [slab.factors(name)[layer] for name in weights]
        sums_a, sums_b = torch.zeros(3, a.shape[1]), torch.zeros(b.shape[0], 3)
        for first, second in each:
            sums_a[: len(first)] += first / 2
            sums_b[:, : len(first)] += second / 2
        torch.testing.assert_close(b @ a, sums_b @ sums_a)
        exact = sum(second @ first for first, second in each) / 2
        assert float((b @ a - exact).norm() / exact.norm()) > 0.3
    before = slab.names
    answers, touched = Fusion(k=3).answers(one)
    assert slab.names == before
    assert (len(answers), touched) == (3, 2)


def test_token_routing_is_what_its_formula_says() -> None:
    one = bench()
    model, queries = one.model, one.queries
    assert isinstance(model, Layers)
    for method, logit in (
        (Arrow(top_k=2, temperature=0.7), lambda a, b, x: (
            torch.linalg.svd(b @ a, full_matrices=False)[2][0] @ x).abs()),
        (SpectR(top_k=2, temperature=0.7), lambda a, b, x: (b @ a @ x).norm()),
    ):  # fmt: skip
        with torch.no_grad(), method.acting(one, NAMES):
            ours = model.module(model.inputs(queries))
        for row, x in zip(ours, model.inputs(queries), strict=True):
            for name, layer in model.module.named_children():
                each = [model.slab.factors(adapter)[name] for adapter in NAMES]
                logits = torch.stack([logit(a, b, x) for a, b in each])
                kept = logits.topk(2)
                weights = (kept.values / 0.7).softmax(0)
                with torch.no_grad():
                    out = layer(x)
                    for w, place in zip(weights, kept.indices, strict=True):
                        a, b = each[int(place)]
                        out = out + w * (b @ (a @ x))
                x = out
            torch.testing.assert_close(row, x, atol=1e-4, rtol=1e-4)
        assert method.answers(bench("ood"))[1] == 2


def test_lorahub_searches_without_ever_getting_worse() -> None:
    one = bench()
    method = LoraHub(steps=25, shots=10)
    learned = method._learned(one, 0, [0, 1, 2, 3])
    weights = np.zeros(4)
    weights[list(learned.adapters)] = learned.weights
    assert abs(weights).max() <= 1.5
    assert method._loss(one, 0, [0, 1, 2, 3], weights) <= method._loss(
        one, 0, [0, 1, 2, 3], np.zeros(4)
    )
    assert method._learned(one, 0, [0, 1, 2, 3]) == learned
    assert one.model.slab.names == tuple(NAMES)


def test_clusters_of_one_task_each_are_that_task() -> None:
    one = bench(k=1)
    routed = Clusters(clusters=3, k=1).mixtures(one)
    assert [m.adapters for m in routed] == [(0,), (0,), (3,)]
    # Without task 2's examples nothing of it is in the clusters.
    gone = Clusters(clusters=30, k=1).mixtures(bench("ood"))
    assert gone[2].adapters == (0,)
    made = pseudo_tasks(one.validation, one.matrix, 3, seed=1)
    assert sorted(len(m) for m in made.members) == [10, 10, 10]


def test_domains_are_normalised_and_never_tasks() -> None:
    one = bench()
    test = TestSets(one.tasks, [row[None] for row in one.vectors])
    assert test.by_domain(np.array([1.0, 0.0, 0.5])) == {"d0": 0.5, "d1": 0.5}
    assert normalised({"d0": 0.3, "d1": 0.5}, {"d0": 0.6, "d1": 0.0}) == 0.5
    assert normalised({"d0": 0.3}, {"d0": 0.0}) is None
    assert retrieval(one.router, test) == {"top1": 1.0, "top3": 1.0}
    row = evaluated(Oracle(), one, test)
    assert set(row) == {"domains", "raw", "touched"}


def test_the_fit_prefers_the_first_setting_that_is_as_good() -> None:
    one = bench()
    assert grid_of(1, (3, 1), (0.1, 0.2)) == [(1, 0.1)]
    assert grid_of(3, (9, 1), (0.1, 0.2)) == [(3, 0.1), (3, 0.2), (1, 0.1)]
    fitted = fit(one.model, one.tasks, one.validation, one.matrix, one.router, 1, queries=4)
    assert (fitted.k, fitted.temperature) in {(r["k"], r["temperature"]) for r in fitted.table}
    again = fit(one.model, one.tasks, one.validation, one.matrix, one.router, 1, queries=4)
    assert again == fitted


def test_a_spoilt_pool_keeps_norms_and_names() -> None:
    model = Layers()
    pool(model, NAMES, [2, 3, 1, 2])
    names, digests, called = spoilt(model.slab, NAMES, Noise(factor=0.5, adapters=5), seed=3)
    assert len(names) == len(set(names)) == len(set(digests.values())) == 9
    weak = [name for name, other in called.items() if other != name]
    assert len(weak) == 2
    for name in weak:
        for layer, (a, b) in model.slab.factors(name).items():
            there = model.slab.factors(called[name])[layer]
            torch.testing.assert_close(there[0], a)
            torch.testing.assert_close(there[1], b / 2)
    for layer, (a, b) in model.slab.factors("noise 1").items():
        like = model.slab.factors("a1")[layer]
        assert float(a.norm()) == pytest.approx(float(like[0].norm()), rel=1e-5)
        assert float(b.norm()) == pytest.approx(float(like[1].norm()), rel=1e-5)
    assert BASE.folded() == BASE


def test_with_one_task_and_one_adapter_every_method_answers_in_every_regime() -> None:
    model = Layers()
    pool(model, ["a0"], [2])
    one = bench()
    task = one.tasks[0]
    matrix = matrix_of(["t0"], ["a0"], [np.ones((1, 10), np.float32)], ["a0"], [True])
    places = np.array([[1.0, 0, 0]], np.float32)
    methods = (Lorauter(k=7), Lorauter(alpha=0.3), NoValidation(), Uniform(), Fusion(), Average(),
               Oracle(), SingleBest(), LoraRetriever(), LoraHub(steps=2), Arrow(), SpectR(),
               Clusters(clusters=99))  # fmt: skip
    for regime in ("id", "semi", "ood", "hard"):
        alone = Bench(model, (task,), matrix, Router(places, np.array([0])), one.queries[:1],
                      places, np.zeros(1, np.int64), allowed(regime, matrix, places),
                      one.validation[:1])  # fmt: skip
        base = model.answers(one.queries[:1], [BASE])
        for method in methods:
            answers, touched = method.answers(alone)
            if regime != "id" and not isinstance(method, Oracle):
                assert (answers, touched) == (base, 0), method
