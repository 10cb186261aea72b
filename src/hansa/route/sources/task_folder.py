"""Tasks of one's own: a folder with a folder for each, with JSON lines inside.

::

    TASKS/
      mood/
        validation.jsonl   {"text": "what a day", "answer": "good", "candidates": ["good", "bad"]}
        test.jsonl         the same form; may be missing
        train.jsonl        the same form; what ``hansa route train`` trains an adapter on
        task.json          {"domain": "films", "metric": "exact_match", "adapter": "mood"}; may be
                           missing: its own name is its domain and the name of its adapter
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.route.answer_scores import check_metric
from hansa.route.answering import Query
from hansa.route.sets import Example, RoutedTask, check_tasks, plain

_FACTS = {"domain", "metric", "adapter"}
_FIELDS = {"text", "answer", "candidates"}


def read_tasks(folder: Path) -> list[RoutedTask]:
    """The tasks in a folder, by name, checked.

    Raises:
        ConfigError: names the file, the line and what is wrong; also what :func:`check_tasks` says.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ConfigError("tasks", str(folder), "is no folder", "a folder with one for each task")
    places = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not places:
        fix = "TASKS/NAME/validation.jsonl for each task"
        raise ConfigError("tasks", str(folder), "holds no folder of a task", fix)
    tasks = [_task(place) for place in places]
    check_tasks(tasks)
    return tasks


def read_training(folder: Path, tasks: list[RoutedTask]) -> dict[str, tuple[Example, ...]]:
    """What adapters are trained on, by task; of those that have it.

    Raises:
        ConfigError: a training text stands in a test set, or a line is wrong.
    """
    tested = {plain(e.query.text): task.name for task in tasks for e in task.test}
    result = {}
    for task in tasks:
        file = Path(folder) / task.name / "train.jsonl"
        if file.is_file():
            result[task.name] = read_examples(file)
            for example in result[task.name]:
                if (where := tested.get(plain(example.query.text))) is not None:
                    problem = f"{example.query.text[:60]!r} stands in the test set of {where}"
                    raise ConfigError(f"tasks.{task.name}", str(file), problem, "take it out")
    return result


def _task(place: Path) -> RoutedTask:
    facts = _facts(place / "task.json")
    metric = facts.get("metric", "exact_match")
    check_metric(metric, f"tasks.{place.name}.metric")
    validation, test = place / "validation.jsonl", place / "test.jsonl"
    return RoutedTask(
        name=place.name,
        domain=facts.get("domain", place.name),
        validation=read_examples(validation) if validation.is_file() else (),
        test=read_examples(test) if test.is_file() else (),
        own=facts.get("adapter", place.name),
        metric=metric,
    )


def _facts(file: Path) -> dict[str, str]:
    if not file.is_file():
        return {}
    try:
        facts = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ConfigError("tasks", str(file), f"cannot be read: {error}") from None
    if not isinstance(facts, dict) or not all(isinstance(v, str) for v in facts.values()):
        raise ConfigError("tasks", str(file), "is no mapping of texts", '{"domain": "films"}')
    if unknown := set(facts) - _FACTS:
        fix = f"only {', '.join(sorted(_FACTS))}"
        raise ConfigError("tasks", str(file), f"says {', '.join(sorted(unknown))}", fix)
    return facts


def read_examples(file: Path) -> tuple[Example, ...]:
    """The examples of a file of JSON lines.

    Raises:
        ConfigError: names the line.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("tasks", str(file), f"cannot be read: {error}") from None
    return tuple(_example(line, file, n) for n, line in enumerate(lines, 1) if line.strip())


def _example(line: str, file: Path, number: int) -> Example:
    where = f"{file}:{number}"
    fix = '{"text": "what a day", "answer": "good", "candidates": ["good", "bad"]}'
    try:
        row: Any = json.loads(line)
    except ValueError as error:
        raise ConfigError("tasks", where, f"is no JSON: {error}", fix) from None
    if not isinstance(row, dict) or set(row) - _FIELDS:
        raise ConfigError("tasks", where, "is no mapping of text, answer and candidates", fix)
    text, answer, candidates = row.get("text"), row.get("answer"), row.get("candidates", [])
    if not isinstance(text, str) or not text.strip():
        raise ConfigError("tasks", where, "has no text", fix)
    if not isinstance(answer, str) or not answer.strip():
        raise ConfigError("tasks", where, "has no answer", fix)
    if not isinstance(candidates, list) or not all(isinstance(one, str) for one in candidates):
        raise ConfigError("tasks", where, "candidates are no list of texts", fix)
    if candidates and answer not in candidates:
        raise ConfigError("tasks", where, f"the answer {answer!r} is no candidate", fix)
    return Example(Query(text, tuple(candidates)), answer)


def write_task(folder: Path, task: RoutedTask, training: Sequence[Example] = ()) -> None:
    """Write a task as :func:`read_tasks` takes it; what stands there is replaced."""
    place = folder / task.name
    place.mkdir(parents=True, exist_ok=True)
    splits = {"validation": task.validation, "test": task.test, "train": tuple(training)}
    for split, examples in splits.items():
        rows = [
            {"text": e.query.text, "answer": e.answer, "candidates": list(e.query.candidates)}
            for e in examples
        ]
        if rows:
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            _write(place / f"{split}.jsonl", text)
    facts = {"domain": task.domain, "metric": task.metric}
    if task.own is not None:
        facts["adapter"] = task.own
    _write(place / "task.json", json.dumps(facts, ensure_ascii=False) + "\n")


def _write(file: Path, text: str) -> None:
    with atomic_write(file) as stream:
        stream.write(text.encode())
