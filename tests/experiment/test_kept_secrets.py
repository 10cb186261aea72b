"""What a real run draws in secret stands in no file, argument, environment or text of it."""

import secrets
from pathlib import Path

import pytest

from hansa.experiment import RunFile, run

from ..engine.leaks import leaks, watching

SETTINGS = {
    "seed": 3,
    "nodes": 4,
    "rounds": 2,
    "data": {"name": "digits"},
    "model": {"name": "mlp", "hidden": [8]},
    "topology": {"name": "regular", "degree": 2},
    "train": {"local_steps": 1, "batch_size": 8},
    "evaluate": {"every": 2, "dense_start": False},
    "checkpoint": {"every": 1},
}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Pieces of every secret that is drawn in this process."""
    pieces: list[bytes] = []
    draw = secrets.token_bytes

    def keep(size: int = 32) -> bytes:
        secret = draw(size)
        pieces.extend(secret[at : at + 16] for at in range(0, size - 15, 16))
        return secret

    monkeypatch.setattr(secrets, "token_bytes", keep)
    return pieces


def test_a_run_of_processes_leaves_no_secret(
    tmp_path: Path, drawn: list[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    runtime = {"name": "processes", "workers": 2, "own_secrets": True}
    with watching() as seen:
        run(RunFile.model_validate({**SETTINGS, "runtime": runtime}), tmp_path / "run")
    assert len(drawn) >= 4
    assert seen
    assert not seen.shows(drawn)
    assert leaks(tmp_path, drawn) == []
    said = "".join(capfd.readouterr()).encode()
    (tmp_path / "said").write_bytes(said)
    assert leaks(tmp_path, drawn) == []
    (tmp_path / "planted").write_text(f"it is {drawn[0].hex()}")
    assert leaks(tmp_path, drawn) == ["planted"]
