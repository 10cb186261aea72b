"""What somebody brings to a saved ensemble, read as its training read: tables by the names of
their columns, arrays, and images in a file, a folder or a parquet file."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import torch
from hansa.combine.ensemble.predict_images import IMAGES, Pixels
from hansa.combine.ensemble.store import Loaded
from hansa.data import tablefile
from hansa.data.features import encode

if TYPE_CHECKING:
    from torch import Tensor

ARRAYS = (".npy", ".npz")
TABLES = (*tablefile.TEXT, *tablefile.BINARY)
_MARKS = r"[,;\t|]"


def read(path: Path, ensemble: Loaded) -> tuple[list[str], Tensor]:
    """(names, stored values [m, ...]) of what a path holds.

    Raises:
        ConfigError, DataError: it is not what the models take.
    """
    path = path.expanduser()
    if not path.exists():
        raise ConfigError("input", str(path), "there is no such file or folder", "check the path")
    kind, suffix = ensemble.spec.kind, path.suffix.lower()
    if path.is_dir() or suffix in IMAGES:
        if kind != "image":
            raise ConfigError("input", str(path), f"holds images, the models take {kind}", ".csv")
        return Pixels(ensemble).files(path)
    if suffix not in (*ARRAYS, *TABLES):
        readable = ", ".join((*TABLES, *ARRAYS))
        raise ConfigError("input", str(path), "is of no known kind", f"{readable}, or images")
    if kind == "image" and suffix in tablefile.BINARY:
        array = Pixels(ensemble).parquet(path)
    elif suffix in TABLES:
        array = _table(path, ensemble)
    else:
        array = _array(path, ensemble)
        array = Pixels(ensemble).arrays(array, path) if kind == "image" else array
    wanted = list(ensemble.stored_shape)
    if list(array.shape[1:]) != wanted or not len(array):
        raise DataError(f"{path}: examples are {list(array.shape[1:])}, the models take {wanted}")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{path}: holds {array.dtype}, and numbers are needed")
    array = _filled(array, path, ensemble)
    form = np.int64 if kind in ("tokens", "pairs") else np.float32
    stored = torch.from_numpy(np.ascontiguousarray(array, dtype=form))
    return [f"{path}:{k}" for k in range(len(stored))], stored


def _array(path: Path, ensemble: Loaded) -> np.ndarray:
    """The array of a .npy file, or the one of an .npz file that holds examples."""
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    return _chosen(arrays, path, ensemble)


def _chosen(arrays: dict[str, np.ndarray], path: Path, ensemble: Loaded) -> np.ndarray:
    """The examples among the arrays of a file.

    Raises:
        ConfigError: it is not clear which they are.
    """
    features = ensemble.card.get("features") or []
    if features and {feature["name"] for feature in features} <= set(arrays):
        return encode(arrays, features, str(path))
    fitting = [name for name, array in arrays.items() if _fits(array, ensemble)]
    tests = [name for name in fitting if "test" in name.lower()]
    if len(tests or fitting) != 1:
        problem = f"holds {', '.join(arrays) or 'nothing'}"
        fix = f"one array of examples [m, {', '.join(map(str, ensemble.stored_shape))}]"
        raise ConfigError("input", str(path), problem, fix)
    return arrays[(tests or fitting)[0]]


def _fits(array: np.ndarray, ensemble: Loaded) -> bool:
    wanted = len(ensemble.stored_shape) + 1
    grey = ensemble.spec.kind == "image" and ensemble.spec.shape[0] == 1
    return array.ndim == wanted or (grey and array.ndim == wanted - 1)


def _table(path: Path, ensemble: Loaded) -> np.ndarray:
    """Columns by their names; where there are none, in the order in which models take them."""
    features = ensemble.card.get("features") or []
    width = int(np.prod(ensemble.stored_shape))
    cells = _first_line(path) if path.suffix.lower() in tablefile.TEXT else []
    names = {feature["name"] for feature in features}
    named = 2 * len(names & set(cells)) > len(names)  # a header, though one may be missing
    if _are_numbers(cells) and not named:
        table = _without_header(path)
    else:
        frame = tablefile.read_frame(path)
        gone = ensemble.card.get("reading", {}).get("missing_values", tablefile.MISSING)
        frame, _ = tablefile.without_index(tablefile.cleaned(frame, gone), (), str(path))
        columns = tablefile.arrays(frame)
        if features:
            table = encode(columns, features, str(path))
        else:
            plain = [{"name": name, "words": None, "width": 1} for name in columns]
            table = encode(columns, plain, str(path))  # type: ignore[arg-type]
    if table.shape[1] != width:
        raise DataError(f"{path}: rows have {table.shape[1]} numbers, the models take {width}")
    return table.reshape(len(table), *ensemble.stored_shape)


def _first_line(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return [cell.strip(' "\r\n') for cell in re.split(_MARKS, file.readline())]


def _are_numbers(cells: list[str]) -> bool:
    """Whether the first line of a file holds numbers, not names."""
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False


def _without_header(path: Path) -> np.ndarray:
    """Rows of numbers in the order of the columns."""
    try:
        lines = re.sub(_MARKS, ",", path.read_text(encoding="utf-8-sig"))
        return np.loadtxt(lines.splitlines(), delimiter=",", ndmin=2)
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error


def _filled(array: np.ndarray, path: Path, ensemble: Loaded) -> np.ndarray:
    """Missing values as in training, where training filled them.

    Raises:
        DataError: a value is missing or not finite, and nothing stands for it.
    """
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    fill = ensemble.card.get("fill")
    if fill is None or np.isinf(array).any():
        wrong = ~np.isfinite(array.reshape(len(array), -1))
        features = ensemble.card.get("features") or []
        owners = [feature["name"] for feature in features for _ in range(feature["width"])]
        names = [name for name, bad in zip(owners, wrong.any(0), strict=False) if bad]
        where = f" in {', '.join(dict.fromkeys(names))}" if names else ""
        raise DataError(
            f"{path}: {int(wrong.any(1).sum())} of {len(array)} rows hold a value{where} that is "
            "missing or not finite, and training filled none (data.missing: impute)"
        )
    return np.where(np.isnan(array), np.asarray(fill, dtype=np.float32), array)
