"""A wrong setting of every kind is told before anything large is imported, NumPy included.

The commands run in forks of one process that has imported what a run file is read with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import yaml

LARGE = """torch numpy._core polars altair pyarrow scipy sklearn networkx numba pandas matplotlib
    cryptography jinja2 safetensors narwhals vl_convert""".split()  # noqa: SIM905
KINDS = yaml.safe_load(Path(__file__).with_name("wrong_settings.yaml").read_text())
DRIVER = """
import contextlib, io, json, os, sys
from hansa.cli import main
import hansa.cli.learn, hansa.experiment.hints, hansa.experiment.runfile
assert not {*sys.argv[1:]} & {*sys.modules}  # what most of them need has nothing large in it
answers = {}
for line in json.loads(sys.stdin.read()):
    out, into = os.pipe()
    child = os.fork()
    if not child:
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            status = main(line.split())
        large = [name for name in sys.argv[1:] if name in sys.modules]
        os.write(into, json.dumps([status, large, said.getvalue()[:3000]]).encode())
        os._exit(0)
    os.close(into)
    answers[line] = json.loads(os.fdopen(out).read() or '[null, [], ""]')
    os.waitpid(child, 0)
print(json.dumps(answers))
"""


def test_whatever_is_wrong_is_told_before_anything_large_is_imported(tmp_path: Path) -> None:
    for name, text in KINDS["files"].items():
        (tmp_path / name).write_text(text)
    lines = [*KINDS["lines"], KINDS["counted"]]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *LARGE],
        input=json.dumps(lines), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = json.loads(done.stdout)
    assert [*answers] == lines
    for line, (status, large, said) in answers.items():
        assert status == 2, (line, said)
        assert said.startswith("error: "), (line, said)
        assert large == ["numpy._core"] * (line == KINDS["counted"]), (line, large)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        KINDS["files"]
    )  # nothing was begun
