"""Runs of private inference on this machine: trained, compiled, served, asked.

::

    config.yaml, environment.json, events.jsonl, summary.json, report.html   as of any run
    training/             the network's training, where the file names no run
    program.safetensors   the compiled program
    asked.json            what was answered so far, and what each round cost
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError, RunError
from hansa.experiment.hosting import HostedWork, Hosting
from hansa.infer.private.compiling.certificate import certify, choose_scheme
from hansa.infer.private.compiling.compiler import compile_network
from hansa.infer.private.compiling.program_file import read_program, write_program
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.compiling.sources import prepare_fact, prepare_of
from hansa.infer.private.demo_asking import Asked, ask_child
from hansa.infer.private.demo_network import DemoNetwork, trained_here, untrained
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.private_file import PrivateFile
from hansa.infer.private.program import Program
from hansa.infer.private.protocol.allowances import check_budget
from hansa.infer.private.protocol.model_service import equations
from hansa.infer.private.sessions.scheme import Scheme
from hansa.report import RunFolder

PROGRAM, ASKED = "program.safetensors", "asked.json"
_BUDGET = 0.5
"""As ``serve`` has it where nothing is said."""
Say = Callable[[str], None]


def private(
    settings: PrivateFile | Mapping[str, Any],
    out: str | Path | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Train, compile, serve and ask, in a new run folder.

    Raises:
        CheckpointError: the run that it names is damaged.
        ConfigError: a setting that cannot work, or a network that cannot be compiled.
        DataError: data are missing or damaged.
        RunError: training failed, or the server did not start.
    """
    return _hosted_work(say).begin(settings, out, report)


def resume(
    run: str | Path,
    changes: Mapping[str, Any] | None = None,
    say: Say = lambda text: None,
    report: bool = True,
) -> RunFolder:
    """Go on with a run that was interrupted: training, program and answers are kept.

    Raises:
        CheckpointError: the folder is another verb's, or is damaged.
        ConfigError: it has finished, or a setting cannot change any more.
    """
    return _hosted_work(say).resume(run, report, changes)


Checked = tuple[DemoNetwork, Program, Scheme]


def _hosted_work(say: Say) -> HostedWork[PrivateFile, Checked]:
    def work(hosting: Hosting, chosen: PrivateFile, before: Checked) -> None:
        _Work(hosting, chosen, say).do(*before[:2])

    return HostedWork(PrivateFile, checked, work)


def checked(chosen: PrivateFile) -> Checked:
    """The network before it is trained, compiled as it will be: what cannot be is told at once.

    Raises:
        CheckpointError, ConfigError, DataError: there is no such network, or it cannot be asked so.
    """
    if chosen.run is not None and not chosen.run.expanduser().is_dir():
        raise ConfigError("run", str(chosen.run), "there is no such folder", "a run's folder")
    network = untrained(chosen)
    program = _compiled(network, chosen)
    return network, program, _scheme(program, chosen)


def _compiled(network: DemoNetwork, chosen: PrivateFile) -> Program:
    return compile_network(
        network.module,
        network.calibrating,
        Bits(chosen.weights, chosen.activations),
        classes=network.dataset.class_names,
        facts=prepare_fact(prepare_of(network.dataset.scale, network.dataset.shift)),
    ).program


