"""Private inference on FEMNIST's digits: accuracy, exactness, time and bytes, mode by mode.

    python benchmarks/infer/private_digits.py --notes digits.jsonl    # some 20 minutes; goes on
    python benchmarks/infer/private_digits.py --smoke                 # scikit-learn's digits

An MLP 784-128-128-10 and LeNet-5, three seeds. First what integers cost in accuracy, then, of seed
0, what each way to ask costs, with logits held to the integers in the clear; last, networks that no
table was made for. CPU seconds of all threads; mean, and in brackets the worst query.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from measure import Notes, fresh, markdown, peak_bytes, publish
from measure_asking import Pair, Spent, mismatches
from measure_private import Digits, compiled, digits, lenet, mlp, trained

import hansa
from hansa.base.errors import ConfigError
from hansa.infer.private.compiling.building import build_of
from hansa.infer.private.compiling.certificate import choose_scheme, hidden_bits
from hansa.infer.private.compiling.quantize import Bits
from hansa.infer.private.compiling.sources import open_source
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program

NETS: dict[str, Callable[[], nn.Sequential]] = {"MLP": mlp, "LeNet-5": lenet}
Way = dict[str, Any]
ROWS: Way = {"packing": "rows", "profile_name": "n4096"}
WAYS: list[tuple[str, Way, int]] = [
    ("default", {}, 601),
    ("no shuffle", {"hides": "none"}, 20),
    ("n2048", {"profile_name": "n2048"}, 20),
    ("n8192", {"profile_name": "n8192"}, 20),
    ("batch", {"packing": "batch"}, 2048),
    ("rows, elements shuffled", {**ROWS, "hides": "element"}, 2),
    ("shares", {"mode": "shares"}, 601),
    ("shares, n4096", {"mode": "shares", "profile_name": "n4096"}, 20),
    ("shares, logits told", {"mode": "shares", "reveals": "logits"}, 20),
    ("budget", {"mode": "budget"}, 1),
]
"""(what it is called, what differs from the default scheme, images)."""


class Odd(nn.Module):
    """What no table was made for: a strip of an image, odd strides, GELU and tanh, 4 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 3, (3, 5), stride=(2, 3), padding=(1, 0))
        self.second = nn.Conv2d(3, 7, 3, dilation=2)
        self.third = nn.Linear(7 * 8 * 4, 4)

    def forward(self, images: Tensor) -> Tensor:
        inside = nn.functional.gelu(self.first(images[:, :, 4:]))
        return self.third(torch.tanh(self.second(inside)).flatten(1))


def few_classes(data: Digits) -> Digits:
    """The digits 0 to 3."""
    kept, kept_test = data.train_labels < 4, data.test_labels < 4
    return Digits(
        *(data.train[kept], data.train_labels[kept]),
        *(data.test[kept_test], data.test_labels[kept_test]),
    )


def share(program: Program, data: Digits) -> float:
    """Accuracy of the integers on the test images."""
    scores = evaluate(program, read_rows(program, data.test.numpy()))
    return float((scores.argmax(1) == data.test_labels.numpy()).mean())


def accuracy(net: str, seed: int, small: bool) -> dict[str, float]:
    """A network's accuracy as it was trained, and as integers of two widths."""
    torch.set_num_threads(1)
    data = digits(small)
    network, real, _ = trained(NETS[net], data, seed, 1 if small else 8)
    found = {"real": real}
    for name, widths in {"w8a7": (8, 7), "w6a5": (6, 5)}.items():
        program = compiled(network, data.train[:512], *widths)
        found |= {name: share(program, data), f"{name} bits": program.accumulator_bits}
    return found


def asked(net: str, way: Way, count: int, small: bool) -> dict[str, Any]:
    """What a way to ask costs, on the first test images (again from the first where they end)."""
    torch.set_num_threads(1)
    data = digits(small)
    network, _, _ = trained(NETS[net], data, 0, 1 if small else 8)
    return costs(compiled(network, data.train[:512]), data, way, count)


def costs(program: Program, data: Digits, way: Way, count: int) -> dict[str, Any]:
    """What the queries for so many images cost."""
    try:
        scheme = choose_scheme(program, **way)
        pair = Pair(program, scheme)
    except ConfigError as error:
        return {"refused": f"{error.field}: {error.problem}"}
    which = np.arange(count) % len(data.test)
    rows, labels = data.test.numpy()[which], data.test_labels.numpy()[which]
    most = min(pair.rows, count)
    pair.ask(rows[:most], Spent())  # numba's code is compiled and the weights are prepared
    spent = Spent()
    answers = [pair.ask(rows[at : at + most], spent) for at in range(0, count, most)]
    classes = np.concatenate([one.classes for one in answers])
    wanted = evaluate(program, read_rows(program, rows))
    wrong = int((classes != wanted.argmax(1)).sum())
    if answers[0].logits is not None:
        wrong = mismatches(program, rows, np.concatenate([one.logits for one in answers]))
    return {
        "count": count,
        "mismatches": wrong,
        "of": "logits" if answers[0].logits is not None else "classes",
        "accuracy": float((classes == labels).mean()),
        "cpu": (spent.client + spent.server) / count,
        "worst": max(spent.each) / most,
        "client": spent.client / count,
        "up": spent.up / count,
        "down": spent.down / count,
        "rounds": spent.rounds // len(answers),
        "setup_cpu": pair.set_up.client + pair.set_up.server,
        "setup_bytes": pair.set_up.up + pair.set_up.down,
        "flooding": scheme.flooding_bits,
        "drowned": None if scheme.mode == "shares" else hidden_bits(program, scheme),
        "peak": peak_bytes(),
    }


