"""Bytes: FENS's published ratios, and the formula against what is counted (FENS check 5)."""

from pathlib import Path

import pytest

from hansa.combine.ensemble import AggregateSettings, cost, fit
from hansa.engine.exchange.wire import HEADER_BYTES
from hansa.ensemble import PerClass

from .conftest import made_up


@pytest.mark.parametrize(
    ("parameters", "aggregator", "own", "ratio"),
    [
        (4_911_754, 8450, True, 4.36),
        (4_911_754, 8450, False, 4.24),
        (5_096_164, 2000, True, 3.70),
        (5_096_164, 2000, False, 3.57),
    ],
)
def test_ratios_to_one_shot_are_the_published_ones(
    parameters: int, aggregator: int, own: bool, ratio: float
) -> None:
    size = 4.0 * parameters
    found = cost.ensemble(size, 20, aggregator, 500, own=own) / cost.one_shot(size)
    assert found == pytest.approx(ratio, abs=0.005)


def test_iterative_learning_costs_a_one_shot_a_round() -> None:
    assert cost.iterative(100.0, 47) / cost.one_shot(100.0) == 47


def test_what_phase_2_sends_is_the_formula_headers_and_invitations(tmp_path: Path) -> None:
    scores, rounds = made_up(), 5
    found = fit(PerClass(), scores, AggregateSettings(rounds=rounds), 1, tmp_path / "run")
    assert found.parameters == 12
    clients = len(scores.parts)
    formula = clients * (cost.ensemble(0, 0, found.parameters, rounds))
    invitation = HEADER_BYTES + 7  # a table of three numbers: steps, and when they are due
    assert found.bytes_sent == formula + clients * rounds * (2 * HEADER_BYTES + invitation)
