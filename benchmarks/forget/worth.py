"""Where distilled images pay: beside as many random originals, as noise, and with no images at all.

    python benchmarks/forget/worth.py            # 3 seeds, about 6 minutes of one core
    python benchmarks/forget/worth.py --smoke    # one seed, a few rounds

The digits of digits.py, each class forgotten in turn:

* one image for each of a client's classes, few as can be;
* no originals left: nobody looks at any, the stop is judged on what stands in for them;
* half of the clients are gone, and have left their images (or as many originals) behind, beside
  ascent and recovery on the originals of those who are still here;
* other architectures: networks that are trained on nothing but the images of all clients.

"random real" keeps as many raw originals as there are images, in the same way.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F

sys.path.insert(0, str(Path(__file__).parents[1]))
from digits import settings
from measure import Notes, markdown, publish
from measure_forgetting import Bench, Row, figures, lines, mean, over, served, shown

from hansa.experiment import run
from hansa.forget import Ascent, Federation, Forgetting, GradientAscent, QuickDrop, Request
from hansa.forget.case import Case
from hansa.forget.federation import Asking
from hansa.forget.holdings import Real, Synthetic
from hansa.forget.orders import Answer, order
from hansa.forget.party import Party
from hansa.forget.playing import tried
from hansa.forget.portions import Portion, StandIn
from hansa.forget.trained import Trained, open_trained
from hansa.models import Model

SEEDS = 3
BLIND = Ascent(judge="synthetic")
STAND_INS = {"distilled": "none", "random real": "random_real", "noise": "noise"}
ONE: dict[str, Forgetting] = {n: QuickDrop(stand_in=s) for n, s in STAND_INS.items()}  # type: ignore[arg-type]
GONE: dict[str, Forgetting] = {
    n: QuickDrop(stand_in=s, ascent=BLIND)
    for n, s in STAND_INS.items()  # type: ignore[arg-type]
}
HALF: dict[str, Forgetting] = {
    "distilled, of all": QuickDrop(),
    "random real, of all": QuickDrop(stand_in="random_real"),
    "originals of those who are here (sga)": GradientAscent(),
}
COLUMNS = ("forget", "worst forget", "retain", "worst retain", "gradients")
NETWORKS = {
    "convnet, as trained": None,
    "convnet of depth 1": {"name": "convnet", "depth": 1, "width": 32},
    "mlp": "mlp",
    "logistic regression": "logistic",
}


def trained(seed: int, scale: float, rounds: int, folder: Path) -> Trained:
    """A run on digits with so many images for each example of a class, rounded up."""
    if not (folder / "summary.json").exists():
        shutil.rmtree(folder, ignore_errors=True)  # of a training that was stopped
        chosen = settings(seed, rounds)
        chosen["algorithm"] = {"name": "quickdrop", "condensation": {"scale": scale}}
        run(chosen, out=folder, report=False)
    return open_trained(folder)


def one_row(case: Case, method: Forgetting) -> Row:
    """A method's figures for one request."""
    bench = Bench(case)
    return figures(bench, *served(bench, method), None)


def with_images_in_hand(case: Case, method: Forgetting, gone: Sequence[int]) -> Row:
    """One request while no original of some clients is there any more; their images still are.

    Raw originals that stand in for images were drawn while their clients were still here.
    """
    inner = Party._real

    def real(party: Party, portion: Portion) -> Real | None:
        return None if party.client in gone else inner(party, portion)

    bench = Bench(case)
    with mock.patch.object(Party, "_real", real):
        row, cost = served(bench, method)
    return figures(bench, row, cost, None)


@order("worth.images")
def stands_for(party: Party, kind: StandIn) -> Answer:
    """What stands for a client's examples."""
    held = party.holding(Portion(False, source="synthetic", stand_in=kind))
    assert isinstance(held, Synthetic)
    return {"x": held.x, "y": held.y}


