"""``hansa infer serve`` on this machine: what it adds, what early decisions save, what it survives.

Members are processes with answers made up from the question, so that the true class is known; the
aggregate is the command itself (trimmed mean, f = 1), and all speak over loopback.

    python benchmarks/infer/serving.py [--smoke]

Latencies of a few milliseconds want a machine that does nothing else, or ``chrt -f 40`` before it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
from measure import Goals, markdown, publish  # noqa: E402
from measure_serving import (  # noqa: E402
    Fleet,
    Heard,
    alone,
    at_a_rate,
    one_by_one,
    served,
    with_killing,
)

MEMBERS, QUORUM, RATE = 7, 3, 50.0


def ms(seconds: list[float], q: float = 50) -> float:
    """A percentile in milliseconds."""
    return 1000 * float(np.percentile(seconds, q))


def told(heard: list[Heard]) -> str:
    """How many were answered, and how."""
    answered = [one for one in heard if one.status == 200]
    wrong = sum(not one.right for one in answered)
    lost = len(heard) - len(answered)
    certified = sum(one.certified for one in answered)
    errors = sorted({one.status for one in heard} - {200})
    return (
        f"{len(heard)} asked, {lost} without an answer"
        f"{' (status ' + ', '.join(map(str, errors)) + ')' if errors else ''}, {wrong} wrong, "
        f"{100 * certified / max(1, len(answered)):.0f} % certified, "
        f"p50 {ms([one.seconds for one in heard]):.1f} ms, "
        f"p99 {ms([one.seconds for one in heard], 99):.0f} ms"
    )


def clean(heard: list[Heard]) -> bool:
    """Whether nothing was lost and nothing wrong."""
    return all(one.status == 200 and one.right for one in heard)


def overhead(goals: Goals, folder: Path, questions: int) -> None:
    """What the aggregate adds to the slowest member that it waited for, all seven needed.

    Members are in one process and their delays are apart, so that little shares the cores.
    """
    delays = [5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 40.0]
    fleet = Fleet(["honest"] * MEMBERS, delays, together=True)
    with served(fleet, folder, MEMBERS, early=False) as port:
        asyncio.run(one_by_one(port, 20))
        direct = asyncio.run(alone(fleet.ports[-1], questions))
        heard = asyncio.run(one_by_one(port, questions))
    whole = [one.seconds for one in heard]
    within = [one.seconds - one.slowest_s for one in heard]
    # A member's delay follows from the question: each question is compared with itself.
    added = ms([one - other for one, other in zip(whole, direct, strict=True)])
    goals.add(
        "the slowest of seven members (about 40 ms), asked directly, median", f"{ms(direct):.2f} ms"
    )
    goals.add("all seven asked through the aggregate, median", f"{ms(whole):.2f} ms")
    goals.add("added to the slowest needed member, median", f"{added:.2f} ms", "< 2 ms", added < 2)
    goals.add(
        "of it outside of the members' own calls, median",
        f"{ms(within):.2f} ms (p90 {ms(within, 90):.2f})",
    )


def early(goals: Goals, folder: Path, questions: int) -> None:
    """What not waiting saves: six members of 10 ms, a straggler of 200 ms."""
    found = {}
    for decide in (False, True):
        fleet = Fleet(["honest"] * MEMBERS, [10.0] * 6 + [200.0])
        with served(fleet, folder, QUORUM, early=decide) as port:
            asyncio.run(one_by_one(port, 20))
            found[decide] = asyncio.run(at_a_rate(port, questions, RATE))
    for decide, heard in found.items():
        goals.add(f"with a straggler, early: {str(decide).lower()}", told(heard), "", clean(heard))
    share = sum(one.early for one in found[True]) / questions
    before, after = (ms([one.seconds for one in found[way]]) for way in (False, True))
    mean = [np.mean([one.seconds for one in found[way]]) * 1000 for way in (False, True)]
    goals.add("decided early", f"{100 * share:.0f} % of the answers")
    goals.add("saved", f"p50 {before - after:.0f} ms, mean {mean[0] - mean[1]:.0f} ms")


def four_of_seven(goals: Goals, folder: Path, questions: int) -> None:
    """One dead, one slow, one lying, one garbage."""
    kinds = ["dead", "slow", "lying", "garbage", "honest", "honest", "honest"]
    with served(Fleet(kinds, [10.0] * MEMBERS), folder, QUORUM) as port:
        heard = asyncio.run(at_a_rate(port, questions, RATE))
    within = all(one.seconds < 2 for one in heard)
    goals.add("one dead, one slow, one lying, one garbage", told(heard), "none lost, none wrong",
              clean(heard))  # fmt: skip
    goals.add("all within the deadline of 2 s", f"longest {ms([h.seconds for h in heard], 100):.0f}"
              " ms", "2000 ms", within)  # fmt: skip


def killing(goals: Goals, folder: Path, seconds: float) -> None:
    """Members killed and started again under load; one of seven lies all the while."""
    fleet = Fleet(["honest"] * 6 + ["lying"], [10.0] * MEMBERS)
    with served(fleet, folder, QUORUM) as port:
        heard, kills = asyncio.run(with_killing(fleet, port, seconds, RATE))
    goals.add(
        f"{seconds:.0f} s at {RATE:.0f} a second, {kills} times a member killed, one lying",
        told(heard), "none lost, none wrong", clean(heard),
    )  # fmt: skip


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    goals = Goals()
    real_time = os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR)
    way = "real-time priority (chrt -f 40)" if real_time else "usual priority"
    goals.add("how it ran", f"{way}, load average {os.getloadavg()[0]:.1f} when it began")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        overhead(goals, folder, 5 if smoke else 400)
        if not smoke:
            early(goals, folder, 600)
        four_of_seven(goals, folder, 10 if smoke else 600)
        if not smoke:
            killing(goals, folder, 60)
    title = "Seven members served as one: overhead, early decisions, faults"
    command = "python benchmarks/infer/serving.py"
    publish("serving", markdown(title, command, Goals.HEADER, goals.rows), smoke)


if __name__ == "__main__":
    main()
