"""Examples that somebody brings to a model, read as its training read its own.

Tables by the names of their columns, arrays, images, texts, pairs of a user and an item; with
labels where there are any."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.lazy import polars as pl
from hansa.base.lazy import torch
from hansa.data import tablefile
from hansa.data.brought_images import IMAGES, Pixels
from hansa.data.brought_labels import labels_of
from hansa.data.brought_tables import numbers_of, without_header
from hansa.data.brought_words import lines_of, pairs_of, rows_of_texts, texts_of
from hansa.data.features import encode
from hansa.data.signature import Signature

if TYPE_CHECKING:
    import polars
    from torch import Tensor

ARRAYS = (".npy", ".npz")
TABLES = (*tablefile.TEXT, *tablefile.BINARY)
_LABELS = ("y", "label", "labels", "target", "targets", "y_test")


@dataclass(frozen=True)
class Brought:
    """Examples as a model's training stored them.

    Attributes:
        names: what each is called: a file, or ``FILE:row``.
        stored: [m, ...], images channels last; shorter rows of characters hold -1 before them.
        labels: [m], int64 classes (-1: none) or float32 amounts (nan: none); None: no labels.
    """

    names: list[str]
    stored: Tensor
    labels: np.ndarray | None = None


def read(source: Any, signature: Signature) -> Brought:
    """What somebody brings, for a model with this signature.

    Args:
        source: a path: a table (.csv, .tsv, .parquet ...), an array (.npy, .npz), an image or a
            folder of them, lines of text (.txt); or a data frame of polars or pandas, an array
            [m, ...] of stored values, a list of texts.

    Raises:
        ConfigError, DataError: it is not what the model takes; names the column, word or shape.
    """
    if isinstance(source, str | Path):
        return _of_path(Path(source).expanduser(), signature)
    kind = type(source).__module__.partition(".")[0]
    if kind == "pandas":
        source, kind = pl.from_pandas(source), "polars"
    if kind == "polars":
        return _of_frame(source, signature, "the table")
    if isinstance(source, list | tuple) and source and all(isinstance(s, str) for s in source):
        stored = rows_of_texts(list(source), signature, "the texts")
        return Brought([f"text {k}" for k in range(len(stored))], _tensor(stored, signature))
    if kind == "torch":
        source = source.detach().cpu().numpy()
    array = np.asarray(source)
    if array.dtype.kind == "O":
        problem, fix = f"is a {type(source).__name__}", "a path, a data frame, an array or texts"
        raise ConfigError("data", None, problem, fix)
    return _of_array(array, signature, Path("the array"))


def _of_path(path: Path, signature: Signature) -> Brought:
    if not path.exists():
        raise ConfigError("input", str(path), "there is no such file or folder", "check the path")
    kind, suffix = signature.spec.kind, path.suffix.lower()
    if path.is_dir() or suffix in IMAGES:
        if kind != "image":
            raise ConfigError("input", str(path), f"holds images, the models take {kind}", ".csv")
        names, pixels = Pixels(signature).files(path)
        labels = _of_folders(path, names, signature) if path.is_dir() else None
        return Brought(names, pixels, labels)
    if suffix not in (*ARRAYS, *TABLES):
        readable = ", ".join((*TABLES, *ARRAYS))
        raise ConfigError("input", str(path), "is of no known kind", f"{readable}, or images")
    if kind == "image" and suffix in tablefile.BINARY:
        return _checked(Pixels(signature).parquet(path), signature, path)
    if suffix in ARRAYS:
        return _archived(path, signature)
    if kind == "tokens" and (suffix == ".txt" or "characters" in signature.reading):
        stored = rows_of_texts(lines_of(path), signature, str(path))
        return Brought(_numbered(path, len(stored)), _tensor(stored, signature))
    if kind in ("table", "image") and (array := without_header(path, signature)) is not None:
        return _checked(array.reshape(len(array), *signature.stored_shape), signature, path)
    return _of_frame(tablefile.read_frame(path), signature, str(path))


def _of_frame(frame: polars.DataFrame, signature: Signature, where: str) -> Brought:
    """Rows of a table with named columns."""
    kind, reading = signature.spec.kind, signature.reading
    if not len(frame):
        raise DataError(f"{where} has no rows")
    label = str(reading.get("rating" if kind == "pairs" else "label") or "")
    if kind == "tokens":
        texts, rest = texts_of(frame, signature, where)
        stored = rows_of_texts(texts, signature, where)
        rest = tablefile.cleaned(rest, words=_worded(rest, label, signature))
        columns = tablefile.arrays(rest, exact=label)
    elif kind == "pairs":
        frame = tablefile.cleaned(frame)
        stored, label = pairs_of(frame, signature, where)
        columns = tablefile.arrays(frame, exact=label)
    else:
        gone = reading.get("missing_values", tablefile.MISSING)
        words = {f["name"] for f in signature.features if f["words"] is not None}
        words |= _worded(frame, label, signature)
        frame, _ = tablefile.without_index(tablefile.cleaned(frame, gone, words), (), where)
        columns = tablefile.arrays(frame, exact=label)
        table = numbers_of(columns, signature, where)
        brought = _checked(table.reshape(len(table), *signature.stored_shape), signature, where)
        stored = brought.stored.numpy()
    owned = {f["name"] for f in signature.features}
    labels = None
    if label in columns and label not in owned:
        labels = labels_of(columns[label], signature, f"{where}: column {label!r}")
    return Brought(_numbered(where, len(stored)), _tensor(stored, signature), labels)


def _worded(frame: polars.DataFrame, label: str, signature: Signature) -> set[str]:
    """The label's column where it holds the names of classes as they stand, such as ``01``."""
    if label not in frame.columns or frame[label].dtype != pl.String:
        return set()
    said = frame[label].str.strip_chars().drop_nulls()
    known = said.is_in([*signature.class_names, *tablefile.MISSING])
    return {label} if known.all() else set()


