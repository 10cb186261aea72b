"""Aggregation rules: their laws (FENS checks 2 and 4), sizes and gradients."""

import itertools
import math

import numpy as np
import pytest
import torch

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.base.streams import Streams
from hansa.ensemble import (
    Aggregator,
    Average,
    Buffered,
    DeepSet,
    Experts,
    LabelWeighted,
    Linear,
    Mean,
    Median,
    Neural,
    Panel,
    PerClass,
    Residual,
    Robust,
    TrimmedMean,
    Voting,
    as_combiner,
    average,
    initial_rule,
    rows_of,
    tally,
)

M, C, B = 5, 3, 40


def logits(seed: int = 0, members: int = M, outputs: int = C) -> torch.Tensor:
    return torch.randn(members, B, outputs, generator=torch.Generator().manual_seed(seed)) * 4


def panel(outputs: int = C, members: int = M) -> Panel:
    counts = torch.arange(members * max(outputs, 2)).view(members, -1)
    return Panel(members, outputs, counts, (1, 4, 4))


def size(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", sorted(catalogue("rule")))
@pytest.mark.parametrize("outputs", [C, 1])
def test_every_rule_maps_rows_to_scores_and_is_the_same_for_a_seed(name: str, outputs: int) -> None:
    rule, given = catalogue("rule")[name](), panel(outputs)
    scores = logits(outputs=outputs)
    targets = torch.arange(B) % given.classes
    votes = tally(scores, targets) if rule.counts_votes else None
    first, again = (initial_rule(rule, given, Streams(3), votes) for _ in range(2))
    x = torch.randn(B, 1, 4, 4)
    rows = rows_of(scores, x if rule.sees_input else None)
    first.eval(), again.eval()
    assert first(rows).shape == (B, outputs)
    assert torch.equal(first(rows), again(rows))
    assert bool(size(first)) == rule.learned
    assert torch.isfinite(first(rows)).all()


@pytest.mark.parametrize("outputs", [C, 1])
def test_weights_start_as_the_average_bit_for_bit(outputs: int) -> None:
    given, rows = panel(outputs), rows_of(logits(outputs=outputs))
    mean = Average().build(given)(rows)
    assert torch.equal(mean, PerClass().build(given)(rows))
    assert torch.equal(mean, Linear().build(given)(rows))
    plain = LabelWeighted().build(given)(rows)
    assert torch.allclose(plain, Residual().build(given)(rows), atol=1e-5)
    assert torch.allclose(mean, average(logits(outputs=outputs)), atol=1e-6)
    assert torch.equal(mean, as_combiner(Average().build(given))(logits(outputs=outputs)))


class Nearest(Buffered):
    """The row nearest to all others: it looks at rows, not at numbers."""

    def combine(self, rows: torch.Tensor, weights: np.ndarray) -> torch.Tensor:
        return rows[torch.cdist(rows, rows).sum(1).argmin()]


@pytest.mark.parametrize("outputs", [C, 1])
def test_any_aggregator_of_rows_makes_a_rule_of_scores(outputs: int) -> None:
    given, z = panel(outputs), logits(outputs=outputs)
    rows, alike = rows_of(z), np.full(M, 1 / M)
    assert torch.equal(Robust().build(given)(rows), z.median(0).values)
    mean = Robust(aggregator=Mean()).build(given)(rows)
    torch.testing.assert_close(mean, Average().build(given)(rows))
    for aggregator in (Median(), TrimmedMean(f=2), Nearest()):
        found = Robust(aggregator=aggregator).build(given)(rows)
        assert torch.equal(found, torch.stack([aggregator.of(z[:, b], alike) for b in range(B)]))


@pytest.mark.parametrize("outputs", [C, 1])
@pytest.mark.parametrize(
    "name",
    ["mean", "median", "trimmed_mean", "geometric_median", "krum", "multi_krum", "nnm",
     "bucketing", "centered_clipping", "majority_vote"],
)  # fmt: skip
def test_any_aggregator_makes_one_of_the_members_scores(name: str, outputs: int) -> None:
    aggregator = Aggregator.resolve({"name": name})
    z = logits(outputs=outputs)
    scores = Robust(aggregator=aggregator).build(panel(outputs))(rows_of(z))
    assert scores.shape == (B, outputs)
    torch.testing.assert_close(scores, aggregator.many(z.transpose(0, 1)))


def test_too_few_members_for_an_aggregator_are_told() -> None:
    with pytest.raises(ConfigError, match="trimmed_mean needs 7 members, and there are 5"):
        Robust(aggregator=TrimmedMean(f=3)).build(panel())


def test_neural_does_not_change_when_members_and_their_rows_of_the_first_layer_swap() -> None:
    rule = initial_rule(Neural(), panel(), Streams(1))
    order = [3, 0, 4, 1, 2]
    swapped = initial_rule(Neural(), panel(), Streams(1))
    with torch.no_grad():
        weight = swapped[0].weight.view(-1, M, C)
        weight.copy_(rule[0].weight.view(-1, M, C)[:, order].clone())
    z = logits()
    assert torch.allclose(rule(rows_of(z)), swapped(rows_of(z[order])), atol=1e-5)


def test_a_deep_set_knows_no_order_and_takes_fewer_members() -> None:
    rule, z = initial_rule(DeepSet(), panel(), Streams(1)), logits()
    assert torch.allclose(rule(rows_of(z)), rule(rows_of(z[[4, 2, 0, 1, 3]])), atol=1e-5)
    rule.panel = panel().without(4)
    assert rule(rows_of(z[:4])).shape == (B, C)


def test_votes_in_log_space_are_the_product_rule() -> None:
    members, classes = 3, 3
    z, targets = logits(members=members), torch.arange(B) % classes
    votes = tally(z, targets)
    assert votes.sum().item() == members * B
    found = Voting(smoothing=1e-9).build(Panel(members, classes), votes)(rows_of(z))
    share = (votes + 1e-9 / classes) / (votes + 1e-9 / classes).sum(-1, keepdim=True)
    said = z.argmax(-1)
    for b, r in itertools.product(range(B), range(classes)):
        product = math.prod(float(share[j, r, said[j, b]]) for j in range(members))
        assert found[b, r].item() == pytest.approx(math.log(product), rel=1e-5)


def test_votes_stay_finite_with_a_class_that_nobody_saw_and_many_members() -> None:
    z = logits(members=60)
    votes = tally(z, torch.zeros(B, dtype=torch.long))
    scores = Voting().build(Panel(60, C), votes)(rows_of(z))
    assert torch.isfinite(scores).all()
    unseen = Voting().build(Panel(1, C), torch.zeros(1, C, C))
    assert torch.allclose(unseen.competency.exp(), torch.full((1, C, C), 1 / C))


def test_label_weights_are_finite_without_a_class_and_need_counts() -> None:
    counts = torch.tensor([[3, 0, 0], [1, 2, 0]])
    rule = LabelWeighted().build(Panel(2, C, counts))
    assert torch.allclose(rule.weights[:, 2], torch.tensor([0.5, 0.5]))
    assert torch.allclose(rule.weights[:, 0], torch.tensor([0.75, 0.25]))
    with pytest.raises(ConfigError, match="how many examples"):
        LabelWeighted().build(Panel(2, C))


def test_parameter_counts_are_the_published_ones() -> None:
    assert size(Neural().build(Panel(20, 10))) == 8450
    assert size(PerClass().build(Panel(20, 100))) == 2000
    assert size(Linear().build(Panel(20, 10))) == 21
    assert size(Experts().build(Panel(20, 10, None, (3, 32, 32)))) == 62_856
