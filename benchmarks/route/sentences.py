"""Routing on real sentences: eight tasks, one LoRA each on MiniLM, and a pool full of noise.

    python benchmarks/route/sentences.py --encoder FOLDER --keep FOLDER
    python benchmarks/route/sentences.py --smoke    # four made-up tasks, a tiny encoder

Adapters have no heads: an answer is the label whose text lies nearest to the query (label-text
scoring), so that any mixture of adapters can answer any task. The train and validation sets hold
no sentence of any test set. Scores are accuracies by domain, beside those of each task's own
adapter ("oracle"). In the noisy pool half of the adapters are weakened to a fifth and the rest is
noise. ID: all is there; semi-OOD: a query's own adapter is not; OOD: nor is its task. All answers
are computed in bfloat16.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import Goals, Notes, markdown, publish
from measure_methods import WITH, WITHOUT, K, alone, associated, routers, table_of
from measure_routing import World, by_mixture, noisy, table
from measure_sentences import TOKENS, encoder_folder, tasks_of, trained_adapters

from hansa.base.streams import Streams
from hansa.combine.merge.lora_pool import Pool, PoolSpectrum
from hansa.data.fetch import find
from hansa.models.label_text import SentenceEncoder
from hansa.route.abstaining import auroc, conformal, p_values, thresholds
from hansa.route.adapter_training import AdapterTraining
from hansa.route.answering import Query
from hansa.route.association import Exhaustive, Screen, SuccessiveHalving
from hansa.route.label_text import LabelTextModel
from hansa.route.pool_loading import load_adapter
from hansa.route.score_matrix import ScoreMatrix
from hansa.route.sets import Example
from hansa.route.slab import AdapterSlab
from hansa.route.sources.sentences import examples_of
from hansa.weights.lora_folder import LoraFolder


def made(folder: Path, keep: Path, seed: int, given: argparse.Namespace) -> World:
    """The pool of a seed's own adapters."""
    sizes = {"train": 1000, "validation": given.validation, "test": given.test}
    pool = tasks_of(seed, given.smoke, **sizes)
    settings = AdapterTraining(
        lr=1e-2 if given.smoke else 2e-3, epochs=4 if given.smoke else 2, seed=seed,
        bfloat16=not given.smoke, max_tokens=TOKENS,
    )  # fmt: skip
    folders = trained_adapters(folder, pool, keep / f"seed_{seed}", settings)
    encoder = SentenceEncoder.open(folder, TOKENS)
    encoder.module.bfloat16()
    slab = AdapterSlab.over(encoder.module, "bfloat16")
    own = [load_adapter(slab, place, name) for name, place in folders.items()]
    return World(
        LabelTextModel(encoder.module, encoder.tokenizer, slab, TOKENS),
        [task.name for task in pool.tasks],
        [examples_of(task, task.validation) for task in pool.tasks],
        [examples_of(task, task.test) for task in pool.tasks],
        own,
    )


def halving(world: World, pool: int, seed: int, budgets: Sequence[float]) -> list[dict[str, Any]]:
    """Exhaustive association, and halving at some budgets: answers, and what is chosen worth."""
    rows = []
    for how in (Exhaustive(), *(SuccessiveHalving(budget=b) for b in budgets)):
        matrix, cost = associated(world, pool, how, seed)
        choices = matrix.choices()
        score = by_mixture(world, lambda t, c=choices: alone(int(c[t])))
        budget = f", b = {how.budget:g}" if isinstance(how, SuccessiveHalving) else ""
        rows.append({"how": f"{how.name}{budget}", "answers": cost, "score": score})
    return rows


def abstention(world: World, matrix: ScoreMatrix, smoke: bool) -> list[dict[str, float]]:
    """Lines of Shakespeare are no task: how many are noticed at which cost."""
    lines = [f"w{60 + k} w{70 + k}" for k in range(20)]
    if not smoke:
        found = find("shakespeare", "input.txt")
        if not found:
            return []
        text = [x for x in found[0].read_text().splitlines() if len(x.split()) > 4]
        lines = [text[k] for k in Streams(0).numpy("lines").permutation(len(text))[:400]]
    router = routers(world, matrix, "ID")[0]
    inside = [world.vectors(examples) for examples in world.test]
    outside = world.vectors([Example(Query(line), "") for line in lines])
    calibration = conformal([world.vectors(examples) for examples in world.validation])
    sure = [p_values(router.similarities(rows), calibration) for rows in inside]
    foreign = p_values(router.similarities(outside), calibration)
    area = auroc(np.concatenate(sure), foreign)
    rows = []
    for alpha in (0.05, 0.1, 0.2, 0.3, 0.5):
        levels = thresholds(calibration, alpha)

        def turned(vectors: np.ndarray, levels: np.ndarray = levels) -> float:
            return float((router.similarities(vectors) < levels).all(1).mean())

        own = statistics.mean(turned(rows_) for rows_ in inside)
        rows.append({"alpha": alpha, "own": own, "foreign": turned(outside), "auroc": area})
    return rows


