"""Golden runs: what this tree computes, to the last digit, beside what another commit computed.

    python benchmarks/golden.py --against COMMIT      # records both, prints what differs
    python benchmarks/golden.py record FILE           # this tree alone
    python benchmarks/golden.py compare OLD NEW
    ... --moved 'bytes|messages'                      # facts that may differ: counted, not refused

Every algorithm in one process, in two workers and resumed half-way; networks with statistics and
dropout; churn, devices, codecs and stacked training; an ensemble with every rule and baseline;
requests to forget by every method. Compared are all measured figures but seconds of this machine,
all sizes of messages, every tensor of every checkpoint and of the saved ensemble, and the receipts.
Both trees run this copy of the file. What the new tree has beyond the old one is counted, not
refused; what the old one had must be there and equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
NET = """
import torch.nn.functional as F
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.n, self.b = nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10)

    def forward(self, x):
        return self.b(F.dropout(self.n(self.a(x.flatten(1))).relu(), 0.2, self.training))
"""
CLOCK: dict[str, Any] = {"clock": {"name": "modelled", "spread": 0.8, "sample_seconds": 0.01}}
COHORTS: dict[str, Any] = {
    "algorithm": {"name": "cpfl", "cohorts": 2, "stop": None, "distillation": {"epochs": 1}},
    "data": {"name": "digits", "public": 0.05},
    "evaluate": {"every": 1, "local_validation": 0.1},
}
IMAGES: dict[str, Any] = {"model": {"name": "convnet", "depth": 2, "width": 4}}
RATINGS: dict[str, Any] = {
    "data": {"name": "synthetic_ratings", "people": 12, "items": 20, "per_user": 8},
    "model": {"name": "matrix_factorization", "factors": 3},
    "algorithm": {"share": "both"},
    "train": {"optimizer": {"name": "sgd", "lr": 0.01}},
}
NEEDS: dict[str, dict[str, Any]] = {
    "rex": RATINGS,
    "rex_async": RATINGS | CLOCK | {"algorithm": {}},
    "cpfl": COHORTS,
    "fedbuff": {"algorithm": {"concurrency": 4, "buffer": 3}, **CLOCK},
    "greedy": {"algorithm": {"budget": 2}},
    "skiptrain_constrained": {"algorithm": {"budget": 2}},
    "adpsgd": CLOCK,
    "scalefl": {"algorithm": {"widths": [1.0], "shares": [1.0]}},
    "quickdrop": IMAGES,
    "secure_dpsgd": {"algorithm": {"keys": "seeded"}},
    "hierarchical": {"algorithm": {"edges": 2, "edge_rounds": 3}},
}
"""What an algorithm needs to be told."""
ALONE = ("adpsgd", "fedbuff", "rex_async")
"""Between workers the sockets say what comes when, so that no two runs are alike."""
VARIANTS: dict[str, dict[str, Any]] = {
    "momentum": {"algorithm": "dpsgd", "train": {"optimizer": {"name": "sgd", "momentum": 0.9}}},
    "adam": {"algorithm": "dpsgd", "train": {"optimizer": {"name": "adam", "lr": 0.01}}},
    "churn": {"algorithm": "dpsgd", "topology": {"name": "churn", "absent": {"1": [[1, 3]]}}},
    "dynamic": {
        "algorithm": "dpsgd",
        "topology": {"name": "regular", "degree": 2, "dynamic": True},
    },
    "phones": {"algorithm": "fedavg", "clock": "phones"},
    "deadline": {"algorithm": {"name": "fedavg", "deadline": 3.0, "over_selection": 1.3}, **CLOCK},
    "stops": {
        "algorithm": {"name": "fedavg", "stop": {"patience": 1, "window": 1}},
        "evaluate": {"every": 1, "local_validation": 0.2},
    },
    "budget": {"algorithm": "fedavg", "train": {"budget": {"name": "time"}}, **CLOCK},
    "cpfl_stops": COHORTS
    | {"algorithm": {"name": "cpfl", "cohorts": 2, "stop": {"patience": 1, "window": 1}}},
    "median": {
        "algorithm": {"name": "fedavg", "aggregator": "median"},
        "attack": {"name": "gaussian", "share": 0.2},
    },
    "trimmed_mean": {
        "algorithm": {"name": "dpsgd", "aggregator": "trimmed_mean"},
        "attack": {"name": "sign_flip", "nodes": [1]},
    },
    "quantized": {"algorithm": {"name": "fedavg", "codec": "qsgd"}},
    "some": {"algorithm": "dpsgd", "evaluate": {"every": 1, "nodes": 3}},
    "stacked": {"algorithm": "fedavg", "train": {"strategy": "stacked"}},
    "stacked_peers": {"algorithm": "jwins", "train": {"strategy": "stacked"}},
}
"""Runs that exercise a part; beside those of every algorithm."""
FORGET = (
    "quickdrop", "quickdrop_originals", "retrain", "sga", "pgd", "federaser", "downweight", "fu_mp",
    "random_real",
)  # fmt: skip
IGNORED = re.compile(
    r"seconds|(^|_)time$|wall|threads|version|environment|run_dir|folder|host|\bpid\b|rate\b|peak|"
    r"time_factor|speed|cpu|purged|phases|sha256|^part$"
)
"""Figures of this machine, places on it, and digests of files: what is in them is compared."""
KEPT = re.compile(r"modelled|device_seconds|round_time|idle_time|compute_time|transfer_time")


REFUSED = "refused"
"""The only fact of a case whose settings a tree does not know."""


def settings_of(name: str, more: dict[str, Any] | None = None) -> dict[str, Any]:
    """A small run of an algorithm on digits."""
    own = {**NEEDS.get(name, {}), **(more or {})}
    algorithm = own.pop("algorithm", {})
    algorithm = {"name": algorithm} if isinstance(algorithm, str) else algorithm
    train = {"local_steps": 2, "batch_size": 8, "optimizer": {"name": "sgd", "lr": 0.05}}
    train["strategy"] = "looped"  # once this was decided by a clock
    return {
        "seed": 7,
        "nodes": 6,
        "rounds": 4,
        "data": {"name": "digits"},
        "model": {"name": "mlp", "hidden": [8]},
        "evaluate": {"every": 1},
        "checkpoint": {"every": 2},
        "topology": {"name": "regular", "degree": 2},
        **own,
        "train": {**train, **own.pop("train", {})},
        "algorithm": {"name": name, **algorithm},
    }


ENSEMBLE: dict[str, Any] = {
    "verb": "combine",
    "seed": 5,
    "clients": 4,
    "data": {"name": "digits", "public": 0.1, "partition": {"name": "dirichlet", "alpha": 0.5}},
    "models": [{"name": "mlp", "hidden": [8]}],
    "local": {"epochs": 2, "batch_size": 16, "optimizer": {"name": "sgd", "lr": 0.05}},
    "aggregate": {"rounds": 10},
    "baselines": {
        "methods": ["fedavg_once", "fedkd", "distilled", "dense", "coboosting", "fedadam"],
        "once": [1],
        "rounds": 2,
        "distillation": {"epochs": 1},
        "datafree": {"epochs": 1, "steps": 2},
    },
}


RULES = ["average", "label_weighted", "voting", "per_class", "neural", "residual"]


def _spelling() -> str:
    """What a tree calls an ensemble's rules: once they were aggregators."""
    try:
        from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
    except ImportError:
        return "aggregators"
    return "rules" if "rules" in EnsembleSettings.model_fields else "aggregators"