def _archived(path: Path, signature: Signature) -> Brought:
    """Examples in a .npy file, or in an .npz file, with labels where it has some."""
    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return _of_array(content, signature, path)
        with content as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    brought = _of_array(_chosen(arrays, path, signature), signature, path)
    named = (str(signature.reading.get("label") or ""), *_LABELS)
    name = next((n for n in named if n in arrays and arrays[n].shape == (len(brought.names),)), "")
    if not name:
        return brought
    labels = labels_of(arrays[name], signature, f"{path}: array {name!r}")
    return Brought(brought.names, brought.stored, labels)


def _of_array(array: np.ndarray, signature: Signature, path: Path) -> Brought:
    if signature.spec.kind == "image":
        array = Pixels(signature).arrays(array, path)
    return _checked(array, signature, path)


def _chosen(arrays: dict[str, np.ndarray], path: Path, signature: Signature) -> np.ndarray:
    """The examples among the arrays of a file.

    Raises:
        ConfigError: it is not clear which they are.
    """
    features = signature.features
    if features and {feature["name"] for feature in features} <= set(arrays):
        return encode(arrays, features, str(path))
    fitting = [name for name, array in arrays.items() if _fits(array, signature)]
    tests = [name for name in fitting if "test" in name.lower()]
    if len(tests or fitting) != 1:
        problem = f"holds {', '.join(arrays) or 'nothing'}"
        fix = f"one array of examples [m, {', '.join(map(str, signature.stored_shape))}]"
        raise ConfigError("input", str(path), problem, fix)
    return arrays[(tests or fitting)[0]]


def _fits(array: np.ndarray, signature: Signature) -> bool:
    wanted = len(signature.stored_shape) + 1
    grey = signature.spec.kind == "image" and signature.spec.shape[0] == 1
    return array.ndim == wanted or (grey and array.ndim == wanted - 1)


def _checked(array: np.ndarray, signature: Signature, where: Path | str) -> Brought:
    """Stored values of the right shape and type, without gaps.

    Raises:
        DataError: they are of another shape or type, or a value is missing that nothing stands for.
    """
    wanted = list(signature.stored_shape)
    if array.ndim and not len(array):
        raise DataError(f"{where}: holds no example")
    if list(array.shape[1:]) != wanted:
        raise DataError(f"{where}: examples are {list(array.shape[1:])}, the models take {wanted}")
    if array.dtype.kind not in "fiub":
        raise DataError(f"{where}: holds {array.dtype}, and numbers are needed")
    array = _filled(array, where, signature)
    for size, ids in zip(signature.spec.vocabulary, _ids(array, signature), strict=False):
        if (broken := ids[ids != np.rint(ids)]).size:
            raise DataError(f"{where}: {broken.flat[0]:g} is no id; ids are whole numbers")
        if int(ids.min()) < 0 or int(ids.max()) >= size:
            strange = int(ids.min()) if int(ids.min()) < 0 else int(ids.max())
            raise DataError(f"{where}: id {strange} is outside 0..{size - 1}")
    return Brought(_numbered(where, len(array)), _tensor(array, signature))


def _ids(array: np.ndarray, signature: Signature) -> list[np.ndarray]:
    """Ids by their space, of tokens or pairs."""
    if signature.spec.kind == "pairs":
        return [array[:, 0], array[:, 1]]
    return [array] if signature.spec.kind == "tokens" else []


def _filled(array: np.ndarray, where: Path | str, signature: Signature) -> np.ndarray:
    """Missing values as in training, where training filled them."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return array
    if signature.fill is None or np.isinf(array).any():
        wrong = ~np.isfinite(array.reshape(len(array), -1))
        owners = [f["name"] for f in signature.features for _ in range(f["width"])]
        names = [name for name, bad in zip(owners, wrong.any(0), strict=False) if bad]
        at = f" in {', '.join(dict.fromkeys(names))}" if names else ""
        raise DataError(
            f"{where}: {int(wrong.any(1).sum())} of {len(array)} rows hold a value{at} that is "
            "missing or not finite, and training filled none (data.missing: impute)"
        )
    return np.where(np.isnan(array), signature.fill, array)


def _tensor(array: np.ndarray, signature: Signature) -> Tensor:
    form = np.int64 if signature.spec.kind in ("tokens", "pairs") else np.float32
    return torch.from_numpy(np.array(array, dtype=form, order="C"))


def _numbered(where: Path | str, count: int) -> list[str]:
    return [f"{where}:{k}" for k in range(count)]


def _of_folders(path: Path, names: Sequence[str], signature: Signature) -> np.ndarray | None:
    """Classes by the folder that each image lies in; None unless all lie in one of a class.

    Raises:
        DataError: some folders are of classes, and one is of none.
    """
    place = {name: k for k, name in enumerate(signature.class_names)}
    parts = [Path(name).relative_to(path).parts for name in names]
    folders = [part[0] if len(part) > 1 else "" for part in parts]
    if not all(folder in place for folder in folders):
        strange = next((one for one in folders if one and one not in place), "")
        if strange and not place.keys().isdisjoint(folders):
            shown = ", ".join([*place][:20]) + (" ..." if len(place) > 20 else "")
            raise DataError(f"{path}: {strange!r} is no class of the model ({shown})")
        return None
    return np.array([place[folder] for folder in folders], dtype=np.int64)
