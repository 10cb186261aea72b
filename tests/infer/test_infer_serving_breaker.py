"""The circuit breaker against a model of its rules; and the text of Prometheus."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hansa.infer.serving.breaker import LONGEST, Breaker, Permit
from hansa.serving.figures_text import Figures


class Clock:
    """Time that moves where a test moves it."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_success_from_before_it_opened_cannot_close_it() -> None:
    """As reported of ray (pull request 65068)."""
    clock = Clock()
    breaker = Breaker(2, 10, clock)
    slow, a, b = breaker.permit(), breaker.permit(), breaker.permit()
    assert slow
    assert a
    assert b
    breaker.failed(a)
    breaker.failed(b)
    assert breaker.state == "open"
    breaker.succeeded(slow)
    assert breaker.state == "open"
    clock.now += 10
    assert breaker.state == "half_open"
    breaker.succeeded(slow)
    assert breaker.state == "half_open"
    trial = breaker.permit()
    assert trial
    assert breaker.permit() is None  # one trial at a time
    breaker.failed(a)  # nor does a failure from before end the trial
    breaker.succeeded(trial)
    assert breaker.state == "closed"


def test_a_failed_trial_waits_twice_as_long_up_to_an_end() -> None:
    clock = Clock()
    breaker = Breaker(1, 1, clock)
    waits = []
    for _ in range(7):
        permit = breaker.permit()
        assert permit
        breaker.failed(permit)
        waits.append(breaker.wait_left)
        clock.now += breaker.wait_left
    assert waits == [1, 2, 4, 8, LONGEST, LONGEST, LONGEST]
    permit = breaker.permit()
    assert permit
    breaker.succeeded(permit)
    permit = breaker.permit()
    assert permit
    breaker.failed(permit)
    assert breaker.wait_left == 1


def test_a_trial_that_was_given_up_makes_room_for_another() -> None:
    clock = Clock()
    breaker = Breaker(1, 1, clock)
    first = breaker.permit()
    assert first
    breaker.failed(first)
    clock.now += 1
    trial = breaker.permit()
    assert trial
    breaker.ended(trial)
    assert breaker.state == "half_open"
    assert breaker.permit() is not None


def test_a_forced_call_can_close_it_and_cannot_hold_it_open() -> None:
    clock = Clock()
    breaker = Breaker(1, 10, clock)
    before = breaker.forced()
    first = breaker.permit()
    assert first
    breaker.failed(first)
    left = breaker.wait_left
    clock.now += 1
    breaker.failed(breaker.forced())
    assert breaker.wait_left == left - 1
    breaker.succeeded(before)  # begun before it opened
    assert breaker.state == "open"
    breaker.succeeded(breaker.forced())
    assert breaker.state == "closed"


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin, end and overlap in any order."""

    @initialize(failures=st.integers(1, 3))
    def begin(self, failures: int) -> None:
        self.clock, self.failures = Clock(), failures
        self.breaker = Breaker(failures, 5, self.clock)
        self.out: list[tuple[Permit, str]] = []
        self.in_a_row = 0

    @rule()
    def call(self) -> None:
        state = self.breaker.state
        permit = self.breaker.permit()
        if state == "open":
            assert permit is None
        elif state == "closed":
            assert permit is not None
        if permit is not None:
            self.out.append((permit, state))

    @precondition(lambda self: self.out)
    @rule(which=st.integers(0, 100), how=st.sampled_from(["succeeded", "failed", "ended"]))
    def end(self, which: int, how: str) -> None:
        permit, began = self.out.pop(which % len(self.out))
        state, current = self.breaker.state, permit.period == self.breaker._period
        getattr(self.breaker, how)(permit)
        if not current or how == "ended":
            assert self.breaker.state == state
        elif how == "succeeded":
            assert self.breaker.state == "closed"
            assert began in ("closed", "half_open")
            self.in_a_row = 0
        elif state == "closed":
            self.in_a_row += 1
            opened = self.in_a_row >= self.failures
            assert self.breaker.state == ("open" if opened else "closed")
            self.in_a_row *= not opened
        else:
            assert self.breaker.state == "open"

    @rule(seconds=st.sampled_from([1.0, 5.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def at_most_one_trial(self) -> None:
        if hasattr(self, "breaker") and self.breaker.state != "closed":
            current = [p for p, _ in self.out if p.period == self.breaker._period]
            assert len(current) <= 1


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=40, stateful_step_count=30)


def test_figures_are_prometheus_text() -> None:
    figures = Figures()
    figures.describe("calls_total", "counter", "Calls.")
    figures.describe("seconds", "histogram", "Seconds.")
    figures.describe("open", "gauge", "Whether.")
    figures.add("calls_total", 2_000_001, member='a"b\\c\nd')
    figures.observe("seconds", 0.003)
    figures.observe("seconds", 99)
    figures.set("open", 1)
    lines = figures.text().splitlines()
    assert 'calls_total{member="a\\"b\\\\c\\nd"} 2000001' in lines
    assert lines[:2] == ["# HELP calls_total Calls.", "# TYPE calls_total counter"]
    assert 'seconds_bucket{le="0.0025"} 0' in lines
    assert 'seconds_bucket{le="0.005"} 1' in lines
    assert 'seconds_bucket{le="+Inf"} 2' in lines
    assert "seconds_count 2" in lines
    assert "seconds_sum 99.003" in lines
    assert "open 1" in lines
    assert figures.total("calls_total") == 2_000_001
