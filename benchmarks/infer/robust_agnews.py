"""Robust inference on a small part of AG News: weak clients, a small server set, no promise kept.

The 7,600 documents of the test file, 5,600 to train on; the 2,000 words with the largest counts,
weighed by TF-IDF; 17 perceptrons with 32 units, classes dealt by a Dirichlet of 0.5; a tenth of
each client's examples are the server's. It is here because rules that learn do not win on it.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from measure_robust import F, N, report, rules, run_of, suite

WORDS = 2_000


def documents(smoke: bool) -> tuple[list[str], np.ndarray]:
    """(texts, classes from 0)."""
    if smoke:
        rng = np.random.default_rng(1)
        words = np.array([f"word{k}" for k in range(60)])
        labels = rng.integers(4, size=600)
        texts = [" ".join(words[rng.integers(15 * y, 15 * y + 25, size=8) % 60]) for y in labels]
        return texts, labels
    from hansa.data.fetch import find

    found = find("agnews", "**/test.csv")
    if not found:
        raise SystemExit("agnews/test.csv is not below $HANSA_DATA")
    with found[0].open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file) if row and row[0].isdigit()]
    return [" ".join(row[1:]) for row in rows], np.array([int(row[0]) - 1 for row in rows])


def made(path: Path, seed: int, smoke: bool) -> Path:
    """A file of TF-IDF rows; the words are those of the training part."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    texts, labels = documents(smoke)
    order = np.random.default_rng(seed).permutation(len(texts))
    test = order[: 100 if smoke else 2_000]
    train = order[len(test) :]
    vectors = TfidfVectorizer(max_features=WORDS, stop_words="english")
    x_train = vectors.fit_transform([texts[k] for k in train]).toarray().astype(np.float32)
    x_test = vectors.transform([texts[k] for k in test]).toarray().astype(np.float32)
    file = path / f"agnews_{seed}.npz"
    np.savez(file, x_train=x_train, y_train=labels[train], x_test=x_test, y_test=labels[test])
    return file


def clients(file: Path, smoke: bool) -> dict[str, Any]:
    """17 perceptrons on the rows as they are."""
    return {
        "name": "trained",
        "members": N,
        "data": {
            "name": "file",
            "path": str(file),
            "normalize": "none",
            "partition": {"name": "dirichlet", "alpha": 0.5, "draw": "class", "min_samples": 10},
        },
        "models": [{"name": "mlp", "hidden": [32]}],
        "local": {
            "epochs": 1 if smoke else 10,
            "batch_size": 32,
            "optimizer": {"name": "adam", "lr": 0.003},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="made-up words, little training")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    given = parser.parse_args()
    seeds = [1] if given.smoke else list(range(1, given.seeds + 1))
    training: dict[str, Any] = {"masks": 20, "epochs": 6}
    if given.smoke:
        training |= {"masks": 1, "epochs": 1, "steps": 1}
    each = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            file = made(Path(folder), seed, given.smoke)
            table = run_of(
                clients(file, given.smoke),
                Path(folder) / f"run_{seed}",
                [seed],
                aggregators=rules(training, few=True),
                attacks=suite(2 if given.smoke else 50),
            )
            each += table["each"]
    title = f"Robust inference on some of AG News: percent right, {N} clients, {F} liars"
    report("robust_agnews", f"{title}, {len(seeds)} seeds", {"each": each}, given.smoke)


if __name__ == "__main__":
    main()