def compressed(world: World, folders: Sequence[Path], place: Path) -> list[dict[str, float]]:
    """The tasks' own adapters merged in factor space, from all apart to one."""
    adapters = [LoraFolder.open(folder) for folder in folders]
    spectrum = PoolSpectrum.of(Pool.of(adapters), scale=1.5)
    slab, rows = world.model.slab, []
    for steps in range(len(adapters)):
        out = place / f"pool{steps}"
        pool = spectrum.write(out, spectrum.bytes[steps])
        groups = next(iter(spectrum.groups(steps).values()))
        names = {}
        for number, (group, folder) in enumerate(
            zip(groups, pool.plan.facts["folders"]["adapter"], strict=True)
        ):
            index = load_adapter(slab, out / "adapters" / folder, f"{steps}.{number}")
            names.update(dict.fromkeys(group, index))
        score = by_mixture(world, lambda t, n=names: alone(n[t]))
        rows.append({"bytes": spectrum.bytes[steps], "left": len(groups), "score": score})
        for number in range(len(groups)):
            slab.remove(f"{steps}.{number}")
    return rows


def seed_results(
    seed: int, folder: Path, keep: Path, given: argparse.Namespace, notes: Notes
) -> dict[str, Any]:
    """All that is measured at a seed, noted as it comes."""
    world = made(folder, keep, seed, given)
    own = len(world.own)
    folders = [keep / f"seed_{seed}" / name for name in world.names]
    result = {
        "clean": notes.get(f"clean {seed}", lambda: table_of(world, seed, own, Exhaustive())),
    }
    with tempfile.TemporaryDirectory() as place:
        result["compressed"] = notes.get(
            f"compressed {seed}", lambda: compressed(world, folders, Path(place))
        )

    def foreign() -> list[dict[str, float]]:
        matrix, _ = associated(world, own, Exhaustive(examples=1), seed)
        return abstention(world, matrix, given.smoke)

    result["abstention"] = notes.get(f"abstention {seed}", foreign)
    noise = 4 if given.smoke else 64 - own
    noisy(world.model.slab, world.own, noise, seed)
    pool = own + noise
    # Fused adapters stand between: the pool's indices are those of own and noise.
    result["noisy"] = notes.get(
        f"noisy {seed}",
        lambda: table_of(fresh(world), seed, pool, Exhaustive()),
    )
    budgets = (2.0,) if given.smoke else (1.0, 2.0, 4.0)
    result["halving"] = notes.get(
        f"halving {seed}", lambda: halving(fresh(world), pool, seed, budgets)
    )
    return result


def fresh(world: World) -> World:
    """The same with a slab in which own and noise have the indices 0, 1, 2, ..."""
    old = world.model.slab
    slab = AdapterSlab(old.linears, "bfloat16")
    for name in old.names:
        if not name.startswith("fused"):
            slab.add(name, {k: (a.clone(), b.clone()) for k, (a, b) in old.factors(name).items()})
    model = LabelTextModel(world.model.module, world.model.encoder.tokenizer, slab, TOKENS)
    own = [slab.index(name) for name in world.names]
    return World(model, world.names, world.validation, world.test, own, _vectors=world._vectors)


def large(folder: Path, keep: Path, given: argparse.Namespace) -> dict[str, Any]:
    """1,500 adapters, a two-stage screen."""
    world = made(folder, keep, 0, given)
    noisy(world.model.slab, world.own, given.pool - len(world.own), 0)
    began = time.process_time()
    how = Screen(first=4, keep=20)
    return table_of(world, 0, given.pool, how) | {"cpu": time.process_time() - began}


