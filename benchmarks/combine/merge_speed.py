"""What merging costs: all sizes at once, memory, and mergekit's in-memory merge at the same work.

    python benchmarks/combine/merge_speed.py --encoder FOLDER --python-mergekit P
    python benchmarks/combine/merge_speed.py --smoke    # small tensors, without mergekit

One thread, CPU time. The models are the encoder with noise on all but its embeddings: what the
numbers are does not matter here. The memory is that of a process of its own beside one that has
only imported. mergekit 0.1.5 may live in an environment of its own: torch of the same version, then
``pip install --no-deps mergekit==0.1.5 immutables``; both libraries then merge the same tensors in
one process, in turns, and both results are compared. Times of merges count what is the same for
both: n models and a base in memory go in, one model comes out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, markdown, publish

from hansa.combine.merge.algorithms.merging import BlockFacts, MergingAlgorithm, Piece
from hansa.combine.merge.artefact_building import build_artefact
from hansa.combine.merge.cut import cut
from hansa.weights.model_folder import ModelFolder

MODELS = 8
MIB = 1 << 20
SAME = {
    "linear": {"name": "averaging"},
    "ties": {
        "name": "ties", "density": 0.2, "scope": "tensor", "vote": "after_weights",
        "tie": "positive",
    },
    "slerp": {"name": "slerp", "t": 0.3},
    "dare_linear": {"name": "dare", "drop": 0.5, "rescale": True},
}  # fmt: skip
"""mergekit's methods, and ours with the same meaning."""


def noisy_models(base: Path, place: Path) -> list[Path]:
    """Folders of models that differ from the base in all but its embeddings."""
    ground = {n: t for file in base.glob("*.safetensors") for n, t in load_file(file).items()}
    folders = []
    for number in range(MODELS):
        folder = place / f"model{number}"
        folder.mkdir(parents=True)
        draw = torch.Generator().manual_seed(number)
        changed = {}
        for name, tensor in ground.items():
            frozen = "embeddings" in name or not tensor.is_floating_point()
            noise = torch.zeros(()) if frozen else torch.randn(tensor.shape, generator=draw)
            changed[name] = tensor if frozen else tensor + 1e-3 * noise
        write_model(folder, changed, base / "config.json", 1)
        folders.append(folder)
    return folders


def write_model(
    folder: Path, tensors: dict[str, torch.Tensor], config: Path | None, shards: int
) -> None:
    """A transformers folder in so many shards."""
    names = list(tensors)
    where = {}
    for k in range(shards):
        file = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        part = {n: tensors[n].contiguous() for n in names[k::shards]}
        if shards == 1:
            file = "model.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        where.update(dict.fromkeys(part, file))
    if shards > 1:
        index = {"metadata": {}, "weight_map": where}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    if config is not None:
        (folder / "config.json").write_text(config.read_text())


def big_models(place: Path, smoke: bool) -> tuple[Path, list[Path]]:
    """A base and models of 200 MB in four shards: 12 layers of a transformer."""
    width, layers = (32, 2) if smoke else (592, 12)
    draw = torch.Generator().manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(layers):
        layer = f"encoder.layer.{k}"
        for part in ("query", "key", "value"):
            shapes[f"{layer}.attention.self.{part}.weight"] = (width, width)
        shapes[f"{layer}.attention.output.dense.weight"] = (width, width)
        shapes[f"{layer}.intermediate.dense.weight"] = (4 * width, width)
        shapes[f"{layer}.output.dense.weight"] = (width, 4 * width)
    base = place / "base"
    base.mkdir(parents=True)
    numbers = {n: torch.randn(s, generator=draw) * 0.02 for n, s in shapes.items()}
    write_model(base, numbers, None, 4)
    folders = []
    for number in range(MODELS):
        folder = place / f"model{number}"
        folder.mkdir()
        draw = torch.Generator().manual_seed(1 + number)
        tuned = {n: t + torch.randn(t.shape, generator=draw) * 1e-3 for n, t in numbers.items()}
        write_model(folder, tuned, None, 4)
        folders.append(folder)
    return base, folders


def child(work: str, smoke: bool, python: str = sys.executable, **given: Any) -> dict[str, float]:
    """A function of this file in a process of its own: its CPU time and the most memory."""
    if smoke and python == sys.executable:
        return globals()[work](**given)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-W", "ignore", __file__, "--child", work, json.dumps(given)],
        check=True, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def measured(work: Callable[[], Any]) -> dict[str, float]:
    """CPU time, and the most memory at any time beyond what was held before, in bytes."""
    began, before = time.process_time(), memory("VmRSS")
    work()
    return {"cpu": time.process_time() - began, "more": memory("VmHWM") - before}


