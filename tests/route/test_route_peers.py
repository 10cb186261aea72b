"""Peers who keep their validation sets, liars among them, and adapters of strangers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.streams import Streams
from hansa.ensemble.aggregators import Aggregator
from hansa.route.answering import Query, Sees
from hansa.route.collaborative import Contribution, Gathering, contributed, lie, split
from hansa.route.embeddings import centroid
from hansa.route.encoders.encoder import Encoder
from hansa.route.encoders.hashing import HashedWords, Hashing
from hansa.route.encoders.tfidf import TfIdf
from hansa.route.indexing import Placed, place_tasks
from hansa.route.routing_index import RoutingIndex, index_of
from hansa.route.score_matrix import matrix_of
from hansa.route.screening import Screening, admitted, screened, spectrum
from hansa.route.sets import Example, RoutedTask

placed_at = Path("/nowhere")
TASKS, ADAPTERS = ("t0", "t1"), ("a0", "a1", "a2")


def contributions(count: int, seed: int = 0, sigma: float = 0.0) -> dict[str, Contribution]:
    """Peers whose examples say that a0 does t0 best and a2 does t1."""
    rng = np.random.default_rng(seed)
    made = {}
    for peer in range(count):
        vectors = [np.eye(4)[t] + 0.1 * rng.normal(size=(6, 4)) for t in range(2)]
        vectors = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in vectors]
        chances = np.array([[0.95, 0.4, 0.1], [0.1, 0.5, 0.9]])
        scores = [(rng.random((3, 40)) < row[:, None]).astype(float) for row in chances]
        made[f"peer {peer}"] = contributed(vectors, scores, sigma, rng)
    return made


def gathered(of: dict[str, Contribution]) -> Gathering:
    gathering = Gathering(TASKS, ADAPTERS, 4)
    for peer, one in of.items():
        gathering.admit(peer, one.encoded())
    return gathering


@given(st.permutations(range(5)))
def test_who_came_first_does_not_matter_and_bytes_are_counted(order: list[int]) -> None:
    made = contributions(5)
    first = gathered(made)
    other = gathered({f"peer {k}": made[f"peer {k}"] for k in order})
    for rule in ("mean", "median"):
        ours, theirs = (g.combined(Aggregator.resolve(rule)) for g in (first, other))
        np.testing.assert_array_equal(ours[0], theirs[0])
        np.testing.assert_array_equal(ours[1].means(), theirs[1].means())
        assert ours[1].choices().tolist() == [0, 2]
    assert first.received == {peer: len(one.encoded()) for peer, one in made.items()}
    assert max(first.received.values()) >= 4 * (2 * 4 + 2 * 3)


@pytest.mark.parametrize("rule", ["mean", "median", "geometric_median"])
def test_a_contributor_that_goes_leaves_no_trace(rule: str) -> None:
    made = contributions(6)
    never = gathered({peer: one for peer, one in made.items() if peer != "peer 3"})
    gone = gathered(made)
    gone.forget("peer 3")
    ours, theirs = (g.combined(Aggregator.resolve(rule)) for g in (gone, never))
    assert ours[0].tobytes() == theirs[0].tobytes()
    assert ours[1].means().tobytes() == theirs[1].means().tobytes()
    with pytest.raises(ConfigError, match="has contributed nothing"):
        gone.forget("peer 3")


def test_liars_move_the_mean_and_not_the_median() -> None:
    made = contributions(9)
    wanted = {0: 2, 1: 0}
    for peer in list(made)[:4]:
        made[peer] = lie(made[peer], wanted)
    gathering = gathered(made)
    robust = gathering.combined(Aggregator.resolve("median"))[1]
    mean = gathering.combined(Aggregator.resolve("mean"))[1]
    assert robust.choices().tolist() == [0, 2]
    honest = gathered(contributions(9)).combined(Aggregator.resolve("mean"))[1]
    assert mean.means()[0, 2] > honest.means()[0, 2] + 0.3
    assert robust.means()[0, 2] < honest.means()[0, 2] + 0.1
    with pytest.raises(ConfigError, match="needs"):
        gathered(contributions(2)).combined(Aggregator.resolve({"name": "trimmed_mean", "f": 2}))


def test_what_is_malformed_is_refused_whoever_sends_it() -> None:
    (one,) = contributions(1).values()
    wrong = {
        "outside 0 to 1": Contribution(one.centroids, one.scores + 1),
        "not of length 1": Contribution(one.centroids * 50, one.scores),
        "not finite": Contribution(one.centroids, one.scores * np.nan),
        "has the shapes": Contribution(one.centroids[:, :3], one.scores),
    }
    gathering = Gathering(TASKS, ADAPTERS, 4)
    for problem, bad in wrong.items():
        with pytest.raises(ConfigError, match=problem):
            gathering.admit("liar", bad.encoded())
    with pytest.raises(ConfigError, match="cannot be read"):
        gathering.admit("liar", b"pickle")
    assert not gathering.of


def test_noise_is_of_the_stated_size_before_the_length_is_made_1() -> None:
    rows = np.tile(np.eye(400)[0], (5, 1))
    one = contributed([rows], [np.ones((1, 5))], 0.05, np.random.default_rng(0))
    # 400 numbers with sigma .05 make a vector of length 1 beside the centroid's own.
    assert float(one.centroids[0, 0]) == pytest.approx(2**-0.5, abs=0.06)
    assert np.linalg.norm(one.centroids[0]) == pytest.approx(1)


@given(st.lists(st.integers(4, 30), min_size=1, max_size=4), st.integers(1, 4))
def test_examples_are_dealt_once(sizes: list[int], peers: int) -> None:
    parts = split(sizes, peers, Streams(1))
    for task, size in enumerate(sizes):
        dealt = np.concatenate([peer[task] for peer in parts])
        assert sorted(dealt) == list(range(size))
    with pytest.raises(ConfigError, match="validation examples"):
        split(sizes, min(sizes) + 1, Streams(1))


def factors(scale: float, seed: int, rank: int = 4) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    return {
        layer: (
            torch.randn(rank, 12, generator=draw),
            scale * torch.randn(10, rank, generator=draw),
        )
        for layer in ("one", "two")
    }


def test_the_spectrum_is_that_of_the_dense_delta() -> None:
    made = factors(0.7, 3)
    norm, top = spectrum(made)
    dense = [b @ a for a, b in made.values()]
    assert norm == pytest.approx(float(sum((d**2).sum() for d in dense)) ** 0.5, rel=1e-5)
    shares = [float(torch.linalg.svdvals(d)[0] ** 2 / (d**2).sum()) for d in dense]
    assert top == pytest.approx(np.mean(shares), rel=1e-5)


def test_poisoned_adapters_are_named_and_left_out() -> None:
    pool = {f"a{k}": factors(1.0, k) for k in range(6)}
    pool["loud"] = factors(40.0, 7)
    planted = factors(0.01, 8)
    pool["planted"] = {
        layer: (a.index_fill(0, torch.tensor([0]), 3.0), b.index_fill(1, torch.tensor([0]), 1.0))
        for layer, (a, b) in planted.items()
    }
    pool["harmful"] = factors(1.0, 9)
    names = list(pool)
    scores = np.full((2, len(names)), 0.6)
    scores[:, names.index("harmful")] = (0.05, 0.4)
    counts = np.full_like(scores, 60, dtype=int)
    looked = screened(pool, Screening(), scores, counts, np.array([0.5, 0.5]))
    why = {one.name: one.refused for one in looked if one.refused}
    assert set(why) == {"loud", "planted", "harmful"}
    assert "times the pool's median" in why["loud"][0]
    assert "in one direction" in why["planted"][0]
    assert "worse than the base" in why["harmful"][0]
    assert admitted(looked) == [f"a{k}" for k in range(6)]
    # Few examples convince nobody, and neither do cells that were not measured.
    few = screened(pool, Screening(), scores, np.full_like(counts, 2), np.array([0.5, 0.5]))
    assert not next(one.refused for one in few if one.name == "harmful")
    none = screened(pool, Screening(), scores, np.zeros_like(counts), np.array([0.5, 0.5]))
    assert not next(one.refused for one in none if one.name == "harmful")
    bad = {"one": (torch.ones(2, 3), torch.full((3, 2), torch.nan))}
    with pytest.raises(ConfigError, match="not finite"):
        screened({"nan": bad}, Screening())


def task(name: str, words: str, count: int = 4) -> RoutedTask:
    examples = tuple(Example(Query(f"{words} number{k} of {name}"), "yes") for k in range(count))
    return RoutedTask(name, "d", examples, own=None)


def index(placed: Placed, encoder: Encoder, sees: Sees = "text") -> RoutingIndex:
    names = [t.name for t in placed.tasks]
    scores = [np.ones((2, t.examples), np.float32) for t in placed.tasks]
    matrix = matrix_of(names, ["a", "b"], scores, [None] * len(names), [True] * len(names))
    return index_of(matrix, placed.tasks, placed.centroids, base=placed_at, base_sha256="0",
                    pool=placed_at, adapters={"a": "1", "b": "2"}, k=2, temperature=0.1, alpha=0.2,
                    encoder=encoder, fitted=placed.fitted, facts={}, sees=sees)  # fmt: skip


@pytest.mark.parametrize("encoder", [Hashing(size=64), TfIdf()])
def test_one_task_more_or_less_embeds_nothing_else(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, three = task("a", "red apples"), task("b", "blue boats"), task("c", "green cars")
    before = index(place_tasks([one, two], encoder), encoder)
    fitted = type(before.fitted)
    texts: list[str] = []
    embed = fitted.embed
    monkeypatch.setattr(fitted, "embed", lambda self, rows: texts.extend(rows) or embed(self, rows))
    more = place_tasks([one, two, three], encoder, before)
    assert texts == three.texts()
    width = before.centroids.shape[1]
    np.testing.assert_array_equal(more.centroids[:2, :width], before.centroids)
    assert not more.centroids[:2, width:].any()
    less = place_tasks([two], encoder, before)
    assert less.embedded == 0
    np.testing.assert_array_equal(less.centroids[0], before.centroids[1])
    changed = place_tasks([one, task("b", "blue boats", 3)], encoder, before)
    assert changed.embedded == 1
    if isinstance(before.fitted, HashedWords):  # fitted on nothing: as if it had never been there
        never = place_tasks([two], encoder)
        np.testing.assert_array_equal(less.centroids, never.centroids)
        np.testing.assert_array_equal(less.centroids[0], centroid(embed(never.fitted, two.texts())))


def test_candidates_tell_tasks_apart_that_ask_about_the_same_texts(tmp_path: Path) -> None:
    texts = [f"a film about number{k}" for k in range(6)]
    tasks = [
        RoutedTask(name, "films", tuple(Example(Query(text, labels), labels[0]) for text in texts))
        for name, labels in (("mood", ("good", "bad")), ("genre", ("drama", "horror")))
    ]
    query = Query("a film about nobody", ("drama", "horror"))
    routed = {}
    for sees in ("text", "text_and_candidates"):
        placed = place_tasks(tasks, Hashing(size=256), sees=sees)
        index(placed, Hashing(size=256), sees).save(tmp_path / sees)
        again = RoutingIndex.open(tmp_path / sees)
        assert again.sees == sees
        routed[sees] = again.route([query])[0]
        # What was placed by another view is embedded anew.
        assert place_tasks(tasks, Hashing(size=256), again, "text").embedded == 2 * (sees != "text")
    assert routed["text"].weights == pytest.approx((0.5, 0.5))
    assert routed["text_and_candidates"].tasks[0] == 1
    assert routed["text_and_candidates"].weights[0] > 0.8


class Loud(Hashing):
    """An encoder of one's own."""


def test_an_index_runs_no_code_that_nobody_trusts(tmp_path: Path) -> None:
    encoder = Loud(size=64)
    encoder.__class__.name = f"{__name__}:Loud"
    index(place_tasks([task("a", "red apples")], encoder), encoder).save(tmp_path)
    with pytest.raises(ConfigError, match="is code, which reading this index would run"):
        RoutingIndex.open(tmp_path)
    with pytest.raises(CheckpointError, match="makes one"):
        RoutingIndex.open(tmp_path / "nothing")
