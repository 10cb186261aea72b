"""Every command besides learn, and the command line as a whole."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hansa as package
from hansa.base.homes import ROOMS
from hansa.cli import main
from hansa.cli.listing import readable_type

HEAVY = {"torch", "numpy._core", "polars", "altair", "sklearn", "numba", "hansa.engine"}


@pytest.mark.parametrize("line", ["--help", "--version", "learn --help", "compare -h"])
def test_help_imports_nothing_heavy(line: str) -> None:
    script = (
        "import sys; from hansa.cli import main; status = main(sys.argv[1:]);"
        f"print(status, sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *line.split()], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("0 []\n")


def test_the_package_is_cheap_and_knows_its_names() -> None:
    script = f"import sys, hansa; print(sorted({HEAVY} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n"
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = package.nonsense


def test_version_and_help(hansa) -> None:
    assert hansa("--version").out == f"hansa {package.__version__}\n"
    assert hansa("--help").out == hansa().out
    assert "compare" in hansa("--help").out


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lern", "No such command 'lern'"),
        ("learn --sett x", "--sett"),
        ("compare", "RUN"),
        ("data digits --nodes 0", "--nodes"),
    ],
)
def test_mistyped_lines(hansa, line: str, words: str) -> None:
    said = hansa(f"{line} --json")
    assert said.status == 2
    assert said.object["error"]["type"] == "UsageError"
    assert words in said.object["error"]["message"]
    assert "--help" in said.err


@pytest.mark.parametrize(("line", "words"), [("tune", "choco, cohorts"), ("combine", "ensemble")])
def test_a_command_of_commands_alone_says_what_to_add(hansa, line: str, words: str) -> None:
    said = hansa(line)
    assert said.status == 2
    assert f"error: hansa {line} is not a command alone: one of {words}" in said.err


def test_list_kinds_and_parts(hansa) -> None:
    kinds = hansa("list --json").object["kinds"]
    assert list(kinds) == list(ROOMS)
    assert "dpsgd" in kinds["algorithm"]
    assert "dpsgd" in hansa("list").out
    for kind in kinds:
        names = hansa(f"list {kind} --json").object["names"]
        assert all(names.values())
        for name in list(names)[:2]:
            assert hansa(f"list {kind} {name}").status == 0
    assert "gn_lenet" in hansa("list model").out


PUBLISHED = """
from hansa import register
from hansa.learn import DPSGD

@register("mine", paper="Doe et al.", year=2026, url="https://example.org/mine")
class Mine(DPSGD):
    '''D-PSGD by another name.'''
"""


def test_papers_are_listed(hansa) -> None:
    """A user's too, whose file says it beside the name."""
    Path("mine.py").write_text(PUBLISHED)
    listed = hansa("list algorithm --plugin mine.py").out
    assert "Doe et al. 2026" in listed
    assert "Lian et al. 2017" in listed
    assert "https://" not in listed
    assert "Doe et al. 2026 https://example.org/mine\n" in hansa("list algorithm mine").out
    said = hansa("list algorithm --json").object["references"]
    url = "https://arxiv.org/abs/1705.09056"
    assert said["dpsgd"] == {"paper": "Lian et al.", "year": 2017, "url": url}
    assert "isolated" not in said
    assert "paper" not in hansa("list runtime").out


