"""Runs of robust inference: clients answer, rules learn, liars lie, and a table says who stands.

::

    config.yaml, environment.json, events.jsonl, summary.json, report.html   as of any run
    clients/1/              of each seed: the clients' models and runs, where hansa trains them
    clients/1.safetensors   of each seed: what clients say of the server's and of test examples
    learned/                what rules have learned, by seed
    measured/               a file for each seed and rule, as soon as it is measured
    aggregators/            rules that answer (see ``rule_store.py``)
    table.json              the table
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import bundle_file, read_bundle, read_facts, write_bundle
from hansa.base.errors import ConfigError, HansaError
from hansa.base.files import write_json
from hansa.base.lazy import torch
from hansa.base.own_code import in_own_code
from hansa.base.spec import DataSpec
from hansa.base.streams import Streams
from hansa.ensemble.kvote import kvote
from hansa.experiment.clients import Answers
from hansa.experiment.hosting import HostedWork, Hosting
from hansa.infer.robust.cached_scores import keep_answers, kept_answers
from hansa.infer.robust.entries import Entry
from hansa.infer.robust.learned import LearnedAggregator
from hansa.infer.robust.measuring_attacks import Suite, measure
from hansa.infer.robust.robust_file import RobustFile
from hansa.infer.robust.rule_store import built, save_aggregators
from hansa.infer.robust.score_aggregator import ScoreAggregator
from hansa.infer.robust.server_set import ServerSet, check_classes
from hansa.infer.robust.summing_up import TABLE, summed_up
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

Say = Callable[[str], None]
_SETS = 16
"""Sets of liars under whom rules are judged: there are few examples, and many sets."""


def robust(
    settings: RobustFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Measure rules against liars, in a new run folder.

    Raises:
        ConfigError: a setting that cannot work, before anything is trained or asked.
        DataError: data or answers are missing or damaged.
        RunError: training failed.
    """
    return _hosted_work(say).begin(settings, out, report)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run that was interrupted: what was trained and measured is kept.

    Raises:
        CheckpointError: the folder is another verb's, or is damaged.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    return _hosted_work(say).resume(run, report, changes)


def _hosted_work(say: Say) -> HostedWork[RobustFile, None]:
    def work(hosting: Hosting, chosen: RobustFile, prepared: None) -> None:
        _Work(hosting, chosen, say).do()

    return HostedWork(RobustFile, check, work)


def check(chosen: RobustFile) -> None:
    """All that can be checked before anybody is trained or asked.

    Raises:
        ConfigError: settings that cannot work; names the field.
    """
    members = chosen.clients.count()
    if members is not None:
        chosen.check(members)
    chosen.rules(), chosen.suite()
    chosen.clients.check()