def elsewhere(small: bool) -> dict[str, Any]:
    """Networks that nothing was tuned on: four classes of an odd module, and skewed sites."""
    torch.set_num_threads(1)
    data = few_classes(digits(small))
    network, real, _ = trained(Odd, data, 0, 1 if small else 8)
    program = compiled(network, data.train[:512])
    odd = costs(program, data, {}, 3 if small else 100)
    return {"odd": odd | {"real": real, "integers": share(program, data)}}


def sites(small: bool) -> dict[str, Any]:
    """Eight sites with two classes each learn one network: it is compiled as the run left it."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "algorithm": {"name": "fedavg"},
            "nodes": 8,
            "rounds": 2 if small else 30,
            "model": "femnist_cnn",
            "data": {"name": "digits", "partition": {"name": "shards", "shards_per_node": 2}},
        }
        hansa.run(settings, out=Path(folder) / "run")
        opened = open_source(str(Path(folder) / "run"), average=True)
        program = build_of(opened, Bits(accumulator=22)).program
    rows, labels = (torch.as_tensor(one) for one in opened.tests)
    data = Digits(rows, labels, rows, labels)
    real, integers = program.facts["accuracy_plain"], program.facts["accuracy"]
    return costs(program, data, {}, 3 if small else 100) | {"real": real, "integers": integers}


def line(facts: dict[str, Any]) -> list[str]:
    """A way's cells, or why it is refused."""
    if "refused" in facts:
        return ["", f"refused: {facts['refused']}", *[""] * 9]
    return [
        str(facts["count"]),
        f"{facts['mismatches']} of the {facts['of']}",
        f"{facts['accuracy']:.1%}",
        f"{1e3 * facts['cpu']:.3g} ({1e3 * facts['worst']:.3g})",
        f"{facts['client'] / facts['cpu']:.0%}",
        *(f"{facts['up'] / 1e6:.3f}", f"{facts['down'] / 1e6:.3f}", str(facts["rounds"])),
        f"{facts['setup_cpu']:.2f} CPU-s, {facts['setup_bytes'] / 1e6:.2f} MB",
        "uniform" if facts["drowned"] is None else drowned(facts),
        f"{facts['peak'] / 1e6:.0f}",
    ]


def drowned(facts: dict[str, Any]) -> str:
    """How far an honest client's noise is drowned."""
    return f"{facts['flooding']} ({facts['drowned']:.0f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table as Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--notes", help="a file of what is measured already")
    given = parser.parse_args()
    notes, small = Notes(given.notes), given.smoke

    def one(function: str, **arguments: Any) -> Any:
        name = f"{function} {arguments}"
        got = notes.get(
            name,
            lambda: fresh(function, "private_digits", smoke=small, small=small, **arguments),
        )
        print(name, got, flush=True)
        return got

    rows = []
    for net in NETS:
        found = [one("accuracy", net=net, seed=seed) for seed in range(1 if small else 3)]
        cells = [net, f"{statistics.mean(x['real'] for x in found):.2%}"]
        for width in ("w8a7", "w6a5"):
            lost = [100 * (x["real"] - x[width]) for x in found]
            cells += [
                f"{statistics.mean(x[width] for x in found):.2%}",
                f"{statistics.mean(lost):+.2f} ({max(lost):+.2f})",
                f"{max(x[f'{width} bits'] for x in found):.0f}",
            ]
        rows.append(cells)
    header = ["network", "real numbers"]
    for width in ("w8a7", "w6a5"):
        header += [width, "points lost, mean (worst seed)", "accumulator bits"]
    command = "python benchmarks/infer/private_digits.py"
    text = markdown("Private inference on digits", command, header, rows)
    rows = []
    for net in NETS:
        for name, way, count in WAYS[:1] if small else WAYS:
            facts = one("asked", net=net, way=way, count=2 if small else count)
            rows.append([net, name, *line(facts)])
    odd, skewed = one("elsewhere")["odd"], one("sites")
    what = f"own module, 4 classes, GELU and tanh ({odd['real']:.1%} in real numbers)"
    rows.append([what, "default", *line(odd)])
    what = f"a run of eight sites with two classes each ({skewed['real']:.1%} in real numbers)"
    rows.append([what, "default", *line(skewed)])
    header = [
        *("network", "way", "images", "differ", "accuracy on them", "CPU-ms an image (worst)"),
        *(
            "at the client",
            "MB up",
            "MB down",
            "rounds",
            "opening",
            "flooding bits (of them over honest noise)",
            "peak MB",
        ),
    ]
    publish("private_digits", text + "\n" + table(header, rows), small)


if __name__ == "__main__":
    main()
