"""A different mixture of adapters in every row of a batch: what it costs beside the base alone.

    python benchmarks/route/mixtures_speed.py --encoder FOLDER
    python benchmarks/route/mixtures_speed.py --smoke    # an encoder of a few thousand numbers

MiniLM, adapters of rank 8 on its 36 linear layers, 32 rows of 32 tokens, 4 adapters a row, one
thread; CPU time, the median of calls that take turns. "Dense" puts each row's delta into the
weights and takes it out again; PEFT has one exact way, an adapter for each row that joins the four
(``cat``), and then one row at a time. Every query has weights of its own, so that joining is part
of its work; it is shown apart.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, markdown, publish
from measure_sentences import encoder_folder

from hansa.models.label_text import SentenceEncoder
from hansa.route.answering import Mixture
from hansa.route.mixture_cost import calibrate
from hansa.route.pool_loading import folders_of, load_pool
from hansa.route.routing import Router
from hansa.route.row_mixing import mixing
from hansa.route.slab import AdapterSlab
from hansa.weights.lora_folder import LoraFactors, write_lora

RANK, K = 8, 4
Factors = dict[str, tuple[Tensor, Tensor]]


def cpu(work: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median CPU time of each; they take turns, so that what slows the machine slows all."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(repeats + 1):
        for name, call in work.items():
            began = time.process_time()
            call()
            if turn:  # the first is not counted
                times[name].append(time.process_time() - began)
    return {name: statistics.median(took) for name, took in times.items()}


def layers_of(module: nn.Module) -> dict[str, tuple[int, int]]:
    """The linear layers of the stack: (inputs, outputs)."""
    return {
        name: (layer.in_features, layer.out_features)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear) and "pooler" not in name
    }


def drawn(layers: dict[str, tuple[int, int]], seed: int) -> Factors:
    """An adapter of random numbers."""
    draw = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(RANK, inputs, generator=draw) / inputs**0.5,
            torch.randn(outputs, RANK, generator=draw) * 0.05,
        )
        for name, (inputs, outputs) in layers.items()
    }


def mixtures_over(active: int, rows: int, seed: int) -> list[Mixture]:
    """Random weights of K adapters in each row; together they use so many adapters."""
    rng = np.random.default_rng(seed)
    chosen = []
    for row in range(rows):
        first = [(row * K + k) % active for k in range(K)]
        weights = rng.dirichlet(np.ones(K))
        chosen.append(Mixture(tuple(first), tuple(weights.tolist())))
    assert len({a for mixture in chosen for a in mixture.adapters}) == active
    return chosen


def dense(module: nn.Module, slab: AdapterSlab, ids: Tensor, mixtures: list[Mixture]) -> Tensor:
    """Row by row, with the row's delta in the weights."""
    layers = {name: layer for name, layer in module.named_modules() if name in slab.linears}
    pool = [slab.factors(name) for name in slab.names]
    out = []
    for row, mixture in zip(ids, mixtures, strict=True):
        held = {}
        for name, layer in layers.items():
            parts = [
                (pool[a][name], weight)
                for a, weight in zip(mixture.adapters, mixture.weights, strict=True)
                if name in pool[a]
            ]
            if parts:
                held[name] = layer.weight.data
                delta = sum((weight * (b @ a) for (a, b), weight in parts), torch.zeros(()))
                layer.weight.data = layer.weight.data + delta
        out.append(module(input_ids=row[None]).last_hidden_state[0])
        for name, weight in held.items():
            layers[name].weight.data = weight
    return torch.stack(out)


def by_peft(
    folder: Path, slab: AdapterSlab, mixtures: list[Mixture]
) -> tuple[Callable[[Tensor], Tensor], float]:
    """(PEFT with a joined adapter for each row, CPU seconds that joining them took)."""
    import peft

    module = SentenceEncoder.open(folder).module
    targets = [name for name, rows in slab.layers.items() if rows.used]
    config = peft.LoraConfig(r=RANK, lora_alpha=RANK, target_modules=targets)
    used = sorted({a for mixture in mixtures for a in mixture.adapters})
    adapted = peft.get_peft_model(module, config, adapter_name="a0").eval()
    for a in used:
        if f"a{a}" not in adapted.peft_config:
            adapted.add_adapter(f"a{a}", config)
    layers = dict(adapted.base_model.model.named_modules())
    for a in used:
        for name, (down, up) in slab.factors(slab.name(a)).items():
            layers[name].lora_A[f"a{a}"].weight.data = down.clone()
            layers[name].lora_B[f"a{a}"].weight.data = up.clone()
    began = time.process_time()
    for row, mixture in enumerate(mixtures):
        adapted.add_weighted_adapter(
            [f"a{a}" for a in mixture.adapters],
            list(mixture.weights),
            f"row{row}",
            combination_type="cat",
        )
    joining = time.process_time() - began

    def forward(ids: Tensor) -> Tensor:
        out = []
        for row, tokens in enumerate(ids):
            adapted.set_adapter(f"row{row}")
            out.append(adapted(input_ids=tokens[None]).last_hidden_state[0])
        return torch.stack(out)

    return forward, joining