def apart(*words: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, which knows no parts yet."""
    command = [sys.executable, "-m", "hansa.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_part_is_found_before_any_of_its_kind_is_known() -> None:
    done = apart("list", "algorithm", "dpsgd")
    assert done.returncode == 0, done.stderr
    assert "Lian et al. 2017 https://arxiv.org/abs/1705.09056" in done.stdout


def test_the_page_of_parts_is_as_the_command_makes_it() -> None:
    page = Path(__file__).parents[2] / "docs" / "components.md"
    fix = "hansa list --markdown > docs/components.md"
    assert page.read_text() == apart("list", "--markdown").stdout, fix


def test_list_settings_of_a_part_and_of_the_run_file(hansa) -> None:
    said = hansa("list topology regular --json").object
    assert said["settings"][0] == {
        "setting": "degree", "type": "int", "default": 4, "required": False,
        "help": "neighbours of each node",
    }  # fmt: skip
    assert "neighbours of each node" in hansa("list topology regular").out
    found = {item["setting"]: item for item in hansa("list settings --json").object["settings"]}
    assert found["train.optimizer"]["default"]["name"] == "sgd"
    assert found["evaluate.every"]["type"] == "int"
    assert all(item["help"] for item in found.values())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("list topolgy", "did you mean 'topology'"),
        ("list topology rin", "did you mean 'ring'"),
        ("list --plugin absent.py", "no such file"),
        ("data digit", "did you mean 'digits'"),
        ("data digits --set downscal=2", "did you mean data.downscale=2"),
        ("report nowhere", "no such run folder"),
        ("compare nowhere", "no such run folder"),
        ("learn --resume nowhere", "no such run folder"),
    ],
)
def test_unknown_names(hansa, line: str, words: str) -> None:
    said = hansa(f"{line} --json")
    assert said.status == 2
    assert words in said.object["error"]["message"]
    assert words in said.err


def test_types_are_said_as_a_reader_would() -> None:
    from typing import Annotated, Literal

    from hansa import Codec

    assert readable_type(Annotated[int, "x"] | None) == "int | none"
    assert readable_type(Literal["a", "none"] | None) == "a | none"
    assert readable_type(tuple[Annotated[int, "x"], ...]) == "tuple[int, ...]"
    assert readable_type(dict[str, float]) == "dict[str, float]"
    assert readable_type(Codec) == "codec"


def test_check_prints_the_plan_and_starts_nothing(hansa) -> None:
    said = hansa("check --set nodes=8 --set topology.degree=3")
    assert said.status == 0
    assert "This run can start." in said.out
    assert said.out.splitlines()[-1] == "hansa learn --set nodes=8 --set topology.degree=3"
    said = hansa("check", "dpsgd", "--set", "data.partition={name: shards}", "--rounds", "3")
    changes = "--set 'data.partition={name: shards}' --set rounds=3"
    assert said.out.splitlines()[-1] == f"hansa learn dpsgd {changes}"
    plan = hansa("check el_local --set nodes=8 --json").object
    assert (plan["nodes"], plan["algorithm"]) == (8, "el_local")
    assert list(Path().iterdir()) == []


def test_data_lists_loads_and_deals(hansa) -> None:
    assert "cifar10" in hansa("data --json").object["data"]
    assert "cifar10" in hansa("data").out
    said = hansa("data digits --set data.validation=0.1 --set downscale=2 --json").object
    assert (said["validation"], said["shape"], said["outputs"]) == (144, [1, 4, 4], 10)
    split = hansa("data digits --nodes 20 --set partition=shards --json").object["split"]
    assert sum(split["examples"]) == sum(map(sum, split["histogram"])) == 1438
    assert "and 4 more nodes" in hansa("data digits --nodes 20 --set partition=shards").out
    deals = [hansa(f"data digits --nodes 3 --seed {s} --json").object["split"] for s in (1, 1, 2)]
    assert deals[0] == deals[1] != deals[2]


def test_data_says_where_files_were_looked_for(hansa) -> None:
    said = hansa("data mnist --json")
    assert said.status == 2
    assert said.object["error"]["type"] == "DataError"


def test_report_and_compare(hansa, tiny) -> None:
    hansa(f"learn {tiny} --out a --no-report")
    hansa(f"learn isolated {tiny} --out b")
    said = hansa("report a")
    assert "accuracy" in said.out
    assert Path("a/report.html").stat().st_size > 10_000
    assert hansa("report a --json").object["report"] == "a/report.html"
    assert "isolated" in hansa("compare a b --out page.html").out
    assert Path("page.html").exists()
    found = hansa("compare a b --json").object
    assert [run["path"] for run in found["runs"]] == ["a", "b"]
    assert Path(found["page"]).exists()


def test_a_comparison_of_very_different_runs_is_readable(hansa, tiny) -> None:
    hansa(f"learn {tiny} --out a --no-report")
    many = "--set nodes=5 --set train.batch_size=8 --set model.hidden=[8] --set clock=modelled"
    hansa(f"learn el_local {tiny} {many} --out b --no-report")
    said = hansa("compare a b")
    assert "They differ in " in said.out
    assert "train.batch_size" in said.out
    header = next(line for line in said.out.splitlines() if line.startswith(" run "))
    assert "algorithm" in header
    assert "accuracy" in header
    assert "rounds" in hansa("compare a b --all").out


def test_the_installed_command_and_the_module_are_the_same() -> None:
    for command in (
        [str(Path(sys.executable).with_name("hansa"))],
        [sys.executable, "-m", "hansa.cli"],
    ):
        done = subprocess.run([*command, "--version"], capture_output=True, text=True)
        assert done.stdout == f"hansa {package.__version__}\n"


class Gone(io.RawIOBase):
    """What nobody reads any more, or a disk without room."""

    def __init__(self, code: int) -> None:
        self.code = code

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize("line", ["list", "list topology --json"])
@pytest.mark.parametrize(
    ("code", "status", "words"),
    [(errno.EPIPE, 141, ""), (errno.ENOSPC, 1, "error: the answer cannot be written")],
)
def test_an_answer_that_nobody_takes(
    line: str, code: int, status: int, words: str, monkeypatch, capsys
) -> None:
    stream = io.TextIOWrapper(io.BufferedWriter(Gone(code)))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(line.split()) == status
    with contextlib.suppress(OSError):
        stream.close()
    err = capsys.readouterr().err
    assert err.startswith(words)
    assert "not expected" not in err
    assert bool(err) == bool(words)


def test_a_comparison_needs_a_page_to_write(hansa, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    for place in (".", "f/page.html"):
        said = hansa(f"compare a b --out {place} --json")
        assert said.status == 2
        assert said.object["error"]["field"] == "out"


def test_export_writes_two_files_and_says_which(hansa, tiny) -> None:
    assert hansa(f"learn {tiny} --out it").status == 0
    refused = hansa("export it --json")
    assert refused.status == 2
    assert refused.object["error"]["field"] == "node"
    said = hansa("export it --average")
    assert said.out == "model  model.safetensors\nfacts  model.json\n"
    again = hansa("export it --node 1 --out one.safetensors --json").object
    assert again["files"] == ["one.safetensors", "one.json"]
    assert again["node"] == 1
