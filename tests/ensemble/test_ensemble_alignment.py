"""Scores of different kinds are made comparable; of one kind, they are left as they are."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hansa.ensemble import Alignment, alignments, kind_of
from hansa.ensemble.alignment import ScoreKind, log_odds
from hansa.ensemble.networks import Aligned

KINDS: tuple[ScoreKind, ...] = ("logits", "log_probabilities", "probabilities", "margins")


def logits(seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def said(z: torch.Tensor, kind: ScoreKind) -> torch.Tensor:
    """The same beliefs in another form."""
    if kind == "logits":
        return z + z.sum(-1, keepdim=True)  # their level says nothing
    logs = z.log_softmax(-1)
    return logs.exp() if kind == "probabilities" else logs


@given(st.integers(0, 99), st.integers(2, 6), st.permutations(KINDS))
def test_the_same_beliefs_in_any_form_become_the_same_scores(
    seed: int, classes: int, kinds: list[ScoreKind]
) -> None:
    z = logits(seed, (20, classes)).clamp(-2, 2)  # no probability below the least
    scores = torch.stack([said(z, kind) for kind in kinds])
    aligned = alignments(scores, kinds)
    assert aligned is not None
    first, *others = [align(own) for align, own in zip(aligned, scores, strict=True)]
    for other in others:
        torch.testing.assert_close(other, first, atol=1e-4, rtol=1e-4)


@given(st.integers(0, 99), st.integers(1, 5), st.floats(0.01, 100))
def test_members_are_equally_sure_and_predict_what_they_did(
    seed: int, classes: int, hot: float
) -> None:
    scores = torch.stack([logits(seed, (30, classes)) * hot, logits(seed + 1, (30, classes))])
    if classes > 1:
        scores[1] = scores[1].log_softmax(-1)
    aligned = alignments(scores, ["logits", "margins"])
    assert aligned is not None
    found = torch.stack([align(own) for align, own in zip(aligned, scores, strict=True)])
    sure = found[..., 0] if classes == 1 else found.max(-1).values
    sizes = sure.square().mean(1).sqrt()
    torch.testing.assert_close(sizes[0], sizes[1], rtol=1e-3, atol=1e-5)
    if classes > 1:
        assert torch.equal(found.argmax(-1), scores.argmax(-1))
    else:
        assert torch.equal(found > 0, scores > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_members_of_one_kind_are_left_alone(kind: ScoreKind) -> None:
    assert alignments(said(logits(0, (3, 9, 4)), kind), [kind] * 3) is None


@pytest.mark.parametrize("kind", ["logits", "log_probabilities", "probabilities"])
def test_a_networks_scores_say_what_they_are(kind: ScoreKind) -> None:
    assert kind_of(said(logits(1, (50, 5)), kind)) == kind
    assert kind_of(torch.rand(50, 1)) == "logits"  # one score: a logit


def test_what_is_ruled_out_and_who_has_no_opinion_stay_finite() -> None:
    share = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    flat = torch.zeros(2, 3)
    aligned = alignments(torch.stack([share, flat]), ["probabilities", "logits"])
    assert aligned is not None
    found = [align(own) for align, own in zip(aligned, (share, flat), strict=True)]
    assert all(torch.isfinite(scores).all() for scores in found)
    assert torch.equal(found[1], flat)
    two = log_odds(torch.tensor([[0.0], [0.5], [1.0]]), "probabilities")
    assert torch.isfinite(two).all()
    assert float(two[1]) == 0


def test_an_aligned_member_has_gradients() -> None:
    inner = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Softmax(-1))
    x = torch.rand(4, 2, requires_grad=True)
    Aligned(inner, Alignment("probabilities", 2.0))(x)[:, 0].sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
