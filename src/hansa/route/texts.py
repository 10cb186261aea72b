"""Texts that somebody brings to a pool of adapters, and what it answers to them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import polars as pl
from hansa.data import tablefile
from hansa.data.brought_words import lines_of
from hansa.report.predictions import Predictions
from hansa.route.serving.asking import ask
from hansa.route.serving.served_pool import ServedPool

_BATCH = 64
_TEXT, _ANSWER = ("text", "input", "query", "question"), ("answer", "label", "output")


@dataclass(frozen=True)
class Texts:
    """Queries with what each is called, and what they should be answered, where that is known."""

    names: list[str]
    said: list[str]
    answers: list[str | None] | None = None


def read_texts(source: Any) -> Texts:
    """A file of texts: lines (.txt), or a table with a column ``text`` and perhaps ``answer``.

    Args:
        source: its path; or a data frame, or a list of texts.

    Raises:
        ConfigError, DataError: there are no texts in it.
    """
    if isinstance(source, list | tuple):
        if not source:
            raise DataError("the texts: there is none")
        if gap := next((k for k, one in enumerate(source, 1) if not str(one or "").strip()), 0):
            raise DataError(f"the texts: number {gap} is none")
        return Texts([f"text {k}" for k in range(len(source))], [str(one) for one in source])
    if type(source).__module__.partition(".")[0] == "pandas":
        source = pl.from_pandas(source)
    if isinstance(source, pl.DataFrame):
        return _of_frame(source, "the table")
    if not isinstance(source, str | Path):
        problem, fix = f"is a {type(source).__name__}", "a path, a data frame or a list of texts"
        raise ConfigError("data", None, problem, fix)
    path = Path(source).expanduser()
    if not path.is_file():
        raise ConfigError("input", str(path), "there is no such file", "check the path")
    if path.suffix.lower() == ".txt":
        lines = lines_of(path)
        return Texts([f"{path}:{k}" for k in range(len(lines))], lines)
    if path.suffix.lower() not in (*tablefile.TEXT, *tablefile.BINARY):
        raise ConfigError("input", str(path), "is of no known kind", ".txt, .csv or .parquet")
    return _of_frame(tablefile.read_frame(path), str(path))


def _of_frame(frame: pl.DataFrame, where: str) -> Texts:
    text = next((name for name in frame.columns if name.casefold() in _TEXT), None)
    if text is None:
        raise DataError(f"{where}: there is no column 'text'; there are {', '.join(frame.columns)}")
    answer = next((name for name in frame.columns if name.casefold() in _ANSWER), None)
    said = frame[text].cast(pl.String).to_list()
    if (
        gap := next((k for k, one in enumerate(said) if not one or not one.strip()), None)
    ) is not None:
        raise DataError(f"{where}: row {gap + 1} has no text in {text!r}")
    known = None if answer is None else frame[answer].cast(pl.String).to_list()
    return Texts([f"{where}:{k}" for k in range(len(said))], said, known)


def answered(pool: ServedPool, texts: Texts, candidates: tuple[str, ...] = ()) -> Predictions:
    """What a pool answers: ``input``, ``text``, ``answer``, ``adapters`` with their weights.

    Raises:
        ConfigError: the base needs candidates and there are none, or a text has no token.
    """
    rows: list[dict[str, Any]] = []
    for first in range(0, len(texts.said), _BATCH):
        rows += ask(pool, texts.said[first : first + _BATCH], candidates=candidates)
    answers = []
    for k, (name, row) in enumerate(zip(texts.names, rows, strict=True)):
        by = [f"{one['name']} {one['weight']:.2f}" for one in row["routing"]["adapters"]]
        answers.append({"input": name, "text": row["text"], "answer": row["answer"],
                        "adapters": by or ["the base"]})  # fmt: skip
        if texts.answers is not None:
            answers[-1]["label"] = texts.answers[k]
    known = [row for row in answers if row.get("label") is not None]
    figures: dict[str, float] = {}
    if known:
        right = sum(str(row["answer"]).strip() == str(row["label"]).strip() for row in known)
        figures = {"examples": len(known), "accuracy": right / len(known)}
    return Predictions(answers, figures)
