"""From an index, a run or a base with a pool to what is served, checked against its digests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hansa.base.errors import ConfigError
from hansa.route.answering import Query
from hansa.route.base_models import fingerprint, open_model
from hansa.route.generating import GeneratingModel
from hansa.route.pool_loading import folders_of, load_pool
from hansa.route.prefix_cache import PrefixCache
from hansa.route.routing import Routed
from hansa.route.routing_index import RoutingIndex
from hansa.route.serving.served_pool import ServedPool, check_adapter_name
from hansa.weights.compressed_pool import ADAPTERS, PLAN, CompressedPool
from hansa.weights.lora_folder import LoraFolder


@dataclass(frozen=True)
class IndexRouter:
    """An index as what routes texts."""

    index: RoutingIndex

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, as its mixtures count them."""
        return self.index.names

    @property
    def task_names(self) -> tuple[str, ...]:
        """The tasks, as it counts them."""
        return tuple(task.name for task in self.index.tasks)

    def route(self, queries: Sequence[Query]) -> list[Routed]:
        """Where queries go."""
        return self.index.route(queries)


@dataclass(frozen=True)
class Opened:
    """A pool and the folder that its adapters come from."""

    pool: ServedPool
    root: Path


def open_pool(
    source: Path,
    adapters: Path | None = None,
    max_tokens: int = 32,
    dtype: str = "float32",
    prefix_tokens: int = 0,
) -> Opened:
    """What ``hansa route serve`` and ``ask`` answer with.

    Args:
        source: the folder of an index, of a run that made one, or of a base.
        adapters: the folder of the pool, or of what ``hansa route compress`` made of it: then the
            router goes on as before, with what its adapters were merged into. None: the index's
            own. A base needs it.
        max_tokens: of an answer, where a request does not say.
        dtype: of the adapters in memory.
        prefix_tokens: of prompts that are kept from one request to the next.

    Raises:
        CheckpointError: the index is damaged.
        ConfigError: the base or an adapter is not what was indexed, or cannot be read.
    """
    source = source.expanduser()
    if not source.is_dir():
        fix = "what hansa route index or hansa route run wrote, or a base with --adapters POOL"
        raise ConfigError("source", str(source), "is no folder", fix)
    if (source / "config.json").is_file():
        if adapters is None:
            problem = "is a base, and nothing says where its adapters are"
            raise ConfigError("source", str(source), problem, "--adapters POOL")
        stock, base, name, router = _stock(adapters), source, source.resolve().name, None
    else:
        index = RoutingIndex.open(source)
        stock = _of_index(index, _stock(index.pool if adapters is None else adapters))
        if fingerprint(index.base) != index.base_sha256:
            fix = "the base that was indexed, or hansa route index anew"
            raise ConfigError("base", str(index.base), "is not the model that was indexed", fix)
        base, name, router = index.base, index.base.name, IndexRouter(index)
    for adapter in (*stock.folders, *stock.aliases):
        check_adapter_name(adapter, name)
    model = open_model(base, max_tokens, dtype)
    load_pool(model.slab, stock.folders)
    if isinstance(model, GeneratingModel):
        model.prefixes = PrefixCache(prefix_tokens)
    pool = ServedPool(name, model, router, stock.digests, stock.aliases)
    return Opened(pool, stock.root)


@dataclass(frozen=True)
class _Stock:
    """What adapters there are.

    Attributes:
        root: the folder that theirs lie in.
        folders, digests: of each, by name.
        aliases: of a compressed pool, each old adapter's name to the folders that it went into.
        members: names that a router may know, and the digests of what they were made from.
    """

    root: Path
    folders: dict[str, Path]
    digests: dict[str, str]
    aliases: dict[str, tuple[tuple[str, float], ...]]
    members: dict[str, str]


def _stock(root: Path) -> _Stock:
    """The adapters in a folder, or in one that ``hansa route compress`` wrote."""
    if (root / PLAN).is_file():
        small = CompressedPool.open(root)
        root = root / ADAPTERS
        folders = {name: root / name for names in small.names.values() for name in names}
        members = {member.name: member.sha256 for member in small.plan.members}
        aliases = {name: tuple(small.mixture({name: 1.0}).items()) for name in members}
        return _Stock(root, folders, dict(small.plan.facts["sha256"]), aliases, members)
    folders = folders_of(root)
    digests = {name: LoraFolder.open(folder).sha256() for name, folder in folders.items()}
    return _Stock(root, folders, digests, {}, digests)


def _of_index(index: RoutingIndex, stock: _Stock) -> _Stock:
    """The index's adapters, each as it was when it was indexed."""
    root = str(stock.root)
    if missing := [name for name in index.names if name not in stock.members]:
        problem = f"lacks adapters of the index: {', '.join(missing[:10])}"
        raise ConfigError("adapters", root, problem, "the folder that was indexed")
    for name, digest in index.adapters.items():
        if stock.members[name] != digest:
            problem = "has changed since it was indexed: its scores are another's"
            raise ConfigError("adapter", name, problem, "hansa route index measures it anew")
    if stock.aliases:
        return stock
    folders = {name: stock.folders[name] for name in index.names}
    return replace(stock, folders=folders, digests=dict(index.adapters))
