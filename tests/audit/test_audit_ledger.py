"""The ledger: every query is in it before it goes, and what is in it cannot be changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.audit.ledger import Ledger
from hansa.base.errors import CheckpointError, RunError


def opened(path: Path, budget: int = 10) -> Ledger:
    return Ledger.opened(path, "sex", budget, "of")


def test_what_is_asked_and_answered_is_there_again(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "a.jsonl")
    ledger.answered(ledger.asking([3, 1]), np.array([1, -1]))
    ledger.lost(ledger.asking([4]), "gone")
    again = opened(tmp_path / "a.jsonl")
    assert again.answers == {3: 1, 1: -1, 4: -2}
    assert (again.spent, again.calls, again.pending, again.head) == (3, 2, None, ledger.head)
    assert again.key(0) == ledger.key(0) != again.key(1)


def test_a_query_is_spent_once_it_is_noted(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "a.jsonl")
    ledger.asking([3, 1])
    again = opened(tmp_path / "a.jsonl")
    assert again.spent == 2
    assert again.pending is not None
    assert again.pending.state == "asking"
    again.deferred(again.pending, "429")
    assert opened(tmp_path / "a.jsonl").pending.state == "deferred"  # type: ignore[union-attr]
    assert again.spent == 2


def test_the_budget_and_a_row_asked_twice_are_a_last_guard(tmp_path: Path) -> None:
    ledger = opened(tmp_path / "a.jsonl", budget=3)
    ledger.answered(ledger.asking([3, 1]), np.array([1, 0]))
    for rows in ([1], [5, 5], [5, 6]):
        with pytest.raises(RunError, match="would ask"):
            ledger.asking(rows)
    call = ledger.asking([7])
    with pytest.raises(RunError, match="without an answer"):
        ledger.asking([8])
    for answers in ([1, 1], [2]):
        with pytest.raises(RunError, match="one a query"):
            ledger.answered(call, np.array(answers))


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.sampled_from([1, 0, -1]), min_size=1, max_size=3), max_size=5),
    st.floats(0, 1),
)
def test_a_ledger_cut_anywhere_is_read_up_to_there(
    tmp_path_factory: pytest.TempPathFactory, calls: list[list[int]], share: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "a.jsonl"
    ledger = opened(path, budget=100)
    row = 0
    for answers in calls:
        call = ledger.asking(range(row, row + len(answers)))
        ledger.answered(call, np.array(answers))
        row += len(answers)
    blob = path.read_bytes()
    end = round(share * len(blob))
    path.write_bytes(blob[:end])
    again = opened(path, budget=100)
    whole = blob[:end].count(b"\n")
    assert again.calls == max(0, whole) // 2
    rest = blob[:end].rpartition(b"\n")[2]
    assert (again.set_aside is not None) == bool(rest)
    if again.set_aside is not None:
        assert again.set_aside.read_bytes() == rest
    assert set(again.answers) <= set(range(row))
    assert opened(path, budget=100).head == again.head


def test_a_changed_line_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    ledger = opened(path)
    ledger.answered(ledger.asking([3]), np.array([0]))
    ledger.answered(ledger.asking([4]), np.array([0]))
    lines = path.read_text().splitlines()
    for number in range(len(lines)):
        changed = json.loads(lines[number])
        changed["time"] += 1
        path.write_text(
            "\n".join([*lines[:number], json.dumps(changed), *lines[number + 1 :]]) + "\n"
        )
        with pytest.raises(CheckpointError, match=f"line {number + 1} does not follow"):
            opened(path)
    path.write_text("\n".join([*lines[:2], *lines[3:]]) + "\n")
    with pytest.raises(CheckpointError, match="line 3 does not follow"):
        opened(path)


def test_the_ledger_of_another_audit_is_refused(tmp_path: Path) -> None:
    opened(tmp_path / "a.jsonl")
    with pytest.raises(CheckpointError, match="another audit"):
        opened(tmp_path / "a.jsonl", budget=11)
