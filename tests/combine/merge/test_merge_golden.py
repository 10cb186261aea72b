"""Every merging algorithm on vectors that were worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
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
from hansa.combine.merge.algorithms.tsv_m import TsvM


def rows(*values: list[float]) -> Tensor:
    return torch.tensor(values)


def close(vector: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(vector, torch.tensor(expected), rtol=1e-5, atol=1e-6)


TWO = rows([1.0, -2.0, 0.0], [3.0, 4.0, -1.0])


def test_averaging_and_task_arithmetic() -> None:
    close(Averaging().merge(TWO).vector, [2.0, 1.0, -0.5])
    close(Averaging(weights=(1, 3)).merge(TWO).vector, [2.5, 2.5, -0.75])
    close(TaskArithmetic(scale=1.5).merge(TWO).vector, [3.0, 1.5, -0.75])
    close(TaskArithmetic(scale=0.5, form="sum").merge(TWO).vector, [2.0, 1.0, -0.5])
    close(TaskArithmetic(form="sum", weights=(1, -1)).merge(TWO).vector, [-2.0, -6.0, 1.0])


def test_weights_belong_to_models_whichever_are_in_the_group() -> None:
    about = BlockFacts(members=(2, 0))
    close(Averaging(weights=(1, 7, 3)).merge(TWO, about).vector, [1.5, -0.5, -0.25])


def test_ties_by_hand() -> None:
    """Half of four numbers stays; the second's -3 is outvoted by the first's 4."""
    taus = rows([4.0, 1.0, -2.0, 0.5], [-3.0, 0.2, -4.0, 0.1])
    close(Ties(density=0.5).merge(taus).vector, [4.0, 0.0, -3.0, 0.0])
    close(Ties(density=0.5, scale=2).merge(taus).vector, [8.0, 0.0, -6.0, 0.0])
    close(Ties(density=0.5, normalize=False).merge(taus).vector, [4.0, 0.0, -6.0, 0.0])


def test_ties_trims_over_the_model_or_over_each_tensor() -> None:
    taus = rows([4.0, 3.0, 0.2, 0.1])
    pieces = (Piece("a", (2,), 0), Piece("b", (2,), 2))
    about = BlockFacts(pieces=pieces)
    close(Ties(density=0.5).merge(taus, about).vector, [4.0, 3.0, 0.0, 0.0])
    close(Ties(density=0.5, scope="tensor").merge(taus, about).vector, [4.0, 0.0, 0.2, 0.0])


def test_ties_gives_an_even_vote_the_sign_of_the_block() -> None:
    taus = rows([1.0, 2.0, 3.0], [-1.0, 4.0, 1.0])
    close(Ties(density=1).merge(taus).vector, [1.0, 3.0, 2.0])
    close(Ties(density=1).merge(-taus).vector, [-1.0, -3.0, -2.0])


def test_ties_votes_before_or_after_weights() -> None:
    taus, weights = rows([1.0], [-1.0]), (0.2, 0.8)
    before, after = (
        Ties(density=1, weights=weights, vote=vote) for vote in ("before_weights", "after_weights")
    )
    close(before.merge(taus).vector, [0.0])  # a tie
    positive = Ties(density=1, weights=weights, tie="positive")
    close(positive.merge(taus).vector, [1.0])
    close(after.merge(taus).vector, [-1.0])


def test_dare_keeps_and_rescales_what_the_named_stream_says() -> None:
    tau = torch.arange(1.0, 9.0)[None]
    about = BlockFacts(name="mlp", members=(3,), streams=Streams(5))
    draws = Streams(5).numpy("dare.mlp", node=3).random(8, dtype="float32")
    expected = [float(t) * 2 if u >= 0.5 else 0.0 for t, u in zip(tau[0], draws, strict=True)]
    assert 0 < sum(value == 0 for value in expected) < 8
    close(Dare(drop=0.5).merge(tau, about).vector, expected)


def test_dare_that_drops_all_gives_nothing_and_not_nan() -> None:
    close(Dare(drop=1).merge(TWO).vector, [0.0, 0.0, 0.0])
    close(Dare(drop=0).merge(TWO).vector, [2.0, 1.0, -0.5])


def test_dare_is_right_on_average() -> None:
    tau = torch.linspace(-1, 1, 9)[None]
    draws = [
        Dare(drop=0.75).merge(tau, BlockFacts(streams=Streams(seed))).vector for seed in range(3000)
    ]
    torch.testing.assert_close(torch.stack(draws).mean(0), tau[0], rtol=0, atol=0.15)


def test_pcb_by_hand() -> None:
    """Both in [0, 1] by min and max of their own: (1, 0) and (0, 1)."""
    taus = rows([2.0, 1.0], [0.5, 1.0])
    # Scores: e^2 tanh(5) and tanh(2) of the first, tanh(1.25) and e^2 tanh(2) of the second, which
    # are 1 and 0, and 0 and 1, in [0, 1]. So each number is its best competitor's.
    close(Pcb(keep=1, scale=1).merge(taus).vector, [2.0, 1.0])
    close(Pcb(keep=1, scale=1.2).merge(taus).vector, [2.4, 1.2])


def test_pcb_keeps_the_share_that_is_named() -> None:
    tau = torch.arange(1.0, 101.0)[None]
    for keep in (0.1, 0.5):
        merged = Pcb(keep=keep, scale=1).merge(tau).vector
        # The best of those that stay out weighs nothing: what is above it stays.
        assert int((merged != 0).sum()) == round(100 * keep) - 1


def test_emr_by_hand() -> None:
    taus = rows([1.0, -2.0, 3.0], [2.0, 1.0, -1.0])
    merged = Emr().merge(taus)
    close(merged.vector, [2.0, -2.0, 3.0])
    assert merged.masks is not None
    assert merged.scalers is not None
    assert merged.masks.tolist() == [[True, True, True], [True, False, False]]
    close(merged.scalers, [6 / 7, 4 / 2])
    for row, tau in enumerate(taus):
        torch.testing.assert_close(merged.of(row).abs().sum(), tau.abs().sum())


def test_emr_of_the_published_code_sums_means_of_tensors() -> None:
    taus = rows([1.0, -2.0, 3.0], [2.0, 1.0, -1.0])
    pieces = (Piece("bias", (1,), 0), Piece("weight", (2,), 1))
    merged = Emr(scaler="official").merge(taus, BlockFacts(pieces=pieces))
    assert merged.scalers is not None
    close(merged.scalers, [(1 + 2.5) / (2 + 2.5), (2 + 1) / 2])


def test_emr_is_exact_for_equal_models_and_for_disjoint_ones() -> None:
    same = rows([1.0, -2.0, 0.5]).repeat(3, 1)
    apart = rows([1.0, 0.0, 0.0], [0.0, -2.0, 0.0], [0.0, 0.0, 3.0])
    for taus in (same, apart):
        merged = Emr().merge(taus)
        for row, tau in enumerate(taus):
            torch.testing.assert_close(merged.of(row), tau)


def test_tall_mask_by_hand() -> None:
    """The mean is (2, 1): the first needs 1 > 0.5 · 1 and |-2| > 0.5 · 3, the second both too."""
    taus = rows([1.0, -2.0, 0.1], [3.0, 4.0, 3.9])
    merged = TallMask(threshold=0.5).merge(taus)
    close(merged.vector, [2.0, 1.0, 2.0])
    assert merged.masks is not None
    assert merged.scalers is None
    assert merged.masks.tolist() == [[True, True, False], [True, True, True]]
    close(merged.of(0), [2.0, 1.0, 0.0])


def test_consensus_keeps_what_enough_tasks_need() -> None:
    taus = rows([1.0, -2.0, 0.1], [3.0, 4.0, 3.9])
    for agreeing, expected in ((0, [2.0, 1.0, 2.0]), (1, [2.0, 1.0, 2.0]), (2, [2.0, 1.0, 0.0])):
        close(Consensus(threshold=0.5, agreeing=agreeing).merge(taus).vector, expected)
    close(Consensus(threshold=0.5, agreeing=3).merge(taus).vector, [0.0, 0.0, 0.0])


def test_tsv_m_by_hand() -> None:
    """Two matrices whose strongest directions are orthogonal already: both stay whole."""
    first, second = torch.tensor([[5.0, 0], [0, 1]]), torch.tensor([[1.0, 0], [0, 7]])
    taus = torch.stack([first.flatten(), second.flatten()])
    about = BlockFacts(pieces=(Piece("w", (2, 2), 0),))
    close(TsvM().merge(taus, about).vector, [5.0, 0.0, 0.0, 7.0])
    close(TsvM(scale=2).merge(taus[:1], about).vector, [10.0, 0.0, 0.0, 2.0])
    close(TsvM().merge(taus).vector, [3.0, 0.0, 0.0, 4.0])  # no matrix: the mean


def test_slerp_by_hand() -> None:
    about = BlockFacts(base=torch.zeros(2))
    ends = rows([1.0, 0.0], [0.0, 1.0])
    half = 0.5**0.5
    close(Slerp().merge(ends, about).vector, [half, half])
    close(Slerp(t=0).merge(ends, about).vector, [1.0, 0.0])
    close(Slerp(t=1 / 3, of="deltas").merge(ends).vector, [3**0.5 / 2, 0.5])
    close(Slerp(t=0.25).merge(rows([1.0, 1.0], [3.0, 3.0]), about).vector, [1.5, 1.5])
    # Around a base of (1, 0), weights (2, 0) and (1, 1) lie 45 degrees apart.
    moved = Slerp().merge(ends, BlockFacts(base=torch.tensor([1.0, 0.0]))).vector
    factor = torch.sin(torch.tensor(torch.pi / 8)) / torch.sin(torch.tensor(torch.pi / 4))
    close(moved, [float(3 * factor) - 1, float(factor)])


def test_fisher_and_regmean_by_hand() -> None:
    about = BlockFacts(
        pieces=(Piece("w", (1, 2), 0),),
        statistics=[{"w": torch.tensor([[1.0, 0]])}, {"w": torch.tensor([[3.0, 0]])}],
    )
    close(Fisher().merge(rows([1.0, 2.0], [5.0, 4.0]), about).vector, [4.0, 3.0])
    grams = [{"w": torch.diag(torch.tensor([1.0, 0]))}, {"w": torch.diag(torch.tensor([3.0, 0]))}]
    about = BlockFacts(pieces=(Piece("w", (1, 2), 0),), statistics=grams)
    # Where no input came the base stays.
    close(RegMean().merge(rows([1.0, 2.0], [5.0, 4.0]), about).vector, [4.0, 0.0])


@pytest.mark.parametrize(
    ("algorithm", "models", "field"),
    [
        (Slerp(), 3, "algorithms"),
        (Fisher(), 2, "files"),
        (RegMean(files=("a.safetensors",)), 2, "files"),
        (Averaging(weights=(1, 2)), 3, "weights"),
        (Averaging(weights=(0, 0)), 2, "weights"),
        (Ties(weights=(1, -2)), 2, "weights"),
        (Dare(inner=Slerp()), 3, "algorithms"),
        (TallMask(inner=TaskArithmetic(weights=(1,))), 2, "weights"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    algorithm: MergingAlgorithm, models: int, field: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        algorithm.check(models)
    assert caught.value.field == field


def test_masks_over_masks_are_refused() -> None:
    with pytest.raises(ConfigError, match="has masks already"):
        TallMask.parse({"inner": "emr"})


def test_statistics_that_do_not_fit_are_refused() -> None:
    about = BlockFacts(pieces=(Piece("w", (2,), 0),), statistics=[{}, {}])
    with pytest.raises(ConfigError, match="no Fisher information of this tensor"):
        Fisher().merge(rows([1.0, 2.0], [5.0, 4.0]), about)
    bad: list[dict[str, Tensor]] = [{"w": torch.tensor([1.0, -1.0])}] * 2
    about = BlockFacts(pieces=(Piece("w", (2,), 0),), statistics=bad)
    with pytest.raises(ConfigError, match="0 or more"):
        Fisher().merge(rows([1.0, 2.0], [5.0, 4.0]), about)
