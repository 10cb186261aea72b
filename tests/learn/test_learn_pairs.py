"""Every algorithm beside every other part of a run: it plays a round, or says why not.

What it proposes is taken at its word: it has to run.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hansa.base.component import catalogue
from hansa.base.errors import ConfigError
from hansa.experiment.run import run
from hansa.experiment.runfile import RunFile, run_kind
from hansa.experiment.settings_file import override

from .test_learn_poisoned import GOLDEN

OTHERS = ("hansa.learn.", "hansa.forget.", "hansa.recommend.")
NAMES = sorted(n for n, m in catalogue("algorithm").items() if m.__module__.startswith(OTHERS))
DEVICES = {
    "name": "devices",
    "profiles": "lognormal",
    "availability": {"name": "periods", "there": 500, "away": 1},
}
PARTS: dict[str, dict[str, Any]] = {
    "attack": {"attack": {"name": "sign_flip", "nodes": [1]}},
    "colluding": {"attack": {"name": "inner_product", "nodes": [1]}},
    "loss": {"faults": {"loss": 0.05}},
    "absent": {"faults": {"absent": {1: [[0, 1]]}}},
    "crash": {"faults": {"crash": [{"nodes": [1], "round": 0, "away": 1, "loses": 0}]}},
    "partition": {"faults": {"partition": [{"groups": [[0, 1]], "rounds": [0, 1]}]}},
    "pause": {"faults": {"pause": [{"node": 1, "round": 0, "seconds": 2.0}]}},
    "network": {"network": {"delay": 0.01, "rate": 1e6, "loss": 0.1}},
    "churn": {"topology": {"name": "churn", "absent": {1: [[0, 1]]}}},
    "median": {"algorithm": {"aggregator": "median"}},
    "nnm": {"algorithm": {"aggregator": {"name": "nnm", "f": 1, "then": "median"}}},
    "codec": {"algorithm": {"codec": "qsgd"}},
    "deadline": {"algorithm": {"deadline": 500.0}},
    "devices": {"clock": DEVICES},
    "wall": {"clock": {"name": "wall"}},
    "gel": {"train": {"optimizer": {"name": "gel", "guesses": 2}}},
    "budget": {"train": {"budget": {"name": "time", "seconds": 50}}, "clock": DEVICES},
    "local noise": {"privacy": {"name": "local", "clip": 1.0, "noise": 1.0, "delta": 1e-3}},
    "private examples": {
        "privacy": {"name": "example", "clip": 1.0, "noise": 1.0, "delta": 1e-3}
    },
    "bfloat16": {"train": {"precision": "bfloat16"}},
    "skiptrain": {"algorithm": {"name": "skiptrain"}},
    "local_sgd": {"algorithm": {"name": "local_sgd"}},
}  # fmt: skip
"""What stands beside an algorithm; another algorithm's name: that one around it."""


