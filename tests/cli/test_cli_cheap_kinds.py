"""A wrong setting of every kind is told before anything large is imported, NumPy included.

The commands run in forks of one process that has imported what a run file is read with.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

LARGE = """torch numpy._core polars altair pyarrow scipy sklearn networkx numba pandas matplotlib
    cryptography jinja2 safetensors narwhals vl_convert""".split()  # noqa: SIM905
FILES = {
    "bad.yaml": "nodes: 4\ntrain: {local_stepz: 3}\n",
    "rule.yaml": "verb: combine\nrules: [averidge]\n",
    "learn.yaml": "algorithm: {name: fedavg, server: {name: adam, lrr: 3}}\n",
    "serve.yaml": "verb: serve\nmemberz: []\n",
    "recommend.yaml": "verb: recommend\nalgorithm: {name: rex, sharedd: 3}\n",
    "route.yaml": "verb: route\nmethodz: []\n",
    "audit.yaml": "verb: audit\nqueriez: 4\n",
    "sweep.yaml": "verb: sweep\nrunz: {}\n",
    "policy.yaml": "platforms: [snp]\n",
    "own.csv": "a,b,label\n1,2,x\n3,4,y\n",
}
WRONG = """
learn dpsgd --set train.lrr=1
learn dpsgd --set nodes=many
learn dpsgd --set rounds=-1
learn dpsgd --set topologie=ring
learn dpsgdd
learn dpsgd --set model=mpl
learn dpsgd --set train.optimizer=adamm
learn dpsgd --set train.optimizer.momentumm=1
learn dpsgd --set topology=rign
learn dpsgd --set topology.degree=-1
learn dpsgd --set data=digitz
learn dpsgd --set data.partition=dirichlett
learn dpsgd --set data.partition.alpha=-1
learn dpsgd --set attack=gaussiann
learn dpsgd --set attack.name=gaussian --set attack.nodes=[99]
learn dpsgd --set faults.losss=1
learn dpsgd --set privacy=locall
learn dpsgd --set clock=phonez
learn dpsgd --set network.delayy=1
learn dpsgd --set sinks=tensorbord
learn dpsgd --set evaluate.metrics=acuracy
learn dpsgd --set train.augment=flipp
learn dpsgd --set until.byte=5
learn dpsgd --device tpu
learn fedavg --set algorithm.server=adamm
learn fedavg --set algorithm.sampler=nobody
learn fedavg --set algorithm.aggregator=medain
learn topk --set algorithm.codec.name=spares
learn absent.yaml
learn bad.yaml
learn dpsgd --set data.name=file --set data.path=own.csv --set data.label=lable
learn dpsgd --set data.name=file --set data.path=absent.csv --set data.label=label
check rule.yaml
check learn.yaml
check serve.yaml
sweep bad.yaml --seeds 2
sweep dpsgd --set algorithm=[dpsgd,choko]
sweep sweep.yaml
combine ensemble absent.yaml
combine ensemble --set clients=none
combine predict absent own.csv
combine merge --set size=x
infer robust --set rule=x
infer robust --set attacks=[nobody]
infer predict absent own.csv
infer serve serve.yaml
infer private demo --set mode=none
infer redteam --set attackk=x
recommend recommend.yaml
recommend for absent --user 3
route run route.yaml
route tasks absent
forget absent --class 3
audit audit.yaml
attest policy bad.yaml
node run absent.yaml
node run bad.yaml
export absent --out model.safetensors
predict absent own.csv
compare absent_1 absent_2
report absent
init lern
data digits --set partition=dirichlett
data file --set path=own.csv --set label=lable
list optimizer adamm
combine cut absent --out cut.safetensors --size 1
combine evaluate absent
combine explain absent
combine ensemble --resume absent
route models absent
audit resume absent
infer robust --resume absent
learn --resume absent
learn --replay absent
learn fedadam --set algorithm.deadline=-1
learn dpsgd --set train.local_steps=-1
learn dpsgd --set runtime=process
learn dpsgd --set topology.degree=99
infer redteam --attack mask_leek
attest policy policy.yaml
audit absent.yaml
route run absent.yaml
recommend --set data=nothing
watch absent
"""
COUNTED = "learn fedavg --set algorithm.sampled=99"
"""Where the network is looked at, which NumPy counts."""
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
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    lines = [*WRONG.strip().splitlines(), COUNTED]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, *LARGE],
        input=json.dumps(lines), cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    answers = json.loads(done.stdout)
    assert [*answers] == lines
    for line, (status, large, said) in answers.items():
        assert status == 2, (line, said)
        assert said.startswith("error: "), (line, said)
        assert large == ["numpy._core"] * (line == COUNTED), (line, large)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)  # nothing was begun
