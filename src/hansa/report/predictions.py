"""What a model answered: classes with probabilities, or amounts; and how good that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.base.lazy import polars as pl
from hansa.report.grid import Grid

FILES = (".csv", ".tsv", ".parquet", ".json")
_LEAST = 1e-12
_SHOWN = 4  # probabilities beside the class, on a terminal


@dataclass(frozen=True)
class Predictions:
    """Answers, a row an example.

    Attributes:
        rows: plain data. Of a classifier ``input``, ``class``, ``probability``, ``probabilities``
            by class; of a regression ``input`` and ``value``, in the units of the target; with a
            ``label`` where there was one. Other models say what is theirs.
        figures: how good they are, where examples had labels: ``examples`` (with a label), then
            ``accuracy``, ``balanced_accuracy`` (the mean over the classes that there are) and
            ``loss`` (cross-entropy, nats), or ``rmse`` and ``mae``.
        remarks: what a person should know of them.
    """

    rows: list[dict[str, Any]]
    figures: Mapping[str, float] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def flat(self) -> list[dict[str, Any]]:
        """Rows without mappings and lists in them: ``p_CLASS`` for each probability."""
        return [_flat(row) for row in self.rows]

    def frame(self) -> pl.DataFrame:
        """The flat rows as a data frame of polars."""
        return pl.DataFrame(self.flat, infer_schema_length=None)

    def write(self, path: str | Path) -> Path:
        """Write the flat rows to a .csv, .tsv, .parquet or .json file, whole or not at all.

        Raises:
            ConfigError: the file is of another kind, or there already.
        """
        file = check_out(path)
        frame = self.frame()
        with atomic_write(file) as out:
            if file.suffix == ".parquet":
                frame.write_parquet(out)
            elif file.suffix == ".json":
                out.write(frame.write_json().encode())
            else:
                frame.write_csv(out, separator="\t" if file.suffix == ".tsv" else ",")
        return file

    def grid(self, most: int = 20) -> Grid:
        """The first rows for a terminal."""
        keys = list(dict.fromkeys(key for row in self.rows for key in row))
        wide = [key for key in keys if key != "probabilities"]
        few = {c for row in self.rows[:most] for c in row.get("probabilities", {})}
        spread = sorted(few) if 2 < len(few) <= _SHOWN else []
        shown = [
            [_word(row.get(key)) for key in wide]
            + [f"{row['probabilities'][name]:.3f}" for name in spread]
            for row in self.rows[:most]
        ]
        heads = wide + [f"p({name})" for name in spread]
        said = f"The first {most} of {len(self)} predictions" if len(self) > most else "Predictions"
        return Grid(said, heads, shown, words=min(2, len(heads)))

    def _repr_html_(self) -> str:
        return self.frame()._repr_html_()


def check_out(path: str | Path) -> Path:
    """A new file for predictions.

    Raises:
        ConfigError: it is of another kind, or there already.
    """
    file = Path(path).expanduser()
    if file.suffix not in FILES:
        raise ConfigError("out", str(file), "is of an unknown type", ", ".join(FILES))
    if file.exists():
        raise ConfigError("out", str(file), "is there already", "another name")
    return file


def of_classes(
    names: Sequence[str],
    shares: np.ndarray,
    classes: Sequence[str],
    labels: np.ndarray | None = None,
) -> Predictions:
    """Those of a classifier.

    Args:
        names: m of them, of the examples.
        shares: [m, K], probabilities.
        classes: K names.
        labels: int64 [m], -1 where there is none; None: there are no labels.
    """
    rows = []
    for k, (name, row) in enumerate(zip(names, shares.tolist(), strict=True)):
        best = int(np.argmax(row))
        one: dict[str, Any] = {
            "input": name, "class": classes[best], "probability": round(row[best], 6),
        }  # fmt: skip
        if labels is not None:
            one["label"] = classes[labels[k]] if labels[k] >= 0 else None
        one["probabilities"] = {c: round(p, 6) for c, p in zip(classes, row, strict=True)}
        rows.append(one)
    known = np.zeros(0, bool) if labels is None else labels >= 0
    if labels is None or not known.any():
        return Predictions(rows)
    said, true = shares[known], labels[known]
    right = said.argmax(1) == true
    each = [right[true == k].mean() for k in np.unique(true)]
    chance = np.maximum(said[np.arange(len(true)), true], _LEAST)
    figures = {
        "examples": int(known.sum()),
        "accuracy": float(right.mean()),
        "balanced_accuracy": float(np.mean(each)),
        "loss": float(-np.log(chance).mean()),
    }
    return Predictions(rows, figures)


def of_amounts(
    names: Sequence[str], values: np.ndarray, labels: np.ndarray | None = None
) -> Predictions:
    """Those of a regression.

    Args:
        names: m of them, of the examples.
        values: [m], in the units of the target.
        labels: float32 [m], nan where there is none; None: there are no labels.
    """
    rows: list[dict[str, Any]] = []
    for k, (name, value) in enumerate(zip(names, values.tolist(), strict=True)):
        rows.append({"input": name, "value": value})
        if labels is not None:
            rows[-1]["label"] = None if np.isnan(labels[k]) else float(labels[k])
    known = np.zeros(0, bool) if labels is None else ~np.isnan(labels)
    if labels is None or not known.any():
        return Predictions(rows)
    off = values[known].astype(np.float64) - labels[known]
    rmse, mae = float(np.sqrt((off**2).mean())), float(np.abs(off).mean())
    return Predictions(rows, {"examples": int(known.sum()), "rmse": rmse, "mae": mae})


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if key == "probabilities":
            flat |= {f"p_{name}": share for name, share in value.items()}
        elif isinstance(value, Mapping):
            flat |= {f"{key}_{name}": inner for name, inner in value.items()}
        elif isinstance(value, list | tuple):
            flat[key] = "; ".join(map(str, value))
        else:
            flat[key] = value
    return flat


def _word(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    return str(value)
