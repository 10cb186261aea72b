"""Tiny models of real architectures, written by transformers itself; each is made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .tiny_models import made


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model by name, as ``save_pretrained`` writes it; never change it."""
    place = tmp_path_factory.mktemp("tiny")

    def folder(name: str) -> Path:
        path = place / name
        if not path.exists():
            made(name).save_pretrained(path)
        return path

    return folder
