"""What is wrong with settings is told before anything heavy is imported."""

from __future__ import annotations

import importlib
import socket
import subprocess
import sys
from pathlib import Path

from hansa.engine.links.keys import Key

HEAVY = set(
    """torch numba scipy sklearn polars altair pyarrow vl_convert networkx pandas matplotlib
    safetensors msgpack cryptography skops jinja2""".split()  # noqa: SIM905
)
SCRIPT = """
import sys
from hansa.cli import main
status = main(sys.argv[1:])
print(status, *sorted({name.partition(".")[0] for name in sys.modules}))
"""
SITE = """
{{verb: node, name: north, run: run.yaml, nodes: [0], listen: '127.0.0.1:{port}', key: north.key,
  data: share, peers: [{{name: south, nodes: [1], address: 'south.example:7000', key: '{key}'}}]}}
"""


def test_a_wrong_setting_imports_neither_other_commands_nor_what_runs() -> None:
    script = SCRIPT.replace('name.partition(".")[0]', "name")
    line = [sys.executable, "-c", script, "learn", "dpsgd", "--set", "train.lrr=1"]
    done = subprocess.run(line, capture_output=True, text=True)
    status, *loaded = done.stdout.split()
    assert status == "2", done.stderr
    commands = {name for name in loaded if name.startswith("hansa.cli.")}
    assert "hansa.cli.learn" in commands
    assert not {"hansa.cli.attest", "hansa.cli.infer", "hansa.cli.route"} & commands
    runs = {"hansa.engine.runtimes.host", "hansa.engine.job", "hansa.experiment.run"}
    assert not runs & set(loaded)
    assert not [name for name in loaded if name.startswith("hansa.data.sources.movie")]


def test_fronts_give_every_public_name() -> None:
    for room in ("engine", "data", "experiment", "models", "ensemble", "learn", "topology"):
        package = importlib.import_module(f"hansa.{room}")
        for name in package.__all__:
            assert getattr(package, name) is not None
    from hansa.experiment import prepare, run  # as modules of its own are called too

    assert callable(prepare)
    assert callable(run)


def test_a_port_in_use_is_told_before_examples_are_read(tmp_path: Path) -> None:
    key, other = Key.generate("north"), Key.generate("south")
    key.save(tmp_path / "north.key")
    (tmp_path / "run.yaml").write_text("nodes: 2\ntopology: ring\n")
    with socket.create_server(("127.0.0.1", 0)) as ear:
        site = SITE.format(port=ear.getsockname()[1], key=other.fingerprint)
        (tmp_path / "north.yaml").write_text(site)
        line = [sys.executable, "-c", SCRIPT, "node", "run", "north.yaml"]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
    status, *loaded = done.stdout.split()
    assert status == "2", done.stderr
    assert "in use" in done.stderr
    assert HEAVY & set(loaded) <= {"cryptography"}  # the key was read
    assert not (tmp_path / "runs").exists()


def test_every_component_is_known_without_anything_heavy() -> None:
    script = (
        "import sys; from hansa.base.component import catalogue; "
        "from hansa.base.homes import ROOMS; "
        "print(all(catalogue(kind) for kind in ROOMS), "
        f"*sorted({HEAVY} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stdout + done.stderr


def test_digits_are_read_without_scikit_learn(tmp_path: Path) -> None:
    script = (
        "import sys; from hansa.data import Digits; from hansa.base.streams import Streams; "
        "print(len(Digits().load(Streams(1)).train), 'sklearn' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "1438 False\n", done.stderr


def test_a_short_run_imports_only_what_it_needs(tmp_path: Path) -> None:
    line = "learn dpsgd --set rounds=1 --set nodes=6 --set model.hidden=[4] --out run --json"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *line.split()], cwd=tmp_path, capture_output=True, text=True
    )
    status, *loaded = done.stdout.splitlines()[-1].split()
    assert status == "0", done.stderr
    needless = {"numba", "scipy", "sklearn", "networkx", "pandas", "cryptography", "skops"}
    assert not needless & set(loaded)
    assert (tmp_path / "run" / "report.html").exists()