class _Work:
    """A run under way."""

    def __init__(self, hosting: Hosting, chosen: RobustFile, say: Say) -> None:
        self.folder, self.chosen, self.say = hosting.folder, chosen, say
        self.rules = chosen.rules()
        self.measured: list[dict[str, Any]] = []
        self.about: dict[str, Any] = {}
        hosting.facts = self.facts

    def facts(self) -> dict[str, Any]:
        """What the summary says, as far as the work has come."""
        return {**self.about, "seeds": sorted({one["seed"] for one in self.measured}),
                "final": summed_up(self.measured, self.chosen.f)}  # fmt: skip

    def do(self) -> None:
        """All seeds, then the rules as they answer."""
        learned: dict[str, dict[str, Tensor]] = {}
        for seed in range(self.chosen.seed, self.chosen.seed + self.chosen.repeats):
            answers = self._answers(seed)
            of_seed = self._seed(seed, answers)
            learned = learned or of_seed
        kept, why = self._kept()
        self.about |= {"kept": kept, "why": why}
        facts = {key: self.about[key] for key in ("members", "classes", "class_names", "f")}
        save_aggregators(self.folder.path, self.rules, learned, kept, facts)
        final = summed_up(self.measured, self.chosen.f)
        self.folder.write_json(TABLE, {**self.about, **final, "each": self.measured})

    def _answers(self, seed: int) -> Answers:
        """What clients say, now or before an interrupt."""
        place = self.folder.path / "clients" / str(seed)
        if bundle_file(place).exists():
            answers = kept_answers(place)
        else:
            server = self.chosen.clients.server_set(seed) if self._learners() else None
            if server is not None:
                check_classes(*server)
            answers = self.chosen.clients.answers(seed, place, self.say)
            self._check(answers)
            keep_answers(place, answers)
        self._check(answers)
        alone = [float((answers.test[:, k].argmax(-1) == answers.test_labels).double().mean())
                 for k in range(answers.members)]  # fmt: skip
        if not self.about:
            self.about = {
                "members": answers.members,
                "classes": answers.classes,
                "class_names": list(answers.class_names),
                "f": self.chosen.f,
                "test_examples": len(answers.test),
                "server_examples": 0 if answers.server is None else len(answers.server),
                "alone": alone,
                "notes": list(answers.notes),
            }
        return answers

    def _check(self, answers: Answers) -> None:
        self.chosen.check(answers.members)
        learns = self._learners()
        if not learns:
            return
        if answers.server is None or answers.server_labels is None:
            problem = "learns from answers to the server's own examples, and there are none"
            fix = "answers with a server split, or aggregators that learn nothing"
            raise ConfigError("aggregators", learns[0], problem, fix)
        check_classes(answers.server_labels, answers.classes, answers.class_names)

    def _learners(self) -> list[str]:
        return [name for name, e in self.rules.items() if isinstance(e, LearnedAggregator)]

    def _seed(self, seed: int, answers: Answers) -> dict[str, dict[str, Tensor]]:
        """Train and measure every rule; returns what they learned, by name."""
        streams = Streams(seed)
        test = ServerSet(answers.test, answers.test_labels)
        server = learning = judging = None
        if answers.server is not None and answers.server_labels is not None:
            server = ServerSet(answers.server, answers.server_labels)
            learning, judging = server.held_out(self.chosen.held_out, streams.numpy("held out"))
        learned: dict[str, dict[str, Tensor]] = {}
        trained: dict[str, tuple[dict[str, Tensor], float]] = {}
        for k, (name, entry) in enumerate(self.rules.items()):
            seconds = 0.0
            if isinstance(entry, LearnedAggregator):
                assert learning is not None
                assert judging is not None
                key = entry.training_key
                if key not in trained:
                    place = self.folder.path / "learned" / f"seed_{seed}_rule_{k:02d}"
                    trained[key] = self._learn(entry, name, learning, judging, streams, place)
                learned[name], seconds = trained[key]
            place = self.folder.path / "measured" / f"seed_{seed}_rule_{k:02d}.json"
            before = self._before(place)
            if before is None:
                before = {"seed": seed, "aggregator": name, "train_seconds": seconds}
                with _own(entry, name):
                    rule = built(entry, name, answers.classes, learned.get(name))
                    before |= self._measure(rule, name, test, server, judging, streams)
                write_json(place, before)
            self.measured.append(before)
        return learned

    @staticmethod
    def _before(place: Path) -> dict[str, Any] | None:
        """What was measured before an interrupt, if it was."""
        return read_facts(place, "remove it, to measure it anew") if place.exists() else None

    def _learn(
        self,
        entry: LearnedAggregator,
        name: str,
        learning: ServerSet,
        judging: ServerSet,
        streams: Streams,
        place: Path,
    ) -> tuple[dict[str, Tensor], float]:
        """What a rule learns and how long it took, now or before an interrupt."""
        if bundle_file(place).exists():
            facts, tensors = read_bundle(place)
            return tensors, float(facts["seconds"])
        begun_at = time.perf_counter()
        said = self._telling(f"{name} learns")
        with _own(entry, name):
            tensors = entry.train(learning, judging, self.chosen.f, streams, said)
        seconds = time.perf_counter() - begun_at
        write_bundle(place, {"seconds": seconds}, tensors)
        return tensors, seconds

    def _measure(
        self,
        rule: ScoreAggregator,
        name: str,
        test: ServerSet,
        server: ServerSet | None,
        judging: ServerSet | None,
        streams: Streams,
    ) -> dict[str, Any]:
        chosen = self.chosen
        suite = Suite(
            chosen.suite(),
            chosen.f,
            chosen.identities,
            chosen.spread(test.members),
            streams,
            server,
            self._telling(name),
        )
        result = measure(rule, test, suite)
        facts = {
            "rows": result.rows,
            "how": result.how,
            "seconds": result.seconds,
            "query_ms": result.query_ms,
            "certify_ms": result.certify_ms,
            "figures": self._figures(rule, test),
            **self._margins(rule, test),
        }
        if judging is not None:
            facts["judged"] = _judged(rule, judging, chosen.f, streams)
        return facts

    def _margins(self, rule: ScoreAggregator, test: ServerSet) -> dict[str, Any]:
        """Of some queries the margin of the answer and its f*, for the picture."""
        if "certified" not in self.chosen.identities:
            return {}
        some = slice(0, 300)
        with torch.no_grad():
            shares = rule.shares(rule.scores(test.probabilities[some]))
            largest = rule.largest_f(test.probabilities[some])
        top = shares.topk(2, -1).values
        right = shares.argmax(-1) == test.labels[some]
        return {
            "margins": [round(float(x), 4) for x in top[:, 0] - top[:, 1]],
            "f_star": largest.tolist(),
            "right": right.tolist(),
        }

    def _figures(self, rule: ScoreAggregator, test: ServerSet) -> dict[str, float]:
        """What the metrics that were asked for say of honest answers."""
        if not self.chosen.metrics:
            return {}
        spec = DataSpec("table", (1,), test.classes)
        with torch.no_grad():
            shares = rule.shares(rule.scores(test.probabilities))
        logs = shares.clamp(min=torch.finfo(shares.dtype).tiny).log()
        figures = {}
        for metric in self.chosen.metrics:
            sums = metric.sums(logs, test.labels, spec)
            figures[metric.figure] = float(metric.value(sums.double().numpy(), len(test)))
        return figures

    def _kept(self) -> tuple[str, str]:
        """The rule that answers, and why."""
        if self.chosen.keep != "auto":
            return self.chosen.keep, "as the file says"
        scores: dict[str, list[int]] = {name: [0, 0] for name in self.rules}
        for one in self.measured:
            right, count = one.get("judged", (0, 0))
            scores[one["aggregator"]][0] += right
            scores[one["aggregator"]][1] += count
        first = next(iter(self.rules))
        if not scores[first][1]:
            return first, "it is listed first, and the server has no examples to judge by"
        best = max(scores, key=lambda name: scores[name][0])  # of equal ones the first
        right, count = scores[best]
        return best, (
            f"under a K-vote it gets {100 * right / count:.0f} % of the server's examples right "
            "that no rule has learned from"
        )

    def _telling(self, name: str) -> Say:
        return lambda text: self.say(f"{name}: {text}")


@contextlib.contextmanager
def _own(entry: Entry, name: str) -> Iterator[None]:
    """What fails in a rule of the user's own names it, and where."""
    try:
        yield
    except HansaError:
        raise
    except Exception as error:
        own = in_own_code(error, f"aggregators.{name}", "a rule of scores [m, n, K]", entry)
        if own is None:
            raise
        raise own from error


def _judged(rule: ScoreAggregator, judging: ServerSet, f: int, streams: Streams) -> list[int]:
    """(right, asked): under a K-vote of several sets of liars, on examples that judge."""
    rng = streams.numpy("judging liars")
    right = 0
    for _ in range(_SETS):
        who = rng.permutation(judging.members)[:f]
        with torch.no_grad():
            right += int(kvote(rule.scores, judging.probabilities, who, judging.labels).sum())
    return [right, _SETS * len(judging)]
