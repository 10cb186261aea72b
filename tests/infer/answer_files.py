"""A file of answers, and settings of a run over it that is soon done."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .conftest import answers


def write_scores(path: Path, n: int = 5, classes: int = 3, **more: object) -> Path:
    """A file of answers by members who mostly agree."""
    test, test_labels = answers(40, n, classes, 1)
    server, server_labels = answers(60, n, classes, 2)
    arrays = {"test": test, "test_labels": test_labels, "server": server,
              "server_labels": server_labels, **more}  # fmt: skip
    np.savez(path, **{k: np.asarray(v) for k, v in arrays.items() if v is not None})
    return path


QUICK = {
    "f": 1,
    "aggregators": ["mean", "trimmed_mean", "geometric_median"],
    "attacks": ["logit_flip", "kvote"],
}
