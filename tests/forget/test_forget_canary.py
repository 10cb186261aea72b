"""What a client holds stays with its worker: its examples are marked, and looked for everywhere.

Every byte that any process sends is taken down, and every file of the run folder is read
afterwards. The clients' synthetic images are copies of examples here, and so are looked for too.
"""

import json
import shutil
from pathlib import Path

import pytest

from hansa.engine.runtimes.runtime import split_nodes

CLIENTS = 4


def found(folder: Path, client: int) -> set[str]:
    """The files of a folder in which a client's mark is."""
    mark = f"CANARY-{client}".encode()
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(p.relative_to(folder)) for p in files if mark in p.read_bytes()}


def of_worker(client: int) -> str:
    """What the file of a client's worker is called in a checkpoint."""
    ids = next(ids for ids in split_nodes(CLIENTS + 1, 2, 1) if client in ids)
    return f"nodes-{ids[0]:06d}-{ids[-1]:06d}.safetensors"


def check_apart(folder: Path, tap: Path, said: str) -> None:
    """Nobody's mark was sent, said or written but by the client's own worker."""
    sent = {path.name: path.read_bytes() for path in tap.iterdir()}
    assert {name.partition("-")[0] for name in sent} == {"0", "1", "coordinator"}
    assert sorted(map(len, sent.values()))[1] > 1000  # models went from worker to worker
    for client in range(CLIENTS):
        mark = f"CANARY-{client}"
        assert not any(mark.encode() in data for data in sent.values()), f"{mark} was sent"
        names = {Path(name).name for name in found(folder, client)}
        assert names <= {of_worker(client)}, f"{mark} was written by others"
        assert mark not in said


def test_training_tells_nobody_of_an_example(marked) -> None:
    check_apart(marked.run, marked.tap, marked.said)
    for client in range(CLIENTS):  # or nothing was looked for
        assert found(marked.run / "checkpoints", client)


def test_forgetting_tells_nobody_of_an_example(marked, unbroken) -> None:
    run, receipt = unbroken
    check_apart(run, run.parent / "tap", json.dumps(receipt))
    (state,) = (run / "requests/001/state").iterdir()
    for client in range(CLIENTS):
        assert found(run, client) == {str((state / of_worker(client)).relative_to(run))}
    assert {path.name for path in (run / "requests/001").iterdir()} == {
        "receipt.json", "report.html", "state",
    }  # fmt: skip


@pytest.mark.slow
def test_learning_anew_tells_nobody_of_an_example(marked, unbroken, tmp_path: Path) -> None:
    words, answers = ("--class", 3, "--relearn", "--json"), []
    for runtime in ("processes", "simulate"):
        run, tap = tmp_path / runtime, tmp_path / f"{runtime}.tap"
        shutil.copytree(unbroken[0], run)
        done = marked.hansa("forget", run, *words, "--set", f"runtime={runtime}", tap=tap)
        assert done.returncode == 0, done.stderr
        answers.append(json.loads(done.stdout))
    check_apart(tmp_path / "processes", tmp_path / "processes.tap", json.dumps(answers[0]))
    assert answers[0]["model_after"] == answers[1]["model_after"] != unbroken[1]["model_after"]
    assert answers[0]["figures"] == answers[1]["figures"]