def evaluated(folder: Path, keep: Path, given: argparse.Namespace) -> None:
    notes = Notes(None if given.smoke else keep / "notes.jsonl")
    seeds = [0] if given.smoke else list(range(given.seeds))
    results = [seed_results(seed, folder, keep, given, notes) for seed in seeds]
    goals = Goals()
    text = [pool_table("clean", results), pool_table("noisy", results)]

    def mean(pool: str, name: str, regime: str = "ID") -> float:
        return statistics.mean(r[pool]["rows"][name][regime] for r in results)

    names = (f"LORAUTER, K = {K}", f"uniform mixture of {K}", f"parameter fusion of {K}")
    for pool in ("clean", "noisy"):
        for said in (WITHOUT, WITH):
            line = [*(mean(pool, name + said) for name in names), mean(pool, "average of all")]
            goals.add(
                f"{pool} pool, ID{said}: LORAUTER, uniform mixture, fusion, average of all",
                ", ".join(f"{x:.1f}" for x in line),
                "falling",
                all(a > b for a, b in itertools.pairwise(line)),
            )
    oracle = mean("noisy", "own adapter (oracle)")
    for said in (WITHOUT, WITH):
        lorauter = mean("noisy", names[0] + said)
        goals.add(
            f"noisy pool{said}: LORAUTER against the own adapter as it is there",
            f"{lorauter:.1f} against {oracle:.1f}",
            "above",
            lorauter > oracle,
        )
    kinds = [
        {
            key: statistics.mean(r["halving"][k][key] for r in results)
            for key in ("answers", "score")
        }
        | {"how": row["how"]}
        for k, row in enumerate(results[0]["halving"])
    ]
    whole = kinds[0]
    cheap = [k for k in kinds[1:] if k["score"] >= whole["score"] - 0.5]
    least = min(cheap, key=lambda k: k["answers"]) if cheap else None
    goals.add(
        "successive halving as good as exhaustive (within half a point)",
        f"{100 * least['answers'] / whole['answers']:.0f} % of the answers" if least else "never",
        "below 50 %",
        least is not None and least["answers"] < whole["answers"] / 2,
    )
    if any(r["abstention"] for r in results):
        area = statistics.mean(r["abstention"][0]["auroc"] for r in results)
        goals.add("lines of Shakespeare told from queries: AUROC", f"{area:.2f}")
    header = ["association, noisy pool", "answers", "score of the chosen adapters"]
    text.append(
        table(header, [[k["how"], f"{k['answers']:.0f}", f"{k['score']:.1f}"] for k in kinds])
    )
    header = ["turned away at most", "own queries turned away", "lines of Shakespeare turned away"]
    text.append(
        table(
            header,
            [
                [
                    f"{100 * row['alpha']:.0f} %",
                    *(
                        f"{100 * statistics.mean(r['abstention'][k][key] for r in results):.1f} %"
                        for key in ("own", "foreign")
                    ),
                ]
                for k, row in enumerate(results[0]["abstention"])
            ],
        )
    )
    header = ["own adapters merged in factor space", "bytes", "score"]
    text.append(
        table(
            header,
            [
                [
                    f"{row['left']} left",
                    f"{row['bytes']:,}",
                    f"{statistics.mean(r['compressed'][k]['score'] for r in results):.1f}",
                ]
                for k, row in enumerate(results[0]["compressed"])
            ],
        )
    )
    if given.pool:
        big = notes.get(f"large {given.pool}", lambda: large(folder, keep, given))
        each = results[0]["compressed"][0]["bytes"] / len(results[0]["clean"]["choices"])
        chosen = len(set(big["choices"]))
        text.append(
            f"A pool of {given.pool} (seed 0, two-stage screen, {big['answers']:,} answers, "
            f"{big['cpu'] / 60:.0f} CPU-minutes in all). Routing goes to {chosen} of them, which "
            f"take {chosen * each / 1e6:.1f} MB of the pool's {given.pool * each / 1e6:,.0f} MB.\n"
        )
        text.append(pool_table("large", [{"large": big}]))
    size = (
        f"seeds {seeds[0]} to {seeds[-1]}, {given.validation} validation and {given.test} test "
        "sentences a task"
    )
    title = f"LORAUTER on eight sentence tasks: percent right over domains, MiniLM, {size}"
    command = "python benchmarks/route/sentences.py --encoder FOLDER --keep FOLDER"
    command += f" --seeds {len(seeds)}" + f" --pool {given.pool}" * bool(given.pool)
    whole_text = markdown(title, command, goals.HEADER, goals.rows) + "\n" + "\n".join(text)
    publish("route_sentences", whole_text, given.smoke)


def pool_table(pool: str, results: Sequence[dict[str, Any]]) -> str:
    """Scores and what share of the clean oracle's they are."""
    rows = []
    names = results[0][pool]["rows"]
    oracle = statistics.mean(r[pool]["rows"]["own adapter (oracle)"]["ID"] for r in results)
    for name in names:
        cells = [name]
        for regime in ("ID", "semi-OOD", "OOD"):
            if regime not in names[name]:
                cells += [""]
                continue
            scores = [r[pool]["rows"][name][regime] for r in results]
            spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
            mean = statistics.mean(scores)
            cells += [f"{mean:.1f}{spread} ({100 * mean / oracle:.0f} %)"]
        rows.append(cells)
    head = [f"{pool} pool; in brackets: of the own adapter there", "ID", "semi-OOD", "OOD"]
    said = "".join(
        f"\nTemperature by validation{way}: "
        f"{', '.join(format(r[pool]['temperature'][way], 'g') for r in results)}; nearest task "
        f"right: {statistics.mean(r[pool]['top1'][way] for r in results):.0f} %.\n"
        for way in (WITHOUT, WITH)
    )
    return table(head, rows) + said


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="made-up tasks, a tiny encoder")
    parser.add_argument("--encoder", type=Path, help="MiniLM's folder; not set: the package's")
    parser.add_argument("--keep", type=Path, help="where trained adapters and notes stay")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--validation", type=int, default=40, help="sentences a task")
    parser.add_argument("--test", type=int, default=100, help="sentences a task")
    parser.add_argument("--pool", type=int, default=0, help="adapters of one large pool; 0: none")
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        keep = Path(place) if given.smoke or given.keep is None else given.keep
        keep.mkdir(parents=True, exist_ok=True)
        folder = encoder_folder(given.encoder, given.smoke, keep)
        evaluated(folder, keep, given)


if __name__ == "__main__":
    main()