def learned(trained: Trained, model: object, kind: str, steps: int) -> Row:
    """Test accuracy of a network that is trained on what stands for all clients' examples."""
    stand_in = {"distilled": "none", "random real": "random_real"}.get(kind, "noise")

    def program(federation: Federation) -> Asking[list[Answer]]:
        said = yield from federation.ask("worth.images", federation.clients, kind=stand_in)
        return list(said.values())

    held = tried(trained.case(Request()), program)
    x, y = (torch.cat([torch.from_numpy(h[name]) for h in held]) for name in ("x", "y"))
    torch.manual_seed(trained.job.streams.integer("worth.network"))
    chosen = Model.resolve(model or settings(1, 1)["model"])
    network = chosen.build(trained.job.dataset.spec)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()
        optimizer.step()
    test = trained.job.dataset.test
    x, y = trained.job.dataset.gather(test, torch.arange(len(test)))
    with torch.no_grad():
        right = (network.eval()(x).argmax(1) == y).double().mean()
    return {"accuracy": 100 * float(right), "images": float(len(y))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="one seed, a few rounds")
    parser.add_argument("--notes", help="a file for what is done, to go on from if stopped")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # the models are small
    smoke, notes = arguments.smoke, Notes(arguments.notes)
    seeds, rounds, items = (1, 2, 1) if smoke else (arguments.seeds, 60, 10)
    found: dict[str, list[dict[str, Row]]] = {"one": [], "gone": [], "half": [], "networks": []}
    with tempfile.TemporaryDirectory() as place:
        root = Path(f"{arguments.notes}.runs") if arguments.notes else Path(place)
        for seed in range(1, seeds + 1):
            few = trained(seed, 1e-6, rounds, root / f"{seed}-one")
            usual = trained(seed, 0.01, rounds, root / f"{seed}")
            away = range(0, len(usual.job.parts), 2)
            for name, run_, methods in (("one", few, ONE), ("gone", usual, GONE)):
                rows = {
                    method: mean([
                        notes.get(
                            f"{seed}, {name}, {method}, {k}",
                            partial(one_row, run_.case(Request.of(classes=[k])), how),
                        )
                        for k in range(items)
                    ])
                    for method, how in methods.items()
                }  # fmt: skip
                found[name].append(rows)
            half: dict[str, Row] = {}
            for method, how in HALF.items():
                cases = [usual.case(Request.of(classes=[k])) for k in range(items)]
                half[method] = mean([
                    notes.get(
                        f"{seed}, half, {method}, {k}",
                        partial(with_images_in_hand, case, how, away),
                    )
                    for k, case in enumerate(cases)
                ])  # fmt: skip
            found["half"].append(half)
            networks = {}
            for model, how in NETWORKS.items():
                for kind in STAND_INS:
                    work = partial(learned, usual, how, kind, 2 if smoke else 200)
                    networks[f"{model}, {kind}"] = notes.get(f"{seed}, {model}, {kind}", work)
            found["networks"].append(networks)
            print(f"seed {seed} done", file=sys.stderr, flush=True)
    titles = {
        "one": "One image for each of a client's classes",
        "gone": "No originals left: nobody looks at any",
        "half": "Every second client is gone",
    }
    command = "python benchmarks/forget/worth.py" + f" --seeds {seeds}" * (seeds != SEEDS)
    text = ""
    for name, title in titles.items():
        means = over(found[name])
        rows = [[m, *(shown(row[c], c) for c in COLUMNS)] for m, row in means.items()]
        if not text:
            text = markdown("Where distilled images pay", command, [title, *COLUMNS], rows)
        else:
            text += "\n" + lines([title, *COLUMNS], rows)
    means = over(found["networks"])
    rows = [
        [m, *(f"{means[f'{m}, {kind}']['accuracy']:.1f}" for kind in STAND_INS)] for m in NETWORKS
    ]
    text += "\n" + lines(["Networks trained on the images alone: test accuracy", *STAND_INS], rows)
    text += f"\n{seeds} seed(s), every class; worst: of all seeds and classes.\n"
    if not smoke:
        text += "\n" + "\n".join(f"- {line}" for line in verdicts(found)) + "\n"
    publish("forget_worth", text, smoke)


def verdicts(found: dict[str, list[dict[str, Row]]]) -> list[str]:
    """Whether distilling pays: half a point more retained, and the worst class no worse."""
    told = []
    for name, what in (("one", "one image"), ("gone", "no originals"), ("half", "clients gone")):
        of = over(found[name])
        mine, raw = (next(row for k, row in of.items() if k.startswith(kind))
                     for kind in ("distilled", "random real"))  # fmt: skip
        more, worse = mine["retain"] - raw["retain"], mine["worst forget"] - raw["worst forget"]
        verdict = "yes" if more > 0.5 and worse <= 5 else "NO"
        told.append(
            f"{what}: distilled images pay beside random originals (retain {more:+.1f}, worst "
            f"forget {worse:+.1f}): {verdict}"
        )
    of = over(found["networks"])
    for model in NETWORKS:
        more = of[f"{model}, distilled"]["accuracy"] - of[f"{model}, random real"]["accuracy"]
        verdict = "yes" if more > 0.5 else "NO"
        told.append(f"{model}: learns more from distilled images ({more:+.1f}): {verdict}")
    half = over(found["half"])
    mine, here = half["distilled, of all"], half["originals of those who are here (sga)"]
    more = mine["retain"] - here["retain"]
    verdict = "yes" if more > 0.5 else "NO"
    told.append(
        f"clients gone: images of all retain more than originals of half ({more:+.1f}): {verdict}"
    )
    return told


if __name__ == "__main__":
    main()
