"""What a client that lies reads of a served network's weights, by attack and mode.

    python benchmarks/infer/private_redteam.py           # a minute
    python benchmarks/infer/private_redteam.py --smoke   # one attack on the smallest layer

The paper of Safhire says that its shuffle makes it practically impossible to reconstruct the model:
the mode ``shuffle`` is as published, ``shares`` is the one that was built against such clients.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import markdown, publish

HEADER = [
    "attack",
    "layer",
    "mode",
    "weights",
    "recovered",
    "chance",
    "questions",
    "the mode holds",
]


def attacked(smoke: bool) -> dict[str, Any]:
    """What ``hansa infer redteam`` prints."""
    more = ["--set", "attacks=[unit_vectors]"] if smoke else []
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "hansa.cli", "infer", "redteam", "--json", "--out"]
        out = subprocess.run(
            [*command, f"{folder}/run", *more], check=True, stdout=subprocess.PIPE, text=True
        ).stdout
    return json.loads(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true")
    smoke = parser.parse_args().smoke
    rows, worst = [], {}
    for one in attacked(smoke)["rows"]:
        holds = one["recovered"] <= 1.5 * one["chance"] + 0.05
        worst[one["mode"]] = worst.get(one["mode"], True) and holds
        rows.append(
            [
                one["attack"] + (f", {one['note']}" if one["note"] else ""),
                one["layer"],
                one["mode"],
                str(one["weights"]),
                f"{one['recovered']:.0%}",
                f"{one['chance']:.0%}",
                str(one["queries"]),
                "yes" if holds else "NO",
            ]
        )
    command = "python benchmarks/infer/private_redteam.py"
    text = markdown("Weights that lying clients read under encryption", command, HEADER, rows)
    text += "\n" + "".join(
        f"- mode {mode} shows no attack more than chance: {'yes' if holds else 'NO'}\n"
        for mode, holds in worst.items()
    )
    publish("private_redteam", text, smoke)


if __name__ == "__main__":
    main()