def cases() -> dict[str, list[list[str] | dict[str, Any]]]:
    """What is run by name: steps, each settings for a run, or words for the command line.

    ``FOLDER`` stands for the case's folder.
    """
    from hansa.base.component import catalogue

    rooms = ("hansa.learn.", "hansa.forget.", "hansa.recommend.")
    own = [name for name, m in catalogue("algorithm").items() if m.__module__.startswith(rooms)]
    found: dict[str, list[Any]] = {}
    for name in own:
        run = settings_of(name)
        found[f"simulate/{name}"] = [run]
        found[f"resume/{name}"] = [{**run, "rounds": 2}, {"resume": 4}]
        if name not in ALONE:
            found[f"processes/{name}"] = [{**run, "runtime": {"name": "processes", "workers": 2}}]
    for name, change in VARIANTS.items():
        algorithm = change["algorithm"]
        algorithm = algorithm if isinstance(algorithm, str) else algorithm["name"]
        found[f"variant/{name}"] = [settings_of(algorithm, change)]
    net = {"model": {"name": "module", "path": "FOLDER/net.py:Net"}}
    for name in ("dpsgd", "jwins", "fedavg", "scaffold", "fednova", "secure_dpsgd"):
        found[f"normed/{name}"] = [settings_of(name, net)]
        processes = {"name": "processes", "workers": 2}
        found[f"normed_processes/{name}"] = [{**settings_of(name, net), "runtime": processes}]
    found["ensemble/all"] = [["combine", "ensemble", "FOLDER/ensemble.yaml", "--out", "FOLDER/run"]]
    distilled = settings_of("quickdrop", {**IMAGES, "algorithm": {"keep_updates": 2}})
    for name in FORGET:
        words = ["--method", name, "--oracle"] + (["--controls"] if name == "quickdrop" else [])
        client = name in ("federaser", "pgd", "downweight")
        request = ["--client", "2"] if client else ["--class", "3"]
        found[f"forget/{name}"] = [distilled, ["forget", "FOLDER/run", *request, *words]]
    twice = [["forget", "FOLDER/run", *what] for what in (["--class", "3"], ["--client", "1"])]
    found["forget/twice"] = [distilled, *twice]
    kept = ["forget", "FOLDER/run", "--class", "3", "--allow-relearn"]
    found["forget/relearn"] = [
        distilled,
        kept,
        ["forget", "FOLDER/run", "--class", "3", "--relearn"],
    ]
    words = ["--sample", "12", "--method", "sga", "--set", "ewc=1"]
    found["forget/sample"] = [distilled, ["forget", "FOLDER/run", *words]]
    found["forget/shards"] = [settings_of("cpfl"), ["forget", "FOLDER/run", "--client", "1"]]
    return found


