"""Run files of the papers' set-ups: hansa reads each, and each says the command that runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hansa.experiment.settings_file import kind_of, read_settings_file

FILES = sorted((Path(__file__).parents[2] / "benchmarks" / "paper").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
def test_a_paper_file_is_read_and_says_its_command(file: Path) -> None:
    settings = read_settings_file(file)
    kind = kind_of(settings)
    kind.parse(settings)
    assert f"# hansa {kind.command} benchmarks/paper/{file.name}" in file.read_text()
