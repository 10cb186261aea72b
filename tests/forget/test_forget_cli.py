"""``hansa forget`` from the command line."""

import json
from pathlib import Path

import pytest

from hansa.cli import main


@pytest.fixture
def hansa(capsys: pytest.CaptureFixture[str]):
    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main([str(word) for word in words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_a_class_is_forgotten_and_learned_anew(hansa, folder: Path) -> None:
    status, out, err = hansa("forget", folder, "--class", "3", "--allow-relearn")
    assert status == 0, err
    assert "quickdrop: class 3" in out
    assert "receipt.json" in out
    page = (folder / "requests/001/report.html").read_text()
    assert "data:image/png;base64" in page
    assert '<span class="status done">' in page
    assert "still right" in page  # the goal, and how far it is
    assert "at most" in out
    status, out, _ = hansa("forget", folder, "--class", "3")
    assert status == 0
    assert "forgotten already, by request 001" in out
    status, out, err = hansa("forget", folder, "--class", "3", "--relearn", "--json")
    assert status == 0, err
    assert json.loads(out)["kind"] == "relearn"
    _, out, _ = hansa("forget", folder, "--history", "--json")
    history = json.loads(out)
    assert [r["kind"] for r in history["requests"]] == ["forget", "relearn"]
    assert history["forgotten"] == {}


def test_a_method_and_its_settings(hansa, folder: Path) -> None:
    words = ("--client", 1, "--method", "sga", "--set", "recovery.rounds=1", "--json")
    status, out, err = hansa("forget", folder, *words)
    assert status == 0, err
    method = json.loads(out)["method"]
    assert method["name"] == "sga"
    assert method["recovery"]["rounds"] == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--class", "eleven"), "there is no such class"),
        (("--class", "11"), "they are 0 to 9"),
        (("--client", "9"), "they are 0 to 4"),
        ((), "nothing is named"),
        (("--class", "3", "--method", "magic"), "there is no such forgetting"),
        (("--class", "3", "--set", "rounds=3"), "there is no such setting"),
        (("--class", "3", "--set", "runtime=nowhere"), "there is no such runtime"),
        (("--class", "3", "--set", "runtime.workers=2"), "runtime.workers"),
        (
            ("--class", "3", "--set", "runtime=processes", "--set", "runtime.workers=9"),
            "runtime.workers = 9: is more than the 6 nodes",
        ),
        (("--class", "3", "--relearn", "--set", "runtime=nowhere"), "there is no such runtime"),
        (("--class", "3", "--method", "pgd"), "--method quickdrop"),
        (("--class", "3", "--relearn"), "forgotten now: nothing"),
    ],
)
def test_bad_requests_are_explained_and_change_nothing(hansa, folder: Path, words, says) -> None:
    status, _, err = hansa("forget", folder, *words)
    assert status == 2
    assert says in err
    assert not (folder / "requests").exists() or not list((folder / "requests").iterdir())
    assert list((folder / "checkpoints").glob("round-*"))


def test_a_method_says_what_it_needs_before_and_after(hansa, folder: Path) -> None:
    words = ("--class", "3", "--method", "fu_mp", "--set", "recovery.rounds=1")
    _, out, err = hansa("forget", folder, *words)
    assert "needs wide layers" in err
    assert "narrowest of 2 has 8 channels" in " ".join(out.split())
    receipt = json.loads((folder / "requests/001/receipt.json").read_text())
    assert any("needs wide layers" in line for line in receipt["caveats"])
    _, out, _ = hansa("list", "forgetting", "--json")
    assert "wide" in out


def test_classes_that_are_called_by_numbers_are_meant_by_name(
    hansa, folder: Path, monkeypatch
) -> None:
    told = json.loads((folder / "partition.json").read_text())
    told["classes"] = [str(k + 1) for k in range(10)]  # "10" comes last, as it would in order
    (folder / "partition.json").write_text(json.dumps(told))
    status, _, err = hansa("forget", folder, "--class", "0")
    assert status == 2
    assert "class = '0': there is no such class" in err
    assert not (folder / "requests").exists()
    meant = []
    monkeypatch.setattr(
        "hansa.forget.run.forget", lambda run, request, *_, **__: meant.append(request)
    )
    hansa("forget", folder, "--class", "1", "--class", "10")
    assert meant[0].classes == (0, 9)
