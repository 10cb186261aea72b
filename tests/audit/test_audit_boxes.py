"""Black boxes in files and functions, and how agents ask them at their pace."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from hansa.audit.asking import Asking, Bucket
from hansa.audit.black_box import Barred, BlackBox, NotServed, Unanswered, word
from hansa.audit.ledger import Ledger
from hansa.audit.population import Attribute, Population
from hansa.base.errors import ConfigError, OwnCodeError, RunError

NAMES = ["sex", "age"]


def population(rows: int = 12, ids: bool = False) -> Population:
    codes = np.arange(rows) % 2
    sex = Attribute("sex", ("man", "woman"), codes.astype(np.int16))
    age = Attribute("age", ("young", "old"), (np.arange(rows) // 2 % 2).astype(np.int16))
    names = np.array([f"m{k}" for k in range(rows)]) if ids else None
    answers = (np.arange(rows) % 3 == 0).astype(np.int8)
    return Population({"sex": sex, "age": age}, answers=answers, ids=names)


def asked(box: Any, people: Population, agent: str = "sex") -> list[int]:
    ask = BlackBox.resolve(box).opened(people, NAMES)
    return ask(np.arange(people.rows), agent, "key").tolist()


def refused(box: Any, people: Population) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        BlackBox.resolve(box).opened(people, NAMES)
    return error.value


def test_words_compare_values_however_they_are_written() -> None:
    assert word(1) == word(1.0) == word("1") == word(np.int8(1)) == "1"
    assert word(True) == "true"
    assert word(float("nan")) is None
    assert word(" yes ") == "yes"


def test_decisions_in_a_table(tmp_path: Path) -> None:
    table = tmp_path / "said.csv"
    lines = [f"m{k},{'grant' if k % 3 == 0 else 'deny' if k % 3 == 1 else ''}" for k in range(12)]
    table.write_text("who,decision\n" + "\n".join(reversed(lines)) + "\n")
    box = {"name": "table", "path": str(table), "decision": "decision", "positive": "grant"}
    assert asked({**box, "id": "who"}, population(ids=True)) == [1, 0, -1] * 4
    # Without ids the lines are in the population's order.
    assert asked(box, population()) == [-1, 0, 1] * 4


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"positive": "granted"}, "positive", "nobody has this decision"),
        ({"decision": "decison"}, "decision", "no such column"),
        ({"path": "none.csv"}, "path", "no such file"),
        ({"id": "whom"}, "id", "no such column"),
        ({"id": ""}, "path", "13 lines, the population 12"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, str], field: str, words: str
) -> None:
    table = tmp_path / "said.csv"
    lines = [f"m{k},{'grant' if k % 3 else 'deny'}" for k in range(13)]
    table.write_text("who,decision\n" + "\n".join(lines) + "\n")
    settings = {"path": str(table), "decision": "decision", "positive": "grant", "id": "who"}
    error = refused({"name": "table", **settings, **change}, population(ids=True))
    assert error.field == field
    assert words in str(error)


def test_a_table_that_says_two_things_or_leaves_members_out(tmp_path: Path) -> None:
    table = tmp_path / "said.csv"
    table.write_text("who,decision\n" + "".join(f"m{k},1\n" for k in range(12)) + "m3,0\n")
    box = {"name": "table", "path": str(table), "decision": "decision", "positive": 1, "id": "who"}
    assert "two things of who m3: a platform that changes its answer" in str(
        refused(box, population(ids=True))
    )
    table.write_text("who,decision\n" + "".join(f"m{k},1\n" for k in range(10)))
    assert "leaves out 2 members of the population, such as m10, m11" in str(
        refused(box, population(ids=True))
    )
    assert asked({**box, "missing": "refused"}, population(ids=True))[-2:] == [-1, -1]
    table.write_text("who,decision\n" + "".join(f"x{k},1\n" for k in range(10)))
    assert "names no member" in str(refused(box, population(ids=True)))


def test_a_parquet_table_of_booleans(tmp_path: Path) -> None:
    import polars as pl

    table = tmp_path / "said.parquet"
    pl.DataFrame({"yes": [k % 2 == 0 for k in range(12)]}).write_parquet(table)
    box = {"name": "table", "path": str(table), "decision": "yes", "positive": True}
    assert asked(box, population()) == [1, 0] * 6


def test_a_function(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "import numpy as np\n"
        "def decide(rows):\n    return [row['sex'] == 'man' for row in rows]\n"
        "def words(rows):\n    return np.array(['ja' if r['id'] < 6 else 'nein' for r in rows])\n"
        "def short(rows):\n    return [1]\n"
        "def odd(rows):\n    return [7] * len(rows)\n"
        "def bad(rows):\n    return [row['income'] for row in rows]\n"
        "def none(rows):\n    return [None] * len(rows)\n"
        "value = 3\n"
    )
    assert asked({"name": "callable", "function": f"{file}:decide"}, population()) == [1, 0] * 6
    box = {"name": "callable", "function": f"{file}:words", "positive": "ja"}
    assert asked(box, population()) == [1] * 6 + [0] * 6
    assert asked({"name": "callable", "function": f"{file}:none"}, population()) == [-1] * 12
    for name, words in {
        "short": "gave 1 decisions for 12 rows",
        "odd": "decided 7",
        "bad": "line 11, in .*: KeyError: 'income'",
    }.items():
        with pytest.raises(OwnCodeError, match=words):
            asked({"name": "callable", "function": f"{file}:{name}"}, population())
    for name, words in {"value": "is no function", "nobody": "has no 'nobody'"}.items():
        assert words in str(
            refused({"name": "callable", "function": f"{file}:{name}"}, population())
        )


def test_a_function_is_given_the_features_of_a_table(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def decide(rows):\n    return [r['income'] > 5 for r in rows]\n"
    )
    table = tmp_path / "people.csv"
    table.write_text("who,income\n" + "".join(f"m{k},{k}\n" for k in reversed(range(12))))
    box = {"name": "callable", "function": f"{tmp_path / 'mine.py'}:decide"}
    whole = {**box, "features": str(table), "id": "who"}
    assert asked(whole, population(ids=True)) == [0] * 6 + [1] * 6
    error = refused({**whole, "columns": ["wealth"]}, population(ids=True))
    assert (error.field, error.value) == ("columns", "wealth")


def test_a_population_of_its_own_and_a_disturbed_one() -> None:
    people = population(3000)
    own = asked("own", people)
    assert own == [1, 0, 0] * 1000
    with pytest.raises(ConfigError, match="no outcomes of its own"):
        asked("own", Population(people.attributes))
    noisy = {"name": "disturbed", "of": "own", "flip": 0.1, "refuse": 0.2, "known": ["age"]}
    sex, age = asked(noisy, people, "sex"), asked(noisy, people, "age")
    assert sex == asked(noisy, people, "sex"), "asking again changes nothing"
    assert abs(np.mean(np.array(sex) == -1) - 0.2) < 0.03
    answered = np.array(sex) >= 0
    assert abs(np.mean(np.array(sex)[answered] != np.array(own)[answered]) - 0.1) < 0.03
    assert np.mean(np.array(age) == 1) > np.mean(np.array(sex) == 1) + 0.15
    error = refused({**noisy, "known": ["him"]}, people)
    assert error.field == "known"
    assert "of.path" in str(refused({"name": "disturbed", "of": {
        "name": "table", "path": "no.csv", "decision": "a", "positive": 1}}, people))  # fmt: skip


class Fickle(BlackBox):
    """A box whose answers are a script: what becomes of each call."""

    script: list[Any] = Field(default_factory=list)
    free: bool = False
    size: int = 2
    speed: float | None = None
    together: bool = False

    @property
    def one_pace(self) -> bool:
        return self.together

    @property
    def batch(self) -> int:
        return self.size

    @property
    def repeatable(self) -> bool:
        return self.free

    @property
    def pace(self) -> tuple[float, int] | None:
        return None if self.speed is None else (self.speed, 2)

    @property
    def patience(self) -> float:
        return 100.0

    def opened(self, people: Population, agents: Sequence[str]) -> Any:
        def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
            step = self.script.pop(0) if self.script else None
            heard.append((agent, rows.tolist(), key))
            if step is not None:
                raise step
            return (rows % 2).astype(np.int8)

        heard: list[tuple[str, list[int], str]] = []
        ask.heard = heard  # type: ignore[attr-defined]
        return ask


class Clock:
    """Time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def asking(tmp_path: Path, box: Fickle, budget: int = 20) -> tuple[Asking, Any, Clock]:
    ledgers = [Ledger.opened(tmp_path / f"{name}.jsonl", name, budget, "") for name in NAMES]
    ask, clock = box.opened(population(), NAMES), Clock()
    return Asking(box, ask, ledgers, clock=clock, sleep=clock.sleep), ask, clock


