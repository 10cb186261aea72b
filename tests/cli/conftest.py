"""The command line, called in this process and in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hansa.cli import main


@dataclass
class Said:
    """What a command said and how it ended."""

    status: int
    out: str
    err: str

    @property
    def object(self) -> Any:
        """The one object on stdout, read as strict JSON."""

        def refuse(word: str) -> None:
            raise AssertionError(f"{word} is not JSON")

        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out, parse_constant=refuse)


Hansa = Callable[..., Said]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of decoded data for all tests."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def hansa(
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Hansa:
    """Runs a command in an empty folder; a single text is split at blanks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HANSA_CACHE", str(cache))

    def call(*words: str) -> Said:
        capsys.readouterr()
        status = main(words[0].split() if len(words) == 1 else words)
        said = capsys.readouterr()
        return Said(status, said.out, said.err)

    return call


@pytest.fixture
def tiny() -> str:
    """Settings of a run of well under a second."""
    # The strategy is set: what is measured to be faster may differ from run to run, and with it
    # the last bits.
    choices = "nodes=4 rounds=2 topology=ring evaluate.every=1 train.strategy=looped"
    return " ".join(f"--set {choice}" for choice in choices.split())
