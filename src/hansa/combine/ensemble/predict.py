"""A saved ensemble on files that somebody brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.combine.ensemble.store import load
from hansa.experiment.predicting import predictions


def predict(run: str | Path, inputs: str | Path, trust: bool = False) -> list[dict[str, Any]]:
    """Class and probability of every example in a file, or image in a folder.

    Args:
        run: a run folder of ``hansa combine ensemble``, or the ``ensemble`` folder in it.
        inputs: what :func:`hansa.data.brought.read` reads: a table with the columns that training
            read, in any order; a .npy or .npz array [m, ...] of stored values (images channels
            last); an image, a folder of images, or a parquet file of them.
        trust: as for :func:`hansa.combine.ensemble.load`.

    Raises:
        CheckpointError: the ensemble is missing or corrupt.
        ConfigError, DataError: the inputs are not what its models take.
    """
    path = Path(run)
    ensemble = load(path / "ensemble" if (path / "ensemble").is_dir() else path, trust)
    answers = predictions(ensemble, ensemble.signature, inputs)
    classes = ensemble.card["class_names"] or list(range(ensemble.spec.classes))
    named = dict(zip(ensemble.signature.named_classes, classes, strict=True))
    return [
        {"input": row["input"], "class": named[row["class"]], "probability": row["probability"]}
        for row in answers.rows
    ]