WANTED = [np.array([1, 2, 3]), np.array([2, 4])]


def test_agents_ask_in_turn_and_nothing_twice(tmp_path: Path) -> None:
    all_, ask, _ = asking(tmp_path, Fickle())
    answers = all_(WANTED)
    assert [one.tolist() for one in answers] == [[1, 0, 1], [0, 0]]
    assert [agent for agent, _, _ in ask.heard] == ["sex", "age", "sex"]
    assert len({key for _, _, key in ask.heard}) == 3
    assert [one.tolist() for one in all_(WANTED)] == [[1, 0, 1], [0, 0]]
    assert len(ask.heard) == 3
    assert all_.spent == 5


def test_a_call_that_was_not_taken_is_made_again_and_spent_once(tmp_path: Path) -> None:
    script = [NotServed("busy", 5.0), None, NotServed("busy"), NotServed("busy")]
    all_, ask, clock = asking(tmp_path, Fickle(script=script))
    assert [one.tolist() for one in all_(WANTED)] == [[1, 0, 1], [0, 0]]
    assert all_.spent == 5
    # While one agent waits, the other asks.
    assert [agent for agent, _, _ in ask.heard[:2]] == ["sex", "age"]
    assert clock.now == 105 + 2 + 4
    assert all_.desks[0].ledger.again == 0