def memory(which: str) -> int:
    """What Linux says of this process; of ``ru_maxrss`` a part is its parent's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) << 10


def all_sizes(base: str, models: list[str], place: str, algorithms: list[Any]) -> dict[str, float]:
    """An artefact, from which every size of the algorithms can be cut."""

    def build() -> None:
        build_artefact(
            [ModelFolder.open(m) for m in models],
            ModelFolder.open(base),
            Path(place) / f"artefact{len(list(Path(place).iterdir()))}",
            [MergingAlgorithm.resolve(a) for a in algorithms],
        )

    return measured(build)


def one_size(base: str, models: list[str], place: str, algorithm: Any) -> dict[str, float]:
    """From files to one file with all models at 1x, out of core."""

    def merge() -> None:
        target = Path(place) / f"one{len(list(Path(place).iterdir()))}"
        artefact = build_artefact(
            [ModelFolder.open(m) for m in models],
            ModelFolder.open(base),
            target,
            [MergingAlgorithm.resolve(algorithm)],
            losses=False,
        )
        cut(artefact, algorithm["name"], target.with_suffix(".safetensors"), size=1.0 + 1e-9)

    return measured(merge)


def by_mergekit(base: str, models: list[str], place: str, method: str) -> dict[str, float]:
    """From files to one file, all models in memory."""
    from mergekit.merge_methods.api import merge_state_dicts

    def merge() -> None:
        def state(folder: str) -> dict[str, torch.Tensor]:
            files = sorted(Path(folder).glob("*.safetensors"))
            return {n: t for file in files for n, t in load_file(file).items()}

        states = {str(k): state(folder) for k, folder in enumerate(models)}
        parameters = dict(PARAMETERS[method])
        if method != "linear":
            states["base"] = state(base)
        with torch.no_grad():
            merged = merge_state_dicts(
                states,
                method,
                parameters=parameters,
                base=None if method == "linear" else "base",
            )
        save_file(merged, Path(place) / f"{method}.safetensors")

    return measured(merge)


PARAMETERS: dict[str, dict[str, Any]] = {
    "linear": {"weight": 1.0},
    "ties": {"weight": 1.0, "density": 0.2},
    "slerp": {"t": 0.3},
    "dare_linear": {"weight": 1 / MODELS, "density": 0.5, "rescale": True},
}


@torch.no_grad()
def same_work(base: str, models: list[str], repeats: int) -> dict[str, Any]:
    """Both libraries on the same tensors, in turns: median CPU time of a whole model."""
    from mergekit.merge_methods.api import merge_tensors

    states = [load_file(Path(m) / "model.safetensors") for m in models]
    ground = load_file(Path(base) / "model.safetensors")
    names = [n for n, t in ground.items() if t.is_floating_point() and "embeddings" not in n]
    result = {}
    for method, ours in SAME.items():
        algorithm = MergingAlgorithm.resolve(dict(ours))
        using = states[:2] if method == "slerp" else states

        def theirs(name: str, method: str = method, using: Any = using) -> torch.Tensor:
            tensors = [s[name] for s in using]
            if method == "linear":
                return merge_tensors(tensors, method, parameters=PARAMETERS[method])
            if method == "slerp":
                return merge_tensors(tensors, method, parameters=PARAMETERS[method], base_index=0)
            return merge_tensors(
                [ground[name], *tensors], method, parameters=PARAMETERS[method], base_index=0
            )

        def mine(name: str, algorithm: Any = algorithm, using: Any = using) -> torch.Tensor:
            bottom, shape = ground[name].flatten(), tuple(ground[name].shape)
            about = BlockFacts(name, (Piece(name, shape, 0),))
            rows = [state[name].flatten() for state in using]
            return algorithm.merge_weights(rows, bottom, about).view(shape)

        if method != "dare_linear":  # whose draws are other ones
            apart = [(theirs(n) - mine(n)).abs() > 2e-5 for n in names]
            off = sum(int(a.sum()) for a in apart) / sum(a.numel() for a in apart)
            # Of numbers equally large at the edge of a trim either may stay.
            if off > 1e-5:
                raise SystemExit(f"{method}: a share of {off} of the numbers differs")
        times: dict[str, list[float]] = {"theirs": [], "ours": []}
        for turn in range(repeats + 1):
            for who, call in (("theirs", theirs), ("ours", mine)):
                began = time.process_time()
                for name in names:
                    call(name)
                if turn:
                    times[who].append(time.process_time() - began)
        result[method] = {who: statistics.median(took) for who, took in times.items()}
    return result


def of_sizes(goals: Goals, base: Path, models: list[Path], place: Path, smoke: bool) -> None:
    folder = place / "artefacts"
    folder.mkdir()
    for said in ({"name": "averaging"}, {"name": "ties"}, {"name": "emr"}):
        took = child(
            "all_sizes",
            smoke,
            base=str(base),
            models=[str(m) for m in models],
            place=str(folder),
            algorithms=[said],
        )
        goals.add(
            f"all sizes of {MODELS} MiniLMs, {said['name']}",
            f"{took['cpu']:.1f} CPU-s",
            "20 CPU-s",
            took["cpu"] <= 20,
        )


def of_memory(goals: Goals, place: Path, smoke: bool, mergekit: str | None) -> None:
    base, models = big_models(place / "big", smoke)
    folder = place / "merged"
    folder.mkdir()
    opened = ModelFolder.open(base)
    from hansa.combine.merge.block_layout import lay_out

    block = max(layout.size.bytes for layout in lay_out(opened))
    shard = max(file.stat().st_size for file in base.glob("*.safetensors"))
    bound = MODELS * block + 2 * shard
    given = {"base": str(base), "models": [str(m) for m in models], "place": str(folder)}
    for said in ({"name": "averaging"}, {"name": "ties"}):
        took = child("all_sizes", smoke, algorithms=[said], **given)
        goals.add(
            f"memory, all sizes of {MODELS} models of {opened.bytes / MIB:.0f} MiB, {said['name']}",
            f"{took['more'] / MIB:.0f} MiB",
            f"{bound / MIB:.0f} MiB (a block of each and 2 shards)",
            took["more"] <= bound,
        )
    for method in ("linear", "ties", "dare_linear"):
        ours = child("one_size", smoke, algorithm=SAME[method], **given)
        if mergekit is None:
            continue
        theirs = child("by_mergekit", smoke, mergekit, method=method, **given)
        goals.add(
            f"from files to a file at 1x, {method}: memory, ours and mergekit's",
            f"{ours['more'] / MIB:.0f} and {theirs['more'] / MIB:.0f} MiB",
            "less",
            ours["more"] < theirs["more"],
        )
        goals.add(
            f"from files to a file at 1x, {method}: ours and mergekit's "
            "(ours writes and hashes all that any size needs)",
            f"{ours['cpu']:.1f} and {theirs['cpu']:.1f} CPU-s",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="small tensors, without mergekit")
    parser.add_argument("--encoder", type=Path, help="MiniLM's folder")
    parser.add_argument("--python-mergekit", help="a Python that has mergekit 0.1.5")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.child:
        print(json.dumps(globals()[given.child[0]](**json.loads(given.child[1]))))
        return
    goals = Goals()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if given.smoke:
            base, models = big_models(place / "tiny", True)
        elif given.encoder is None:
            raise SystemExit("needs --encoder, the folder of MiniLM")
        else:
            base, models = given.encoder, noisy_models(given.encoder, place / "minilm")
        of_sizes(goals, base, models, place, given.smoke)
        mergekit = None if given.smoke else given.python_mergekit
        if mergekit:
            took = child(
                "same_work", False, mergekit,
                base=str(base), models=[str(m) for m in models], repeats=3,
            )  # fmt: skip
            for method, times in took.items():
                ratio = times["ours"] / times["theirs"]
                goals.add(
                    f"{method} of {2 if method == 'slerp' else MODELS} MiniLMs in memory",
                    f"{times['ours']:.2f} CPU-s, {ratio:.2f} x mergekit's",
                    "1 x",
                    ratio <= 1.0,
                )
        elif not given.smoke:
            goals.add("against mergekit", "not measured: no --python-mergekit")
        of_memory(goals, place, given.smoke, mergekit)
    command = "python benchmarks/combine/merge_speed.py --encoder FOLDER --python-mergekit P"
    title = "Merging: CPU time and memory, one thread"
    publish("merge_speed", markdown(title, command, goals.HEADER, goals.rows), given.smoke)


if __name__ == "__main__":
    main()
