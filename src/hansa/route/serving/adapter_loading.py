"""Adapters that come and go while a pool is served: from below one folder, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hansa.base.errors import ConfigError
from hansa.route.pool_loading import load_adapter
from hansa.route.serving.served_pool import ServedPool, check_adapter_name
from hansa.serving.requests_in import Refused
from hansa.weights.lora_folder import LoraFolder


class AdapterLoading:
    """Loads and unloads.

    Args:
        root: the folder below which adapters have to lie, once links are resolved.
    """

    def __init__(self, pool: ServedPool, root: Path) -> None:
        self.pool, self.root = pool, root.resolve()

    def load(self, name: Any, path: Any, in_place: Any) -> str:
        """Load an adapter; returns what was done, in words. In the thread of the model.

        Args:
            path: below the root; None: of the adapter's own name.
            in_place: whether one of this name gives way.

        Raises:
            Refused: 400, 403 for a path outside the root; the pool is as before.
        """
        name = self._name(name)
        if path is not None and not isinstance(path, str):
            raise Refused(400, "lora_path is no text")
        if in_place not in (None, True, False):
            raise Refused(400, "load_inplace is neither true nor false")
        if name in self.pool.model.slab and not in_place:
            raise Refused(400, f"{name!r} is loaded already; load_inplace: true loads it again")
        if name in self.pool.aliases:
            raise Refused(400, f"{name!r} stands for adapters that it was merged into")
        try:
            check_adapter_name(name, self.pool.name)
            opened = LoraFolder.open(self._folder(path if path is not None else name))
            digest = opened.sha256()
            load_adapter(self.pool.model.slab, opened, name, replaces=bool(in_place))
        except ConfigError as error:
            raise Refused(400, str(error)) from None
        self.pool.digests[name] = digest
        return f"{name} is loaded"

    def unload(self, name: Any) -> str:
        """Take an adapter out; returns what was done, in words. In the thread of the model.

        Raises:
            Refused: 404; there is none of this name.
        """
        name = self._name(name)
        if name not in self.pool.model.slab:
            raise Refused(404, f"there is no adapter {name!r}")
        self.pool.model.slab.remove(name)
        self.pool.digests.pop(name, None)
        return f"{name} is unloaded"

    def _name(self, name: Any) -> str:
        if not isinstance(name, str) or not name:
            raise Refused(400, "lora_name is no text")
        return name

    def _folder(self, path: str) -> Path:
        """The folder, its links resolved, with every file that is read below the root."""
        outside = Refused(403, "lora_path is not below the folder that adapters are loaded from")
        try:
            folder = (self.root / path).resolve(strict=True)
            files = [folder, *(f.resolve(strict=True) for f in folder.glob("adapter_*"))]
        except (OSError, ValueError, RuntimeError):
            # The same for what is not there: nobody learns what lies elsewhere.
            raise outside from None
        if not all(file.is_relative_to(self.root) for file in files):
            raise outside
        return folder
