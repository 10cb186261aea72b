"""From an index, a run or a base with a pool to what is served, checked against its digests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hansa.base.errors import ConfigError
from hansa.route.answering import AnsweringModel
from hansa.route.base_models import fingerprint, open_model
from hansa.route.generating import GeneratingModel
from hansa.route.pool_loading import folders_of, load_pool
from hansa.route.prefix_cache import PrefixCache
from hansa.route.routing import Routed
from hansa.route.routing_index import RoutingIndex
from hansa.route.serving.served_pool import ServedPool, check_adapter_name
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

    def route(self, texts: Sequence[str]) -> list[Routed]:
        """Where texts go."""
        return self.index.route(texts)


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
        adapters: the folder of the pool; None: the index's own. A base needs it.
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
        folders = folders_of(adapters)
        model = open_model(source, max_tokens, dtype)
        digests = {name: LoraFolder.open(folder).sha256() for name, folder in folders.items()}
        return _opened(
            source.resolve().name, model, None, adapters, folders, digests, prefix_tokens
        )
    index = RoutingIndex.open(source)
    root = index.pool if adapters is None else adapters
    folders = _of_index(index, root)
    if fingerprint(index.base) != index.base_sha256:
        fix = "the base that was indexed, or hansa route index anew"
        raise ConfigError("base", str(index.base), "is not the model that was indexed", fix)
    model = open_model(index.base, max_tokens, dtype)
    router = IndexRouter(index)
    digests = dict(index.adapters)
    return _opened(index.base.name, model, router, root, folders, digests, prefix_tokens)


def _of_index(index: RoutingIndex, root: Path) -> dict[str, Path]:
    """The index's adapters, each as it was when it was indexed."""
    folders = folders_of(root)
    if missing := [name for name in index.names if name not in folders]:
        problem = f"lacks adapters of the index: {', '.join(missing[:10])}"
        raise ConfigError("adapters", str(root), problem, "the folder that was indexed")
    for name, digest in index.adapters.items():
        if LoraFolder.open(folders[name]).sha256() != digest:
            problem = "has changed since it was indexed: its scores are another's"
            raise ConfigError("adapter", name, problem, "hansa route index measures it anew")
    return {name: folders[name] for name in index.names}


def _opened(
    name: str,
    model: AnsweringModel,
    router: IndexRouter | None,
    root: Path,
    folders: Mapping[str, Path],
    digests: dict[str, str],
    prefix_tokens: int,
) -> Opened:
    for adapter in folders:
        check_adapter_name(adapter, name)
    load_pool(model.slab, folders)
    if isinstance(model, GeneratingModel):
        model.prefixes = PrefixCache(prefix_tokens)
    return Opened(ServedPool(name, model, router, digests), root)
