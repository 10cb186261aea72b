"""Robust inference on patch features of CIFAR-10: 17 linear clients, 4 liars.

20,000 training images, the features of Coates, Ng and Lee (2011): 200 whitened random 6x6 patches,
soft thresholds of their answers anywhere in the image, of both signs, their means over quadrants:
1,600 numbers an image. Clients are linear, classes are dealt by a Dirichlet of 0.5; a tenth of each
client's examples are the server's. 1,000 test images. Features are made once and kept in
``$HANSA_CACHE``, else among temporary files.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))
from measure_robust import F, N, report, rules, run_of, suite

PATCHES, SIDE = 200, 6


def windows(images: np.ndarray) -> np.ndarray:
    """All patches of images [m, H, W, C], one after the other: [m, h, w, SIDE * SIDE * C]."""
    view = np.lib.stride_tricks.sliding_window_view(images, (SIDE, SIDE), axis=(1, 2))
    m, h, w = view.shape[:3]
    return view.transpose(0, 1, 2, 4, 5, 3).reshape(m, h, w, -1)


def normalized(patches: np.ndarray) -> np.ndarray:
    """Patches with mean 0 and deviation 1 (plus some contrast that is not amplified)."""
    patches = patches - patches.mean(-1, keepdims=True)
    return patches / np.sqrt(patches.var(-1, keepdims=True) + 10)


def features(train: np.ndarray, test: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images 0..255 as 8 * PATCHES numbers each, float32."""
    rng = np.random.default_rng(seed)
    some = rng.choice(len(train), min(2000, len(train)), replace=False)
    pieces = windows(train[some].astype(np.float32)).reshape(-1, SIDE * SIDE * train.shape[3])
    pieces = normalized(pieces[rng.choice(len(pieces), 100_000)])
    mean = pieces.mean(0)
    values, vectors = np.linalg.eigh(np.cov((pieces - mean).T))
    white = (vectors / np.sqrt(values + 0.1)) @ vectors.T
    bank = (pieces[rng.choice(len(pieces), PATCHES, replace=False)] - mean) @ white
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    filters = (white @ bank.T).astype(np.float32)

    def of(images: np.ndarray) -> np.ndarray:
        rows = []
        for start in range(0, len(images), 100):
            patches = normalized(windows(images[start : start + 100].astype(np.float32)))
            said = (patches - mean.astype(np.float32)) @ filters  # [b, h, w, PATCHES]
            both = np.concatenate([said.clip(0.25) - 0.25, (-said).clip(0.25) - 0.25], -1)
            half = both.shape[1] // 2
            parts = [both[:, a, b] for a in (slice(0, half), slice(half, None))
                     for b in (slice(0, half), slice(half, None))]  # fmt: skip
            rows.append(np.concatenate([part.mean((1, 2)) for part in parts], -1))
        return np.concatenate(rows).astype(np.float32)

    return of(train), of(test)


def made(path: Path, smoke: bool) -> Path:
    """A file of features, made now or before."""
    file = path / f"cifar10_patches_{PATCHES}_{'smoke' if smoke else 20000}.npz"
    if file.exists():
        return file
    if smoke:
        rng = np.random.default_rng(1)
        labels = rng.integers(10, size=900)
        images = rng.integers(0, 200, size=(900, 12, 12, 3)) + 5 * labels[:, None, None, None]
        train, test = images[:800], images[800:]
        y_train, y_test = labels[:800], labels[800:]
    else:
        from hansa.base.streams import Streams
        from hansa.data import DataSource

        data = DataSource.resolve(
            {"name": "cifar10", "train_samples": 20_000, "test_samples": 1_000}
        ).load(Streams(1))
        train, y_train = data.train.inputs.numpy(), data.train.targets.numpy()
        test, y_test = data.test.inputs.numpy(), data.test.targets.numpy()
    began = time.process_time()
    x_train, x_test = features(train, test)
    print(f"features: {time.process_time() - began:.0f} CPU-s", file=sys.stderr)
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return file


def clients(file: Path, smoke: bool) -> dict[str, Any]:
    """17 linear models."""
    return {
        "name": "trained",
        "members": N,
        "data": {
            "name": "file",
            "path": str(file),
            "partition": {"name": "dirichlet", "alpha": 0.5, "draw": "class", "min_samples": 10},
        },
        "models": ["logistic"],
        "local": {
            "epochs": 1 if smoke else 10,
            "batch_size": 32,
            "optimizer": {"name": "sgd", "lr": 0.01},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="noise for images, little training")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    given = parser.parse_args()
    seeds = [1] if given.smoke else list(range(1, given.seeds + 1))
    # Some 1,900 examples for the server: ten sets of liars for each are as many rows as on digits.
    training: dict[str, Any] = {"masks": 10, "epochs": 6}
    if given.smoke:
        training |= {"masks": 1, "epochs": 1, "steps": 1}
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(os.environ.get("HANSA_CACHE") or tempfile.gettempdir())
        place = Path(folder) if given.smoke else kept
        table = run_of(
            clients(made(place, given.smoke), given.smoke),
            Path(folder) / "run",
            seeds,
            aggregators=rules(training, few=True),
            attacks=suite(2 if given.smoke else 50),
        )
    title = f"Robust inference on CIFAR-10's patches: percent right, {N} clients, {F} liars"
    report("robust_cifar", f"{title}, {len(seeds)} seeds", table, given.smoke)


if __name__ == "__main__":
    main()
