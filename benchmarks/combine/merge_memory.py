"""Memory of building an artefact: eight sharded checkpoints of some 200 MB, and cuts from it.

The promise is a peak of at most one block of all models and two shards beside what Python and the
libraries take. Peaks are of resident memory, of a process of its own for every algorithm, less what
it held with all models open and nothing read. Weights are made up: a BERT of 12 layers.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, fresh, markdown, publish

from hansa.combine.merge.algorithms.merging import MergingAlgorithm
from hansa.combine.merge.artefact_building import build_artefact
from hansa.combine.merge.cut import cut
from hansa.weights.model_folder import ModelFolder

MODELS, SHARDS, LAYERS, WIDTH, WORDS = 8, 4, 12, 512, 30_000
ALGORITHMS = ("averaging", "ties", "emr", "tall_mask")
MIB = 1 << 20


def shapes(small: bool) -> dict[str, tuple[int, ...]]:
    """Of a BERT."""
    width, words, layers = (16, 40, 2) if small else (WIDTH, WORDS, LAYERS)
    named: dict[str, tuple[int, ...]] = {"embeddings.word_embeddings.weight": (words, width)}
    for k in range(layers):
        layer = f"encoder.layer.{k}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            named[f"{layer}.attention.{part}.weight"] = (width, width)
            named[f"{layer}.attention.{part}.bias"] = (width,)
        named[f"{layer}.attention.output.LayerNorm.weight"] = (width,)
        named[f"{layer}.intermediate.dense.weight"] = (4 * width, width)
        named[f"{layer}.output.dense.weight"] = (width, 4 * width)
        named[f"{layer}.output.LayerNorm.weight"] = (width,)
    return named


def write_models(place: Path, small: bool) -> None:
    """A base and models that differ from it everywhere, in shards with an index."""
    named = shapes(small)
    names = sorted(named)
    total = sum(math.prod(shape) for shape in named.values())
    before = itertools.accumulate((math.prod(named[name]) for name in names), initial=0)
    shard_of = [min(SHARDS - 1, SHARDS * place // total) for place in before][:-1]
    for model in range(MODELS + 1):
        folder = place / f"model{model}"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text('{"model_type": "bert"}')
        places = {}
        for shard in range(SHARDS):
            file = f"model-{shard + 1:05}-of-{SHARDS:05}.safetensors"
            tensors = {}
            for number in (n for n, of in enumerate(shard_of) if of == shard):
                draws = torch.Generator().manual_seed(number)
                tensor = 0.05 * torch.randn(named[names[number]], generator=draws)
                if model:
                    own = torch.Generator().manual_seed(1000 * model + number)
                    tensor += 1e-3 * torch.randn(tensor.shape, generator=own)
                tensors[names[number]] = tensor
                places[names[number]] = file
            save_file(tensors, folder / file)
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def held(peak: bool) -> int:
    """Resident bytes of this process, now or at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    word = "VmHWM:" if peak else "VmRSS:"
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(word))


def measure(models: str, algorithm: str) -> dict[str, Any]:
    """Build and cut in this process."""
    torch.set_num_threads(1)
    folders = [ModelFolder.open(Path(models) / f"model{k}") for k in range(MODELS + 1)]
    gc.collect()
    before = max(held(False), held(True))
    with tempfile.TemporaryDirectory(dir=models) as place:
        began = time.process_time()
        chosen = [MergingAlgorithm.resolve(algorithm)]
        artefact = build_artefact(folders[1:], folders[0], Path(place) / "artefact", chosen)
        built, busy = held(True), time.process_time() - began
        size = max(2.0, artefact.sizes(algorithm).least + 1e-6)
        cut(artefact, algorithm, Path(place) / "cut.safetensors", size=size)
        return {
            "build": built - before,
            "cut": held(True) - before,
            "seconds": busy,
            "block": max(layout.size.bytes for layout in artefact.layouts),
            "model": folders[0].bytes,
            "shard": max(f.stat().st_size for f in folders[0].path.glob("*.safetensors")),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="tiny models")
    smoke = parser.parse_args().smoke
    goals = Goals()
    with tempfile.TemporaryDirectory() as place:
        write_models(Path(place), smoke)
        for algorithm in ALGORITHMS:
            row = fresh(
                "measure", "combine.merge_memory", smoke=smoke, models=place, algorithm=algorithm
            )
            most = MODELS * row["block"] + 2 * row["shard"]
            got = f"{row['build'] / MIB:.0f} MiB, with a cut {row['cut'] / MIB:.0f} MiB"
            wanted = (
                f"{most / MIB:.0f} MiB: {MODELS} blocks of {row['block'] / MIB:.1f} "
                f"and 2 shards of {row['shard'] / MIB:.0f}"
            )
            what = f"{algorithm}, {MODELS} models of {row['model'] / MIB:.0f} MiB"
            goals.add(what, got, wanted, row["cut"] <= most)
            goals.add(f"{algorithm}, CPU seconds of building", f"{row['seconds']:.1f}")
    text = markdown(
        "Memory of merging: eight sharded checkpoints",
        "python benchmarks/combine/merge_memory.py",
        Goals.HEADER,
        goals.rows,
    )
    publish("merge_memory", text, smoke)


if __name__ == "__main__":
    main()
