"""What holds for every merging algorithm, and plain references from the papers' formulas."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hansa.combine.merge.algorithms.averaging import Averaging
from hansa.combine.merge.algorithms.consensus import Consensus
from hansa.combine.merge.algorithms.dare import Dare
from hansa.combine.merge.algorithms.emr import Emr
from hansa.combine.merge.algorithms.fisher import Fisher
from hansa.combine.merge.algorithms.merging import BlockFacts, MergingAlgorithm, Piece
from hansa.combine.merge.algorithms.pcb import Pcb
from hansa.combine.merge.algorithms.regmean import RegMean
from hansa.combine.merge.algorithms.slerp import Slerp
from hansa.combine.merge.algorithms.tall_mask import TallMask
from hansa.combine.merge.algorithms.task_arithmetic import TaskArithmetic
from hansa.combine.merge.algorithms.ties import Ties
from hansa.combine.merge.algorithms.tsv_m import TsvM, nearest_orthonormal

ALL: list[MergingAlgorithm] = [
    Averaging(),
    TaskArithmetic(scale=1.5),
    TaskArithmetic(scale=0.3, form="sum"),
    Ties(density=0.4),
    Ties(density=0.4, scope="tensor", tie="positive"),
    Dare(drop=0.5),
    Dare(drop=0.5, inner=Ties(density=0.6)),
    Emr(),
    Emr(scaler="official"),
    TallMask(),
    TallMask(inner=Ties(density=0.4)),
    Consensus(),
    TsvM(),
    Pcb(),
    Fisher(),
    RegMean(),
    Slerp(of="deltas"),
]
IDS = [f"{k}-{algorithm.name}" for k, algorithm in enumerate(ALL)]
LINEAR = [algorithm for algorithm in ALL if algorithm.name != "pcb"]  # whose scores are not
PIECES = (Piece("w", (4, 3), 0), Piece("b", (4,), 12))


def task_vectors(seed: int, count: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 16))).float()


def facts(seed: int, members: list[int]) -> BlockFacts:
    """Of a block with a matrix and a vector, with the statistics that each algorithm wants."""
    generator = np.random.default_rng(seed)
    inputs = torch.from_numpy(generator.normal(size=(9, 8, 3))).float()
    weights = torch.from_numpy(generator.uniform(0.1, 2, size=(9, 16))).float()
    statistics = [{"w": weights[k, :12].view(4, 3), "b": weights[k, 12:]} for k in members]
    return BlockFacts(
        "block", PIECES, tuple(members), statistics=statistics, base=inputs[0].flatten()[:16]
    )


def grams(seed: int, members: list[int]) -> BlockFacts:
    inputs = torch.from_numpy(np.random.default_rng(seed).normal(size=(9, 8, 3))).float()
    statistics = [{"w": inputs[k].T @ inputs[k]} for k in members]
    return BlockFacts("block", PIECES, tuple(members), statistics=statistics)


def merged(algorithm: MergingAlgorithm, taus: Tensor, seed: int, order: list[int]) -> list[Tensor]:
    """What every row gets back."""
    about = (grams if isinstance(algorithm, RegMean) else facts)(seed, order)
    result = algorithm.merge(taus, about)
    assert result.vector.isfinite().all()
    assert (result.masks is not None) == algorithm.masked
    return [result.of(row) for row in range(len(taus))]


seeds = st.integers(0, 10_000)


@pytest.mark.parametrize("algorithm", ALL, ids=IDS)
@given(seed=seeds, data=st.data())
@settings(max_examples=12)
def test_the_order_of_the_models_does_not_matter(
    algorithm: MergingAlgorithm, seed: int, data: st.DataObject
) -> None:
    count = 2 if algorithm.name == "slerp" else data.draw(st.integers(1, 6))
    taus = task_vectors(seed, count)
    order = data.draw(st.permutations(range(count)))
    plain = merged(algorithm, taus, seed, list(range(count)))
    moved = merged(algorithm, taus[order], seed, list(order))
    for place, row in enumerate(order):
        torch.testing.assert_close(moved[place], plain[row], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("algorithm", LINEAR, ids=lambda algorithm: algorithm.name)
@given(seed=seeds, factor=st.sampled_from([0.25, 2.0, 8.0, 1e3]))
@settings(max_examples=8)
def test_scaled_task_vectors_give_a_scaled_result(
    algorithm: MergingAlgorithm, seed: int, factor: float
) -> None:
    count = 2 if algorithm.name == "slerp" else 4
    taus, order = task_vectors(seed, count), list(range(count))
    plain, scaled = (merged(algorithm, t, seed, order) for t in (taus, taus * factor))
    for one, other in zip(plain, scaled, strict=True):
        torch.testing.assert_close(other, one * factor, rtol=1e-4, atol=1e-5 * factor)


@pytest.mark.parametrize("algorithm", ALL, ids=IDS)
def test_models_that_changed_nothing_leave_the_base(algorithm: MergingAlgorithm) -> None:
    for row in merged(algorithm, torch.zeros(2, 16), 1, [0, 1]):
        assert (row == 0).all()


@pytest.mark.parametrize("algorithm", ALL, ids=IDS)
def test_no_algorithm_changes_what_it_is_given_and_all_repeat(algorithm: MergingAlgorithm) -> None:
    taus = task_vectors(3, 2)
    kept = taus.clone()
    first, second = (merged(algorithm, taus, 3, [0, 1]) for _ in range(2))
    assert torch.equal(taus, kept)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def ties_reference(taus: np.ndarray, density: float) -> np.ndarray:
    """Yadav et al., algorithm 1, number by number."""
    keep = int(density * taus.shape[1])
    trimmed = taus.copy()
    for row in trimmed:
        for place in np.argsort(-abs(row))[keep:]:
            row[place] = 0
    result = np.zeros(taus.shape[1])
    for place in range(taus.shape[1]):
        sign = np.sign(trimmed[:, place].sum())
        agree = [t for t in trimmed[:, place] if t and np.sign(t) == sign]
        result[place] = np.mean(agree) if agree else 0
    return result


def emr_reference(taus: np.ndarray) -> list[np.ndarray]:
    """Huang et al., section 3.2, number by number."""
    elected = np.zeros(taus.shape[1])
    for place, column in enumerate(taus.T):
        sign = 1 if column.mean() > 0 else -1
        elected[place] = sign * max([abs(t) for t in column if t * sign > 0], default=0)
    given_back = []
    for tau in taus:
        part = np.where(tau * elected > 0, elected, 0)
        given_back.append(part * abs(tau).sum() / abs(part).sum())
    return given_back


def tsv_reference(matrices: np.ndarray) -> np.ndarray:
    """Gargiulo et al., algorithm 1; the nearest orthonormal matrix by the inverse root."""
    count, rank = len(matrices), max(1, min(matrices.shape[1:]) // len(matrices))
    parts = [np.linalg.svd(m, full_matrices=False) for m in matrices]
    u = np.hstack([p[0][:, :rank] for p in parts])
    v = np.hstack([p[2][:rank].T for p in parts])
    s = np.concatenate([p[1][:rank] for p in parts])
    assert u.shape[1] == count * rank

    def whitened(x: np.ndarray) -> np.ndarray:
        values, vectors = np.linalg.eigh(x.T @ x)
        return x @ vectors @ np.diag(values**-0.5) @ vectors.T

    return whitened(u) @ np.diag(s) @ whitened(v).T


@given(seed=seeds, count=st.integers(2, 6), density=st.sampled_from([0.25, 0.5, 1.0]))
@settings(max_examples=25)
def test_ties_is_the_papers_algorithm(seed: int, count: int, density: float) -> None:
    taus = task_vectors(seed, count)
    expected = ties_reference(taus.double().numpy(), density)
    np.testing.assert_allclose(Ties(density=density).merge(taus).vector, expected, atol=1e-5)


@given(seed=seeds, count=st.integers(2, 6))
@settings(max_examples=25)
def test_emr_is_the_papers_algorithm(seed: int, count: int) -> None:
    taus = task_vectors(seed, count)
    result = Emr().merge(taus)
    for row, expected in enumerate(emr_reference(taus.double().numpy())):
        np.testing.assert_allclose(result.of(row), expected, atol=1e-4)


@given(seed=seeds, count=st.integers(2, 3))
@settings(max_examples=15)
def test_tsv_m_is_the_papers_algorithm(seed: int, count: int) -> None:
    matrices = np.random.default_rng(seed).normal(size=(count, 7, 6))
    about = BlockFacts(pieces=(Piece("w", (7, 6), 0),))
    taus = torch.from_numpy(matrices).float().flatten(1)
    ours = TsvM().merge(taus, about).vector.view(7, 6)
    np.testing.assert_allclose(ours, tsv_reference(matrices), atol=2e-3)


def test_what_tsv_m_takes_is_orthonormal() -> None:
    tall = torch.from_numpy(np.random.default_rng(0).normal(size=(9, 4)))
    near = nearest_orthonormal(tall)
    torch.testing.assert_close(near.T @ near, torch.eye(4, dtype=near.dtype))
    one = task_vectors(1, 1)
    about = BlockFacts(pieces=PIECES)
    torch.testing.assert_close(TsvM().merge(one, about).vector, one[0], rtol=1e-4, atol=1e-5)


def pcb_reference(taus: np.ndarray, keep: float, scale: float) -> np.ndarray:
    """Du et al., section 3, row by row."""
    count, size = taus.shape
    weights = []
    for tau in taus:
        low, high = sorted(abs(tau))[0], sorted(abs(tau))[-1]
        a = np.sign(tau) * np.clip(abs(tau), low, high)
        a = (a - a.min()) / (a.max() - a.min())
        score = np.exp(count * a**2) * np.tanh(tau * taus.sum(0))
        bar = sorted(score)[int(size * (1 - keep))]
        score = np.maximum(score, bar)
        weights.append((score - score.min()) / (score.max() - score.min()))
    mass = np.sum(weights, axis=0)
    total = (np.array(weights) * taus).sum(0)
    return scale * np.divide(total, mass, out=np.zeros(size), where=mass > 0)


@given(seed=seeds, count=st.integers(2, 6), keep=st.sampled_from([0.25, 0.5]))
@settings(max_examples=25)
def test_pcb_is_the_papers_algorithm(seed: int, count: int, keep: float) -> None:
    taus = task_vectors(seed, count)
    ours = Pcb(keep=keep, scale=1.2).merge(taus).vector
    np.testing.assert_allclose(ours, pcb_reference(taus.double().numpy(), keep, 1.2), atol=2e-3)


@given(seed=seeds)
@settings(max_examples=10)
def test_regmean_has_the_least_error_on_the_models_outputs(seed: int) -> None:
    generator = np.random.default_rng(seed)
    inputs, models = generator.normal(size=(3, 20, 4)), generator.normal(size=(3, 5, 4))
    stacked = np.concatenate(list(inputs))
    outputs = np.concatenate([x @ w.T for x, w in zip(inputs, models, strict=True)])
    expected = np.linalg.lstsq(stacked, outputs, rcond=None)[0].T
    statistics = [{"w": torch.from_numpy(x.T @ x)} for x in inputs]
    about = BlockFacts(pieces=(Piece("w", (5, 4), 0),), statistics=statistics)
    taus = torch.from_numpy(models).float().flatten(1)
    ours = RegMean(shrink=1).merge(taus, about).vector.view(5, 4)
    np.testing.assert_allclose(ours, expected, atol=1e-3)


@given(seed=seeds, count=st.integers(1, 5))
@settings(max_examples=15)
def test_consensus_shrinks_as_more_have_to_agree(seed: int, count: int) -> None:
    taus = task_vectors(seed, count)
    kept = [Consensus(agreeing=k).merge(taus).vector != 0 for k in range(count + 2)]
    assert torch.equal(kept[0], TaskArithmetic().merge(taus).vector != 0)
    assert not kept[-1].any()
    assert all((more | ~fewer).all() for more, fewer in pairwise(kept))


@pytest.mark.parametrize(
    "algorithm",
    [a for a in ALL if not isinstance(a, RegMean)],  # whose statistics of a vector are others
    ids=lambda a: a.name,
)
@given(seed=st.integers(0, 99))
@settings(max_examples=10)
def test_weights_are_merged_as_task_vectors_are(algorithm: MergingAlgorithm, seed: int) -> None:
    count = 2 if isinstance(algorithm, Slerp) else 3
    about, base = facts(seed, list(range(count))), task_vectors(seed + 1, 1)[0]
    rows = base + 0.1 * task_vectors(seed, count)
    merged = algorithm.merge_weights(list(rows), base, about)
    apart = algorithm.merge(rows - base, replace(about, base=base)).vector + base
    torch.testing.assert_close(merged, apart, rtol=1e-5, atol=1e-6)


def test_weights_on_a_sphere_are_merged_without_the_base() -> None:
    base, rows = task_vectors(5, 1)[0], task_vectors(6, 2)
    algorithm = Slerp(t=0.3)
    apart = algorithm.merge(rows - base, BlockFacts(base=base)).vector + base
    torch.testing.assert_close(algorithm.merge_weights(list(rows), base), apart)
