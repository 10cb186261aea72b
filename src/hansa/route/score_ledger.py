"""Scores of single answers on disk, written as they come: nothing is ever measured twice.

A score belongs to the base, to what the adapter holds and to what the task's validation set holds;
names do not count. So a new adapter or task costs its own cells only, and a killed run goes on. The
file is JSON lines that are only appended; a last line that was cut off is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hansa.base.errors import ConfigError
from hansa.base.files import writing

FORMAT = 1


class ScoreLedger:
    """What answers of adapters scored, by (task, adapter, example).

    Args:
        file: where it is kept; None: in memory only.
        base: the fingerprint of the model that answers.
    """

    def __init__(self, file: Path | None = None, base: str = "") -> None:
        self.file, self.base = file, base
        self._cells: dict[tuple[str, str], dict[int, float]] = {}
        if file is not None and file.exists():
            self._read(file)
        elif file is not None:
            self._append({"format": FORMAT, "base": base})

    def row(self, task: str, adapter: str, size: int) -> np.ndarray:
        """float32 [size]: an adapter's scores on a task's examples, NaN where not measured."""
        scores = np.full(size, np.nan, np.float32)
        for example, score in self._cells.get((task, adapter), {}).items():
            scores[example] = score
        return scores

    def put(self, task: str, adapter: str, examples: Sequence[int], scores: np.ndarray) -> None:
        """Keep scores of some examples.

        Args:
            task: the digest of its validation set.
            adapter: the digest of its factors.
        """
        values = [round(float(score), 6) for score in scores]
        places = [int(example) for example in examples]
        self._cells.setdefault((task, adapter), {}).update(zip(places, values, strict=True))
        self._append({"task": task, "adapter": adapter, "at": places, "scores": values})

    def _append(self, row: dict[str, Any]) -> None:
        if self.file is None:
            return
        with writing(self.file):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")

    def _read(self, file: Path) -> None:
        raw = file.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        if len(whole) < len(raw):  # a kill cut the last line
            with writing(file), file.open("r+b") as stream:
                stream.truncate(len(whole))
        lines = whole.splitlines()
        if not lines:
            self._append({"format": FORMAT, "base": self.base})
            return
        try:
            head, *rows = [json.loads(line) for line in lines]
            for row in rows:
                cells = self._cells.setdefault((row["task"], row["adapter"]), {})
                cells.update(zip(row["at"], row["scores"], strict=True))
        except (ValueError, KeyError, TypeError) as error:
            problem = f"is damaged: {error}"
            raise ConfigError("ledger", str(file), problem, "remove it, to measure anew") from None
        if head.get("format") != FORMAT or head.get("base") != self.base:
            problem = "holds scores of another base"
            raise ConfigError("ledger", str(file), problem, "another folder, or the same base")