def test_a_lost_answer_is_spent_unless_repeats_are_free(tmp_path: Path) -> None:
    script = [Unanswered("gone")]
    all_, ask, _ = asking(tmp_path, Fickle(script=list(script)))
    assert [one.tolist() for one in all_(WANTED)] == [[-1, -1, 1], [0, 0]]
    assert (all_.spent, all_.desks[0].ledger.count(-2), len(ask.heard)) == (5, 2, 3)
    (tmp_path / "again").mkdir()
    all_, ask, _ = asking(tmp_path / "again", Fickle(script=list(script), free=True))
    assert [one.tolist() for one in all_(WANTED)] == [[1, 0, 1], [0, 0]]
    assert (all_.spent, all_.desks[0].ledger.again, len(ask.heard)) == (5, 1, 4)
    assert len({key for _, _, key in ask.heard}) == 3


def test_a_call_under_way_when_the_audit_was_killed(tmp_path: Path) -> None:
    for free, first in ((False, -1), (True, 1)):
        (tmp_path / str(free)).mkdir()
        all_, _, _ = asking(tmp_path / str(free), Fickle(free=free))
        all_.desks[0].ledger.asking([1])
        all_, ask, _ = asking(tmp_path / str(free), Fickle(free=free))
        assert all_(WANTED)[0].tolist() == [first, 0, 1]
        assert all_.spent == 5
        assert ([1] in [rows for _, rows, _ in ask.heard]) == free


def test_an_account_that_is_barred_and_patience_that_ends(tmp_path: Path) -> None:
    all_, _, _ = asking(tmp_path, Fickle(script=[Barred("401")]))
    with pytest.raises(RunError, match="sex: 401"):
        all_(WANTED)
    all_, _, _ = asking(tmp_path, Fickle(script=[NotServed("busy", 101.0)]))
    with pytest.raises(RunError, match="give_up is 100 s"):
        all_(WANTED)
    all_, _, _ = asking(tmp_path, Fickle())
    assert [one.tolist() for one in all_(WANTED)] == [[1, 0, 1], [0, 0]]
    assert all_.spent == 5


