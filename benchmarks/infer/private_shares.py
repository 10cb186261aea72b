"""What mode shares costs: gates, bytes by kind, CPU seconds by side, network by network.

    python benchmarks/infer/private_shares.py --notes shares.jsonl   # some 5 minutes; goes on
    python benchmarks/infer/private_shares.py --smoke   # scikit-learn's digits

Digits (FEMNIST's) by an MLP 784-128-128-10 and LeNet-5, with ReLU and, as tables, with GELU; a
ResNet-20 of random weights for its size alone. Classes are held to the integers in the clear. CPU
seconds of one process that holds both sides, the least of several queries.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from measure import Notes, fresh, markdown, peak_bytes, publish
from measure_asking import Pair, Spent
from measure_private import compiled, digits, lenet, mlp, trained
from resnet20_train import ResNet20

from hansa.infer.private.compiling.certificate import choose_scheme
from hansa.infer.private.integer_net import evaluate, read_rows
from hansa.infer.private.program import Program
from hansa.infer.private.shares.exchange import TurnCircuits
from hansa.infer.private.shares.share_model import ShareModel

NETS: dict[str, Callable[[], nn.Sequential]] = {
    "MLP": mlp,
    "LeNet-5": lenet,
    "LeNet-5, w6a5": lenet,
    "MLP, GELU": partial(mlp, nn.GELU),
    "LeNet-5, GELU": partial(lenet, nn.GELU),
}
RESNET = "ResNet-20, w6a5, random"


def network(net: str, small: bool) -> tuple[Program, np.ndarray]:
    """A program, and rows to ask."""
    if net == RESNET:
        torch.manual_seed(0)
        rows = torch.rand(16, 3, 32, 32)
        return compiled(ResNet20(blocks=1 if small else 3).eval(), rows, 6, 5), rows.numpy()
    data = digits(small)
    made, _, _ = trained(NETS[net], data, 0, 1 if small else 8)
    widths = (6, 5) if small or "w6a5" in net else (8, 7)
    return compiled(made, data.train[:512], *widths), data.test.numpy()


def gates(turns: tuple[TurnCircuits, ...]) -> tuple[int, int]:
    """AND gates of all instances, and how many accumulators they read."""
    groups = [
        group
        for turn in turns
        for steps in turn.steps
        for stage in steps.stages
        for group in stage.groups
    ]
    ands = sum((one.circuit.ands + one.circuit.known_ands) * len(one.makes) for one in groups)
    return ands, sum(steps.count for turn in turns for steps in turn.steps)


def asked(net: str, profile: str, reveals: str, count: int, small: bool) -> dict[str, Any]:
    """What a network's queries cost."""
    torch.set_num_threads(1)
    program, rows = network(net, small)
    scheme = choose_scheme(program, "shares", profile_name=profile, reveals=reveals)
    pair, spent = Pair(program, scheme), Spent()
    model: ShareModel = pair.model
    pair.ask(rows[:1], Spent())  # numba's code is compiled
    sides, wrong = [], 0
    for row in rows[:count]:
        one = Spent()
        answers = pair.ask(row[None], one)
        sides.append((one.client + one.server, one.client, one.server))
        spent.up, spent.down, spent.rounds = one.up, one.down, one.rounds
        wanted = evaluate(program, read_rows(program, row[None]))
        wrong += int((answers.classes != wanted.argmax(1)).sum())
        if answers.logits is not None:
            wrong += int((answers.logits != wanted).sum())
    ands, numbers = gates(model.turns)
    transfers = sum(turn.transfers for turn in model.turns)
    return {
        "bits": scheme.plain_bits,
        "numbers": numbers,
        "ands": ands,
        "transfers": transfers,
        "tables": sum(16 * turn.blocks for turn in model.turns),
        "labels_up": sum(model.sizes.requests[1::2]),
        "labels_down": 16 * transfers,
        "ciphertexts_up": sum(model.sizes.requests[::2]),
        "ciphertexts_down": sum(model.sizes.replies[::2]),
        "up": spent.up,
        "down": spent.down,
        "rounds": spent.rounds,
        "count": count,
        "wrong": wrong,
        "cpu": min(sides)[0],
        "client": min(sides)[1],
        "server": min(sides)[2],
        "opening": pair.set_up.client + pair.set_up.server,
        "peak": peak_bytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--notes", help="a file of what is measured already")
    given = parser.parse_args()
    notes, small = Notes(given.notes), given.smoke
    ways = [(net, "n2048", "class", 40) for net in NETS]
    ways += [("LeNet-5", "n4096", "class", 20), ("LeNet-5", "n2048", "logits", 20)]
    ways += [(RESNET, "n2048", "class", 2)]
    if small:
        ways = [("MLP, GELU", "n2048", "class", 2), ("LeNet-5", "n2048", "logits", 2)]
    rows = []
    for net, profile, reveals, count in ways:
        arguments = {
            "net": net,
            "profile": profile,
            "reveals": reveals,
            "count": 2 if small else count,
            "small": small,
        }
        facts = notes.get(
            str(arguments), partial(fresh, "asked", "private_shares", smoke=small, **arguments)
        )
        print(net, profile, reveals, facts, flush=True)
        rows.append(
            [
                f"{net}, {profile}, {reveals}",
                str(facts["bits"]),
                f"{facts['wrong']} of {facts['count']}",
                f"{facts['numbers']:,}",
                f"{facts['ands'] / facts['numbers']:.0f}",
                *(f"{facts[name]:.3f}" for name in ("cpu", "client", "server")),
                str(facts["rounds"]),
                *(f"{facts[name] / 1e6:.2f}" for name in ("up", "down")),
                f"{facts['ciphertexts_up'] / 1e6:.2f} + {facts['ciphertexts_down'] / 1e6:.2f}",
                f"{facts['labels_up'] / 1e6:.2f} + {facts['labels_down'] / 1e6:.2f}",
                f"{facts['tables'] / 1e6:.2f}",
                f"{facts['opening']:.2f}",
                f"{facts['peak'] / 1e6:.0f}",
            ]
        )
    header = [
        *("network, profile, reveals", "plain bits", "wrong", "accumulators", "ANDs each"),
        *("CPU-s", "client", "server", "requests", "MB up", "MB down"),
        *("ciphertexts MB", "transfers MB", "gates MB", "opening CPU-s", "peak MB"),
    ]
    title = "Private inference in mode shares"
    text = markdown(title, "python benchmarks/infer/private_shares.py", header, rows)
    publish("private_shares", text, small)


if __name__ == "__main__":
    main()