class _Work:
    """A run under way."""

    def __init__(self, hosting: Hosting, chosen: PrivateFile, say: Say) -> None:
        self.folder, self.chosen, self.say = hosting.folder, chosen, say
        self.about: dict[str, Any] = {}
        self.final: dict[str, Any] = {}
        hosting.facts = lambda: {**self.about, "final": self.final}

    def do(self, network: DemoNetwork, before: Program) -> None:
        """All of it, from a network that was not trained yet, and from what it compiled to."""
        chosen = self.chosen
        network = trained_here(network, chosen, self.folder.path / "training", self.say)
        program = self._program(network, before)
        scheme = _scheme(program, chosen)
        rows, labels = network.rows(network.dataset.test, chosen.queries)
        if len(rows) < chosen.queries:
            self.folder.event("remark", text=f"there are {len(rows)} test examples, no more")
        self.about = _facts(program, scheme)
        truth = _Truth.of(network, program, rows, labels)
        kept = self.folder.read_json(ASKED)
        asked = Asked() if kept is None else Asked.of(kept)

        def keep() -> None:
            self.folder.write_json(ASKED, asked.plain())
            self.final = _final(asked, truth, self.about)

        if len(asked.classes) < len(rows) and not asked.refused:
            ask_child(self.folder.path / PROGRAM, chosen, rows, asked, keep, self.say)
        if asked.scheme and asked.scheme != scheme.plain():
            raise RunError("the server serves the program in another scheme than was asked for")
        keep()
        self._record()

    def _record(self) -> None:
        """Note what comparisons of runs show; of two sides, the client's is first."""
        final, sides = self.final, np.arange(2)
        if not final["queries"]:
            return
        self.folder.record(1, "accuracy", final["accuracy"], time=final["wall_seconds"])
        for name, own, others in (
            ("bytes_sent", "bytes_up", "bytes_down"),
            ("compute_time", "client_seconds", "server_seconds"),
        ):
            self.folder.record(1, name, np.array([final[own], final[others]], float), node=sides)

    def _program(self, network: DemoNetwork, before: Program) -> Program:
        """The compiled network, now or before an interrupt."""
        path = self.folder.path / PROGRAM
        if path.exists():
            return read_program(path)
        self.say("compiling")
        trained = self.chosen.run is None
        program = _compiled(network, self.chosen) if trained else before
        write_program(path, program)
        return program


class _Truth:
    """What the answers are held against.

    Attributes:
        labels: int64 [n].
        logits: int64 [n, outputs], of the integers in the clear.
        plain: int64 [n], what the network says in float.
    """

    def __init__(self, labels: np.ndarray, logits: np.ndarray, plain: np.ndarray) -> None:
        self.labels, self.logits, self.plain = labels, logits, plain

    @classmethod
    def of(
        cls, network: DemoNetwork, program: Program, rows: np.ndarray, labels: np.ndarray
    ) -> _Truth:
        """Of test examples."""
        logits = evaluate(program, read_rows(program, rows))
        return cls(labels, logits, network.classes(rows))


def _scheme(program: Program, chosen: PrivateFile) -> Scheme:
    scheme = choose_scheme(
        program,
        chosen.mode,
        profile_name=chosen.profile,
        packing=chosen.packing,
        hides=chosen.shuffled,
        reveals=chosen.revealed,
    )
    if chosen.mode == "budget":
        check_budget(equations(program, scheme.rows), _BUDGET)
    return scheme


def _facts(program: Program, scheme: Scheme) -> dict[str, Any]:
    """What holds before anything is asked."""
    weights = [b.terms for one in program.rounds for b in one.blocks]
    return {
        "scheme": scheme.plain(),
        "certificate": certify(program, scheme).plain(),
        "weights": sum(term.weight.size for terms in weights for term in terms),
        "layers": [[block.name for block in one.blocks] for one in program.rounds],
    }


def _final(asked: Asked, truth: _Truth, about: dict[str, Any]) -> dict[str, Any]:
    """The figures, of what was answered so far."""
    done = len(asked.classes)
    classes = np.array(asked.classes, np.int64)
    labels, wanted = truth.labels[:done], truth.logits[:done]
    if asked.logits:
        wrong = (np.array(asked.logits, np.int64) != wanted).any(1)
    else:
        wrong = classes != wanted.argmax(1)
    shares = about["scheme"]["mode"] == "shares"
    return {
        "mismatches": int(wrong.sum()),
        "queries": done,
        "accuracy": _share(classes == labels),
        "accuracy_plain": _share(truth.plain[:done] == labels),
        "accuracy_integers": _share(wanted.argmax(1) == labels),
        "cpu_seconds": asked.client_s + asked.server_s,
        "client_seconds": asked.client_s,
        "server_seconds": asked.server_s,
        "wall_seconds": asked.wall_s,
        "bytes_up": asked.bytes_up,
        "bytes_down": asked.bytes_down,
        "rounds": len(asked.steps),
        "requests": asked.queries * len(asked.steps),
        "flooding_bits": None if shares else about["scheme"]["flooding_bits"],
        "failure_log2": about["certificate"]["failure_log2"],
        "in_range": asked.in_range,
        "refused": asked.refused or None,
    }


def _share(right: np.ndarray) -> float | None:
    return float(right.mean()) if len(right) else None
