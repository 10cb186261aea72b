"""Small tables in files, and data sets made of them."""

from pathlib import Path
from typing import Any

import torch

from hansa.base.streams import Streams
from hansa.data import Dataset, File

ROWS = [(k / 4, -k, ("no", "yes")[k % 2]) for k in range(20)]


def write(path: Path, rows: list[tuple], names: str = "a,b,label", mark: str = ",") -> Path:
    lines = [names.replace(",", mark), *(mark.join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def load(path: Path, **more: Any) -> Dataset:
    return File(path=path, **more).load(Streams(0))


def equal(one: Dataset, two: Dataset) -> bool:
    return (
        torch.equal(one.train.inputs, two.train.inputs)
        and torch.equal(one.test.inputs, two.test.inputs)
        and torch.equal(one.train.targets, two.train.targets)
        and one.class_names == two.class_names
    )


def as_blob(blob: bytes, path: Path) -> Path:
    path.write_bytes(blob)
    return path