def test_an_interrupt_waits_for_the_call_on_its_way(tmp_path: Path) -> None:
    class Interrupting(Fickle):
        def opened(self, people: Population, agents: Sequence[str]) -> Any:
            def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
                if 3 in rows:
                    signal.raise_signal(signal.SIGINT)
                    time.sleep(0.05)
                return (rows % 2).astype(np.int8)

            return ask

    all_, _, _ = asking(tmp_path, Interrupting(size=1))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            all_(WANTED)
    finally:
        signal.signal(signal.SIGINT, before)
    assert all_.desks[0].ledger.answers == {1: 1, 2: 0, 3: 1}, "the answer is noted all the same"
    assert all_.desks[0].ledger.pending is None


STEPS = st.lists(
    st.sampled_from(["serve", "busy", "lost before", "lost after", "dies before", "dies after"]),
    max_size=25,
)


@settings(max_examples=50)
@given(STEPS, st.booleans(), st.integers(1, 4))
def test_whatever_happens_nothing_is_asked_twice_and_every_query_is_noted_first(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], free: bool, size: int
) -> None:
    """A platform and a machine that fail at any moment; the platform's own log is the judge.

    Where it counts a key once (``free``), every answer comes in the end; where it does not, what
    was lost stays lost, and still nothing is asked twice.
    """
    path = tmp_path_factory.mktemp("failing")
    log: dict[str, list[int]] = {}
    wanted = [np.array([5, 1, 3, 8, 2]), np.array([1, 9, 4])]

    class Failing(Fickle):
        def opened(self, people: Population, agents: Sequence[str]) -> Any:
            def ask(rows: np.ndarray, agent: str, key: str) -> np.ndarray:
                noted = (path / f"{agent}.jsonl").read_text().splitlines()
                assert any(f'"rows":{rows.tolist()}'.replace(" ", "") in one for one in noted)
                assert '"kind":"asking"' in noted[-1] or '"kind":"again"' in noted[-1]
                step = steps.pop(0) if steps else "serve"
                if step == "busy":
                    raise NotServed("busy", 0.0)
                if step == "lost before":
                    raise Unanswered("lost")
                if step == "dies before":
                    raise KeyboardInterrupt
                assert free or key not in log, "a call that may have been counted is made again"
                log[key] = rows.tolist()
                if step == "lost after":
                    raise Unanswered("lost")
                if step == "dies after":
                    raise KeyboardInterrupt
                return (rows % 2).astype(np.int8)

            return ask

    for _ in range(40):
        box = Failing(free=free, size=size)
        ledgers = [Ledger.opened(path / f"{name}.jsonl", name, 5, "") for name in NAMES]
        ask, clock = box.opened(population(), NAMES), Clock()
        try:
            answers = Asking(box, ask, ledgers, clock=clock, sleep=clock.sleep)(wanted)
            break
        except (KeyboardInterrupt, RunError):
            continue
    for ledger, rows, heard in zip(ledgers, wanted, answers, strict=True):
        served = [
            row for key, asked in log.items() if key.startswith(ledger._root) for row in asked
        ]
        assert len(set(served)) == len(served)
        assert set(served) <= set(rows.tolist()) == set(ledger.answers)
        assert ledger.spent == len(rows) <= ledger.budget
        for row, answer in zip(rows.tolist(), heard.tolist(), strict=True):
            assert answer == row % 2 or (answer == -1 and not free)


def test_the_pace_is_kept_by_each_agent(tmp_path: Path) -> None:
    all_, _, clock = asking(tmp_path, Fickle(speed=0.5, size=1))
    all_([np.arange(6), np.arange(3)])
    # Empty at first: one query each 2 s, and the agents do not wait for one another.
    assert clock.now == pytest.approx(100 + 6 / 0.5)
    (tmp_path / "all").mkdir()
    all_, _, clock = asking(tmp_path / "all", Fickle(speed=0.5, size=1, together=True))
    all_([np.arange(6), np.arange(3)])
    assert clock.now == pytest.approx(100 + 9 / 0.5)
    bucket = Bucket(2.0, 3)
    assert bucket.wait(1, 10.0) == 0.5
    assert bucket.wait(1, 1000.0) == 0.0
    assert bucket.tokens == 3