def merged(settings: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Settings with others on top; a part of another name takes the place of the former."""
    whole = copy.deepcopy(settings)
    for key, value in more.items():
        before = whole.get(key)
        other = isinstance(value, dict) and "name" in value and key != "algorithm"
        if isinstance(value, dict) and isinstance(before, dict) and not other:
            whole[key] = merged(before, value)
        else:
            whole[key] = copy.deepcopy(value)
    return whole


def pair(name: str, part: str) -> dict[str, Any]:
    """One tiny round of an algorithm beside a part."""
    settings = GOLDEN.settings_of(name, GOLDEN.NEEDS.get(name))
    settings = merged(
        settings, {"rounds": 1, "train": {"local_steps": 1}, "checkpoint": {"every": 0}}
    )
    if settings["data"]["name"] == "digits":
        settings["data"]["train_samples"] = 150
    if name == "quickdrop":
        settings["model"] = {"name": "convnet", "depth": 1, "width": 2}
    settings = copy.deepcopy(settings)
    beside = PARTS[part]
    if wrapper := beside.get("algorithm", {}).get("name"):
        settings["algorithm"] = {"name": wrapper, "algorithm": settings["algorithm"]}
        return settings
    return merged(settings, beside)


def play(settings: dict[str, Any], folder: Path) -> None:
    """A run of whichever verb."""
    done = run(run_kind(settings).parse(settings), folder, report=False)
    assert done.summary is not None
    assert done.summary["status"] == "finished"


def repairs(settings: dict[str, Any], error: ConfigError) -> Iterator[dict[str, Any]]:
    """What somebody would write who reads a fix, the likeliest first."""
    fix, field = error.fix, error.field
    without = _without(settings, field.split("."))
    for proposal in re.findall(r"did you mean ([^?]*)\?", fix):
        words = re.findall(r"[\w.]+=(?:\{.*\}|\S+)", proposal)
        yield _set(without, *words)
    if whole := re.match(r"\{.*?\}", fix):
        yield _set(settings, f"{field}={whole[0]}")
    for name, value in re.findall(r"\b([a-z_]+(?:\.[a-z_]+)*): (\{.*?\}|[a-z_0-9]+)", fix):
        whole_name = "." in name or name in RunFile.model_fields
        place = name if whole_name else f"{field.rpartition('.')[0]}.{name}".lstrip(".")
        for at in (settings, without):
            yield _set(at, f"{place}={value}")
    wrapper = settings["algorithm"].get("algorithm")
    for word in re.findall(r"\w+", fix):
        if word in catalogue("algorithm") and word not in ("skiptrain", "local_sgd", "greedy"):
            if wrapper is not None:  # it is asked for another one within
                yield {**settings, "algorithm": {**settings["algorithm"], "algorithm": word}}
            yield {**settings, "algorithm": {"name": word}}
    if "nobody" in fix or "no loss" in fix:
        yield {k: v for k, v in settings.items() if k != "faults"}
    if first := re.match(r"[a-z]+(?=,|$)", fix):
        yield _set(settings, f"{field}={first[0]}")


def _without(settings: dict[str, Any], words: list[str]) -> dict[str, Any]:
    whole = copy.deepcopy(settings)
    at: Any = whole
    for word in words[:-1]:
        at = at.get(word) if isinstance(at, dict) else None
    if isinstance(at, dict):
        at.pop(words[-1], None)
    return whole


def _set(settings: dict[str, Any], *pairs: str) -> dict[str, Any]:
    return override(settings, pairs)


def runs_or_repairs(name: str, part: str, folder: Path) -> str:
    """``runs``, or the reason; fails where nothing that the fix says runs."""
    settings = pair(name, part)
    try:
        play(settings, folder / "run")
    except ConfigError as error:
        tried = []
        for k, repaired in enumerate(repairs(settings, error)):
            try:
                play(repaired, folder / f"repaired_{k}")
            except ConfigError as again:
                tried.append(str(again))
                continue
            return error.problem
        raise AssertionError(f"{name} beside {part}: {error}\nno fix runs: {tried}") from error
    return "runs"


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_every_algorithm_runs_beside_a_part_or_says_what_does(part: str, tmp_path: Path) -> None:
    reasons = {name: runs_or_repairs(name, part, tmp_path / name) for name in NAMES}
    assert "runs" in reasons.values()


@pytest.mark.parametrize("k", range(len(PARTS)))
def test_some_algorithms_run_beside_each_part_or_say_what_does(k: int, tmp_path: Path) -> None:
    """Others at every part, so that each is looked at."""
    for name in NAMES[k % 7 :: 7]:
        runs_or_repairs(name, [*PARTS][k], tmp_path / name)


WHY = {
    ("secure_dpsgd", "median"): "sum alone",
    ("secure_dpsgd", "codec"): "masks cancel",
    ("adpsgd", "median"): "pairs",
    ("isolated", "nnm"): "receives nothing",
    ("fedbuff", "deadline"): "no rounds",
    ("dpsgd", "deadline"): "no server",
    ("rex", "attack"): "tables",
    ("scalefl", "median"): "only part",
    ("choco", "loss"): "public copies",
    ("choco", "partition"): "waits for what is lost",
    ("local_sgd", "local_sgd"): "schedule itself",
}
"""What a reason has to speak of."""


@pytest.mark.parametrize(("name", "part"), WHY)
def test_what_makes_no_sense_is_refused_with_the_reason(
    name: str, part: str, tmp_path: Path
) -> None:
    assert WHY[name, part] in runs_or_repairs(name, part, tmp_path)
