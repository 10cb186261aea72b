"""A saved ensemble on files that somebody brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.base.lazy import torch
from hansa.combine.ensemble.predict_inputs import read
from hansa.combine.ensemble.store import load

_BATCH = 256


def predict(run: str | Path, inputs: str | Path, trust: bool = False) -> list[dict[str, Any]]:
    """Class and probability of every example in a file, or image in a folder.

    Args:
        run: a run folder of ``hansa combine ensemble``, or the ``ensemble`` folder in it.
        inputs: a .csv, .tsv or .parquet table with the columns that training read, in any order;
            a .npy or .npz array [m, ...] of stored values (images channels last); an image, a
            folder of images, or a parquet file of them.
        trust: as for :func:`hansa.combine.ensemble.load`.

    Raises:
        CheckpointError: the ensemble is missing or corrupt.
        ConfigError, DataError: the inputs are not what its models take.
    """
    path, brought = Path(run), Path(inputs)
    ensemble = load(path / "ensemble" if (path / "ensemble").is_dir() else path, trust)
    names, stored = read(brought, ensemble)
    answers = []
    for start in range(0, len(stored), _BATCH):
        scores = ensemble(ensemble.prepared(stored[start : start + _BATCH]))
        if ensemble.spec.outputs == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], dim=1)
        answers.append(torch.softmax(scores, -1))
    shares = torch.cat(answers)
    classes = ensemble.card["class_names"] or list(range(ensemble.spec.classes))
    best = shares.argmax(-1).tolist()
    return [
        {"input": name, "class": classes[k], "probability": round(float(row[k]), 6)}
        for name, k, row in zip(names, best, shares, strict=True)
    ]
