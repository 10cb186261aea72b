"""Heart disease in four hospitals (Detrano et al. 1989), as FLamby prepares it (2022).

Fed-Heart-Disease of Ogier du Terrail et al., "FLamby: Datasets and Benchmarks for Cross-Silo
Federated Learning in Realistic Healthcare Settings", NeurIPS 2022: same rows, same split, same
13 columns, same normalization, and so the same published figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError, DataError
from hansa.data.fetch import Remote, fetch
from hansa.data.raw import Arrays, RawSplits
from hansa.data.source import DataSource

PLACE = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease"
CENTRES = ("cleveland", "hungarian", "switzerland", "va")
DIGESTS = (
    "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8",
    "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796",
    "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314",
    "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f",
)
REMOTES = tuple(
    Remote(f"{PLACE}/processed.{centre}.data", digest)
    for centre, digest in zip(CENTRES, DIGESTS, strict=True)
)
COLUMNS = 14
MOSTLY_MISSING = (10, 11, 12)
CATEGORIES = (2, 6)  # of what remains: chest pain, resting electrocardiogram
TRAIN_SHARE = 0.66
SPLIT_SEED = 43
TINY = 1e-9  # added to a deviation, so that a column that one centre never measured is 0


@register(
    "heart", paper="Ogier du Terrail et al.", year=2022, url="https://arxiv.org/abs/2210.04620"
)
class Heart(DataSource):
    """Heart disease or not, 740 patients of four hospitals, as in FLamby; groups are the hospitals.

    Centres 0 to 3 are Cleveland (199 training + 104 test rows), Hungary (172 + 89), Switzerland
    (30 + 16, all 30 ill) and Long Beach (85 + 45); 13 columns; one score tells the two classes
    apart. Use the partition ``{name: natural, choose: first}`` with 4 nodes for the hospitals
    as clients.

    As published, each hospital's training rows are standardized with its own mean and
    deviation, but the pooled test rows with those of all training rows: a client cannot do the
    latter, so name the setting wherever you report a figure. All statistics are over the 486
    training rows, also where some are held out.
    """

    train_normalize: Literal["centre", "pooled"] = Field(
        "centre",
        description="training rows are standardized by their centre's own training rows, or by "
        "all of them (FLamby's pooled training)",
    )
    test_normalize: Literal["centre", "pooled"] | None = Field(
        None,
        description="the same for test rows. Not set, as published: pooled for the test rows of "
        "all centres, centre where test_centre names one",
    )
    test_centre: int | None = Field(
        None, ge=0, le=3, description="test on the rows of one centre; none = all four"
    )

    def files(self) -> Sequence[Path]:
        return [fetch("heart", remote) for remote in REMOTES]

    def read(self) -> RawSplits:
        if self.normalize is not None:
            raise ConfigError(
                "normalize",
                self.normalize,
                "does not apply to data that are standardized by hospital",
                "leave it out; use train_normalize and test_normalize",
            )
        tables = [
            parse(checked(path, remote.sha256), path)
            for path, remote in zip(self.files(), REMOTES, strict=True)
        ]
        is_test = np.concatenate([split(table[:, -1] > 0) for table in tables])
        everything = np.concatenate(tables)
        values, ill = one_hot(everything[:, :-1]), everything[:, -1] > 0
        centres = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        own, pooled = normalized(values, is_test, centres)
        chosen = is_test if self.test_centre is None else is_test & (centres == self.test_centre)
        way = self.test_normalize or ("pooled" if self.test_centre is None else "centre")

        def part(rows: np.ndarray, how: str) -> Arrays:
            inputs = own if how == "centre" else pooled
            return Arrays(
                inputs[rows].astype(np.float32), ill[rows].astype(np.int64), centres[rows]
            )

        return RawSplits(
            part(~is_test, self.train_normalize),
            part(chosen, way),
            kind="table",
            outputs=1,
            binary=True,
            class_names=("healthy", "ill"),
            group_names=CENTRES,
        )

    def _affine(self, raw: RawSplits, train: object, figures: object) -> tuple[None, None]:
        """Nothing is left to do: :meth:`read` has standardized."""
        return None, None


def checked(path: Path, digest: str) -> str:
    """The text of a file, once it is sure that it is the published one.

    Raises:
        DataError: it is another. Names the file.
    """
    blob = path.read_bytes()
    if (got := hashlib.sha256(blob).hexdigest()) != digest:
        raise DataError(
            f"{path} is not the published file\n  expected sha256 {digest}\n  got             {got}"
            "\n  fix: replace it by a good copy; some copies have an added header line"
        )
    return blob.decode("ascii")


def parse(text: str, path: Path) -> np.ndarray:
    """Complete rows of 10 measurements and the grade of illness (0 = none), float64 [n, 11].

    Three columns that most hospitals did not measure are dropped, then every row with a ``?``.

    Raises:
        DataError: a row has another form. Names the file.
    """
    kept = [column for column in range(COLUMNS) if column not in MOSTLY_MISSING]
    rows = []
    for number, line in enumerate(text.split(), start=1):
        cells = line.split(",")
        if len(cells) != COLUMNS:
            raise DataError(f"{path}:{number} has {len(cells)} columns instead of {COLUMNS}")
        if "?" in (chosen := [cells[column] for column in kept]):
            continue
        try:
            rows.append([float(cell) for cell in chosen])
        except ValueError as error:
            raise DataError(f"{path}:{number}: {error}") from error
    if not rows:
        raise DataError(f"{path} has no complete row")
    return np.array(rows)


def split(ill: np.ndarray) -> np.ndarray:
    """Which of a hospital's rows are the test set, bool [n]: FLamby's draw, the same in every run.

    Stratified by class where both classes have more than 2 rows.
    """
    from sklearn.model_selection import train_test_split

    counts = np.bincount(ill.astype(np.int64), minlength=2)
    _, test = train_test_split(
        np.arange(len(ill)),
        test_size=1.0 - TRAIN_SHARE,
        train_size=TRAIN_SHARE,
        random_state=SPLIT_SEED,
        shuffle=True,
        stratify=ill if counts.min() > 2 else None,
    )
    chosen = np.zeros(len(ill), bool)
    chosen[test] = True
    return chosen


def one_hot(values: np.ndarray) -> np.ndarray:
    """Numbers first, then an indicator of every category but the lowest: [n, 10] -> [n, 13].

    The categories are those of all hospitals together, so that all have the same columns.
    """
    numbers = [column for column in range(values.shape[1]) if column not in CATEGORIES]
    blocks = [values[:, numbers]]
    for column in CATEGORIES:
        levels = np.unique(values[:, column])[1:]
        blocks.append((values[:, [column]] == levels).astype(values.dtype))
    return np.concatenate(blocks, axis=1)


def normalized(
    values: np.ndarray, is_test: np.ndarray, centres: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows standardized by their own centre's training rows, and by all training rows.

    The deviation is that of a sample (n - 1), as in FLamby.
    """

    def standardized(rows: np.ndarray, by: np.ndarray) -> np.ndarray:
        return (rows - by.mean(axis=0)) / (by.std(axis=0, ddof=1) + TINY)

    own = np.empty_like(values)
    for centre in np.unique(centres):
        here = centres == centre
        own[here] = standardized(values[here], values[here & ~is_test])
    return own, standardized(values, values[~is_test])
