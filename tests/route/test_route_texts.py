"""Texts that are brought to a pool of adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa.base.errors import HansaError
from hansa.route.texts import read_texts


def test_texts_are_read_in_any_form(tmp_path: Path) -> None:
    file = tmp_path / "A.TXT"
    file.write_text("how far\n\nwie weit, bäh\n", encoding="utf-8-sig")
    assert read_texts(file).said == ["how far", "wie weit, bäh"]
    (tmp_path / "a.csv").write_text("Question,answer\nhow far,9\nhow near,\n")
    table = read_texts(tmp_path / "a.csv")
    assert (table.said, table.answers) == (["how far", "how near"], ["9", None])


def test_what_holds_no_texts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes(b"caf\xe9\n")
    refused: tuple[tuple[Any, str], ...] = (
        (file, "cannot be read"),
        ([], "there is none"),
        (["a", " "], "number 2 is none"),
        (np.zeros((2, 3)), "is a ndarray"),
    )
    for source, words in refused:
        with pytest.raises(HansaError, match=words):
            read_texts(source)
