"""PEFT folders into a slab: one, or a whole pool of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hansa.base.errors import ConfigError
from hansa.route.slab import AdapterSlab
from hansa.weights.lora_folder import LoraFolder, match_modules

if TYPE_CHECKING:
    from torch import Tensor


def folders_of(pool: Path) -> dict[str, Path]:
    """The adapters in a folder, by name: every folder below it that holds an adapter, sorted.

    Raises:
        ConfigError: there is none.
    """
    folders = {
        file.parent.relative_to(pool).as_posix(): file.parent
        for file in sorted(pool.rglob("adapter_config.json"))
    }
    if not folders:
        problem = "holds no folder with an adapter_config.json"
        raise ConfigError("pool", str(pool), problem, "a folder of folders that PEFT has written")
    return {pool.name if name == "." else name: folder for name, folder in folders.items()}


def load_adapter(
    slab: AdapterSlab,
    folder: Path | LoraFolder,
    name: str | None = None,
    replaces: bool = False,
    base: str | None = None,
) -> int:
    """Read one PEFT folder into a slab; returns its index.

    Args:
        name: in the slab; None: the folder's.
        replaces: whether one of the same name gives way. It keeps its index.
        base: the fingerprint of the base it was trained on, where that is known.

    Raises:
        ConfigError: it is no plain LoRA adapter, not of this base, or the name is taken. The slab
            is as before then.
    """
    opened = folder if isinstance(folder, LoraFolder) else LoraFolder.open(folder)
    name = opened.name if name is None else name
    if name in slab and not replaces:
        raise ConfigError("adapter", name, "is in the pool already", "another name, or reload it")
    factors = _factors(opened, match_modules(opened, slab.linears))
    return (slab.replace if name in slab else slab.add)(name, factors, base)


def _factors(lora: LoraFolder, matched: Mapping[str, str]) -> dict[str, tuple[Tensor, Tensor]]:
    both = {layer: lora.factors(own) for own, layer in matched.items()}
    return {layer: (factors.a, factors.b) for layer, factors in both.items()}


def load_pool(
    slab: AdapterSlab,
    folders: Mapping[str, Path],
    said: Callable[[int, int], None] | None = None,
) -> None:
    """Read many PEFT folders into a slab.

    Headers are read first, so that an adapter that does not fit is named before any is loaded, and
    room is made at once.

    Args:
        folders: by the name that each gets.
        said: is told how many are loaded, of how many.

    Raises:
        ConfigError: one cannot be read or is not of this base, or a name is taken.
    """
    opened = {name: LoraFolder.open(folder) for name, folder in folders.items()}
    matched = {name: match_modules(lora, slab.linears) for name, lora in opened.items()}
    rows: Counter[str] = Counter()
    for name, layers in matched.items():
        if name in slab:
            raise ConfigError("adapter", name, "is in the pool already", "another name")
        for own, layer in layers.items():
            rows[layer] += opened[name].modules[own][0]
    slab.reserve(rows)
    for count, (name, lora) in enumerate(opened.items(), 1):
        slab.add(name, _factors(lora, matched[name]))
        if said is not None:
            said(count, len(opened))


def slab_of(
    linears: Mapping[str, tuple[int, int]],
    folders: Mapping[str, Path] | Sequence[Path],
    dtype: str = "float32",
    base: str | None = None,
) -> AdapterSlab:
    """A slab with a pool in it; see :class:`AdapterSlab` and :func:`load_pool`."""
    slab = AdapterSlab(linears, dtype, base)
    load_pool(slab, folders if isinstance(folders, Mapping) else _by_name(folders))
    return slab


def _by_name(folders: Iterable[Path]) -> dict[str, Path]:
    named: dict[str, Path] = {}
    for folder in folders:
        if folder.name in named:
            problem = f"and {named[folder.name]} have one name"
            raise ConfigError("pool", str(folder), problem, "give them names of their own")
        named[folder.name] = folder
    return named
