"""Made loans: what five banks decided, and the people about whom auditors may ask.

    python served_audit_data.py [SEED]

writes, into the folder where it is called, ``loans.csv`` (past decisions, by bank), ``people.csv``
(whose sex and age group auditors know) and ``features.csv`` (what a bank asks of these people). No
bank asks for anybody's sex; two of the five used to take 0.8 off women's score, and part-time work
tells it.
"""

import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

LOANS, PEOPLE = 2000, 2000


def drawn(rng: np.random.Generator, many: int) -> dict[str, Any]:
    """What is known of so many people."""
    women = rng.random(many) < 0.5
    age = rng.integers(20, 70, many)
    return {
        "sex": np.where(women, "women", "men"),
        "age": np.where(age > 40, "over 40", "up to 40"),
        "income": (rng.normal(3.2, 0.9, many) - 0.2 * women).clip(0.5).round(2),
        "debt": rng.gamma(2.0, 0.5, many).round(2),
        "hours": np.where(rng.random(many) < np.where(women, 0.45, 0.1), 20, 40),
        "years": (age - 18 - rng.integers(0, 8, many)).clip(0),
    }


def write(name: str, columns: dict[str, Any]) -> None:
    """A table with a header."""
    with Path(name).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([columns, *zip(*columns.values(), strict=True)])


def main(seed: int) -> None:
    rng = np.random.default_rng(seed)
    past, asked = ("income", "debt", "hours", "years"), drawn(rng, PEOPLE)
    known = drawn(rng, LOANS)
    bank = rng.integers(0, 5, LOANS)
    score = known["income"] - 0.8 * known["debt"] + 0.02 * known["years"] - 2.6
    score = score - 0.8 * ((known["sex"] == "women") & (bank < 2))
    granted = rng.random(LOANS) < 1 / (1 + np.exp(-3 * score))
    write(
        "loans.csv",
        {
            "bank": [f"bank {b}" for b in bank],
            **{name: known[name] for name in past},
            "granted": np.where(granted, "yes", "no"),
        },
    )
    ids = [f"p{k}" for k in range(PEOPLE)]
    write("people.csv", {"person": ids, "sex": asked["sex"], "age": asked["age"]})
    write("features.csv", {"person": ids, **{name: asked[name] for name in past}})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