# ------------------------------------------------------------------------------------ recording


def perform(name: str, steps: list[Any], folder: Path) -> dict[str, Any]:
    """Run a case in an empty folder and read what it left."""
    import hansa

    (folder / "net.py").write_text(NET, encoding="utf-8")
    ensemble = ENSEMBLE | {_spelling(): RULES}
    (folder / "ensemble.yaml").write_text(json.dumps(ensemble), encoding="utf-8")
    left: dict[str, Any] = {}
    for k, step in enumerate(steps):
        if isinstance(step, list):
            words = [word.replace("FOLDER", str(folder)) for word in step]
            command = [sys.executable, "-m", "hansa.cli", *words, "--json"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            left[f"exit:{k}"] = done.returncode
            if done.returncode not in (0, 1) or "Traceback" in done.stderr:
                raise SystemExit(f"{name}: {' '.join(words)}: {done.stderr}")
        elif "resume" in step:
            hansa.resume(folder / "run", {"rounds": step["resume"]}, report=False)
        else:
            text = json.dumps(step).replace("FOLDER", str(folder))
            try:
                hansa.run(json.loads(text), folder / "run", report=False)
            except hansa.ConfigError as error:  # a tree that has not come so far
                return {REFUSED: str(error).replace(str(folder), "FOLDER")}
    for path in sorted((folder / "run").rglob("*")):
        if path.is_file():
            left |= read(path, str(path.relative_to(folder)))
    return left


def read(path: Path, name: str) -> dict[str, Any]:
    """Everything in a file that has to be the same again."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        facts = {}
        for row in pq.read_table(path).to_pylist():
            if not ignored(row["name"]):
                key = f"{row['name']}:{row['round']}:{row['node']}"
                facts |= {f"metric:{key}": repr(row["value"]), f"bytes:{key}": row["bytes"]}
        return facts
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            return {
                f"tensor:{name}:{key}": digest(file.get_tensor(key))
                for key in file.keys()  # noqa: SIM118
            }
    if path.suffix == ".json" and path.name not in ("environment.json", "remarks.json"):
        return leaves(f"json:{name}", json.loads(path.read_text(encoding="utf-8")))
    return {}


def digest(tensor: Any) -> str:
    """What a tensor holds, in a word."""
    array = tensor.contiguous().numpy()
    head = f"{array.dtype}{array.shape}".encode()
    return hashlib.sha256(head + array.tobytes()).hexdigest()[:24]


def ignored(word: str) -> bool:
    """Whether a figure is one of this machine."""
    return bool(IGNORED.search(word)) and not KEPT.search(word)


def leaves(prefix: str, value: Any) -> dict[str, Any]:
    """The figures in nested data by their path."""
    if isinstance(value, dict):
        parts = [(f"{prefix}.{k}", v) for k, v in value.items() if not ignored(str(k))]
    elif isinstance(value, list):
        parts = [(f"{prefix}.{k}", v) for k, v in enumerate(value)]
    else:
        return {prefix: repr(value)}
    return {key: leaf for name, inner in parts for key, leaf in leaves(name, inner).items()}


def record(only: str = "") -> dict[str, dict[str, Any]]:
    """Perform every case whose name matches, two at a time, each in a process of its own."""
    names = [name for name in cases() if re.search(only, name)]

    def one(names: list[str]) -> dict[str, Any]:
        command = [sys.executable, __file__, "perform", *names]
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=alone)
        return dict(json.loads(done.stdout))

    groups = [names[k::8] for k in range(8) if names[k::8]]
    with ThreadPoolExecutor(2) as pool:
        found = {k: v for part in pool.map(one, groups) for k, v in part.items()}
    return {name: found[name] for name in names}


# ------------------------------------------------------------------------------------ comparing


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What an old record has that a new one has not, a line each.

    A tensor may have another name or lie in another file, but the old one must be there.
    """
    wrong = [f"{case}: {facts[REFUSED]}" for case, facts in new.items() if REFUSED in facts]
    for case, facts in old.items():
        if REFUSED in facts:
            continue
        if case not in new:
            wrong.append(f"{case}: was not run")
            continue
        there = new[case]
        tensors = {v for k, v in there.items() if k.startswith("tensor:")}
        for key, value in facts.items():
            if key.startswith("tensor:"):
                if value not in tensors:
                    wrong.append(f"{case}: {key} is another tensor, or gone")
            elif ignored(key.rpartition(".")[2]) or ".phases." in key:
                continue  # an older record may hold them
            elif key not in there:
                wrong.append(f"{case}: {key} is gone (was {value})")
            elif there[key] != value:
                wrong.append(f"{case}: {key} was {value}, is {there[key]}")
    return wrong


def tell(old: dict[str, Any], new: dict[str, Any], moved: str = "") -> int:
    """Print how two records compare; returns the exit code.

    Args:
        moved: of facts that may differ: they are counted by case and not refused.
    """
    every = differences(old, new)
    wrong = [line for line in every if not (moved and re.search(moved, line))]
    for line in wrong[:60]:
        print(line)
    ran = {case: facts for case, facts in old.items() if REFUSED not in facts}
    facts = sum(map(len, ran.values()))
    more = sum(len(set(new[case]) - set(ran[case])) for case in ran if case in new)
    print(f"{len(ran)} cases, {facts} facts: {len(wrong)} differ; {more} facts are new")
    if meant := len(every) - len(wrong):
        named = Counter(line.partition(":")[0] for line in every if re.search(moved, line))
        told = ", ".join(f"{case} {count}" for case, count in sorted(named.items()))
        print(f"{meant} more differ as they may: {told}")
    if others := sorted(set(new) - set(ran)):
        print(f"not in the old tree: {', '.join(others)}")
    return 1 if wrong else 0


def against(commit: str, only: str, moved: str) -> int:
    """Record a commit and this tree, and compare."""
    with tempfile.TemporaryDirectory() as folder:
        tree, old, new = Path(folder) / "tree", Path(folder) / "old", Path(folder) / "new"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", str(tree), commit], check=True)
        try:
            for root, file in ((tree, old), (ROOT, new)):
                command = [sys.executable, __file__, "record", str(file)]
                environment = {**os.environ, "PYTHONPATH": str(root / "src")}
                subprocess.run([*command, "--only", only], check=True, env=environment)
        finally:
            subprocess.run([*git, "remove", "--force", str(tree)], check=True)
        return tell(*(json.loads(file.read_text(encoding="utf-8")) for file in (old, new)), moved)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("words", nargs="*", help="record FILE, compare OLD NEW")
    parser.add_argument("--against", help="a commit to compare this tree with")
    parser.add_argument("--only", default="", help="cases whose name matches this expression")
    parser.add_argument("--moved", default="", help="differences that may be, an expression")
    chosen = parser.parse_args()
    if chosen.against:
        return against(chosen.against, chosen.only, chosen.moved)
    what, *files = chosen.words or [""]
    if what == "compare" and len(files) == 2:
        records = (json.loads(Path(file).read_text(encoding="utf-8")) for file in files)
        return tell(*records, chosen.moved)
    if what == "record" and len(files) == 1:
        Path(files[0]).write_text(json.dumps(record(chosen.only), indent=0), encoding="utf-8")
    elif what == "perform":
        every, left = cases(), {}
        for name in files:
            with tempfile.TemporaryDirectory() as folder:
                left[name] = perform(name, every[name], Path(folder))
        print(json.dumps(left))
    else:
        parser.error("record FILE, compare OLD NEW, or --against COMMIT")
    return 0


if __name__ == "__main__":
    sys.exit(main())