def mixtures_against_others(goals: Goals, folder: Path, smoke: bool) -> None:
    module = SentenceEncoder.open(folder).module
    layers = layers_of(module)
    slab = AdapterSlab.over(module)
    rows, tokens = (8, 8) if smoke else (32, 32)
    for a in range(56):
        slab.add(f"a{a}", drawn(layers, a))
    vocabulary = module.config.vocab_size
    ids = torch.randint(vocabulary, (rows, tokens), generator=torch.Generator().manual_seed(0))
    costs = calibrate()
    repeats = 2 if smoke else 15
    for active in (8, 16) if smoke else (8, 56):
        mixtures = mixtures_over(active, rows, active)

        def mixed(kernel: str, mixtures: list[Mixture] = mixtures) -> Tensor:
            with mixing(module, slab, mixtures, kernel, costs):  # type: ignore[arg-type]
                return module(input_ids=ids).last_hidden_state

        joined, joining = by_peft(folder, slab, mixtures)
        exact = dense(module, slab, ids, mixtures)
        for name, other in {"ours": mixed("auto"), "PEFT": joined(ids)}.items():
            off = float((other - exact).abs().max())
            if off > 1e-3:
                raise SystemExit(f"{name} is not the dense delta: off by {off}")
        took = cpu(
            {
                "base": lambda: module(input_ids=ids),
                "auto": lambda: mixed("auto"),
                "union": lambda: mixed("union"),
                "gathered": lambda: mixed("gathered"),
                "segments": lambda: mixed("segments"),
            },
            repeats,
        )
        slow = cpu(
            {
                "base": lambda: module(input_ids=ids),
                "dense": lambda mixtures=mixtures: dense(module, slab, ids, mixtures),
                "PEFT": lambda joined=joined: joined(ids),
            },
            1 if smoke else 4,
        )
        where = f"{active} adapters in use"
        ratio = took["auto"] / took["base"]
        goals.add(f"mixtures, {where}", f"{ratio:.2f} x base", "1.4 x", ratio <= 1.4)
        for kernel in ("union", "gathered", "segments"):
            goals.add(f"the {kernel} kernel, {where}", f"{took[kernel] / took['base']:.2f} x base")
        goals.add(f"a dense delta a row, {where}", f"{slow['dense'] / slow['base']:.1f} x base")
        peft = slow["PEFT"] / slow["base"]
        making = joining / slow["base"]
        goals.add(f"PEFT's exact way, {where}", f"{peft:.1f} x base")
        goals.add(f"its joining of each row's adapters, {where}", f"{making:.1f} x base more")
        whole = (peft + making) / ratio
        goals.add(
            f"ours against PEFT, {where}",
            f"{whole:.1f} x as fast; {peft / ratio:.1f} x where PEFT has joined them before",
            "5 x",
            whole >= 5,
        )
        goals.add(f"the base itself, {where}", f"{1000 * took['base']:.0f} CPU-ms a batch")


def loading(goals: Goals, folder: Path, place: Path, smoke: bool) -> None:
    """A pool of PEFT folders into one slab."""
    module = SentenceEncoder.open(folder).module
    layers = layers_of(module)
    count = 12 if smoke else 1_500
    base = drawn(layers, 0)
    for number in range(count):
        # The same draws with one number of their own: what they hold does not matter here.
        factors = {name: LoraFactors(a + number / 1e6, b) for name, (a, b) in base.items()}
        write_lora(place / f"adapter{number:04d}", factors, dtype="BF16")
    began, cpu_began = time.perf_counter(), time.process_time()
    slab = AdapterSlab.over(module, "bfloat16")
    load_pool(slab, folders_of(place))
    took, spent = time.perf_counter() - began, time.process_time() - cpu_began
    assert len(slab) == count
    goals.add(
        f"loading {count} adapters ({slab.nbytes / 1e9:.2f} GB)",
        f"{took:.1f} s, {spent:.1f} CPU-s",
        "10 s",
        took <= 10,
    )


def routing(goals: Goals, smoke: bool) -> None:
    """A query's mixture from its vector, where every adapter has a task of its own."""
    rng = np.random.default_rng(0)
    tasks, width = (50 if smoke else 1_500), 384
    centroids = rng.normal(size=(tasks, width)).astype(np.float32)
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    router = Router(centroids, np.arange(tasks))
    queries = rng.normal(size=(200, width)).astype(np.float32)

    def alone() -> None:
        for query in queries:
            router.route(query[None])

    took = cpu({"alone": alone, "together": lambda: router.route(queries)}, 1 if smoke else 5)
    each = 1000 * took["alone"] / len(queries)
    goals.add(f"routing a query, {tasks} tasks", f"{each:.2f} CPU-ms", "1 ms", each <= 1)
    goals.add(
        f"routing 200 queries at once, {tasks} tasks",
        f"{1000 * took['together'] / len(queries):.2f} CPU-ms a query",
    )


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a tiny encoder, few adapters")
    parser.add_argument("--encoder", type=Path, help="MiniLM's folder; not set: the package's")
    given = parser.parse_args()
    torch.set_num_threads(1)
    goals = Goals()
    with tempfile.TemporaryDirectory() as place:
        folder = encoder_folder(given.encoder, given.smoke, Path(place))
        mixtures_against_others(goals, folder, given.smoke)
        pool = Path(place) / "pool"
        pool.mkdir()
        loading(goals, folder, pool, given.smoke)
    routing(goals, given.smoke)
    title = "Per-row mixtures of adapters: MiniLM, rank 8, 32 rows of 32 tokens, one thread"
    command = "python benchmarks/route/mixtures_speed.py --encoder FOLDER"
    publish("mixtures_speed", markdown(title, command, goals.HEADER, goals.rows), given.smoke)


if __name__ == "__main__":
    main()
