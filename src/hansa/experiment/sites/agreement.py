"""What has to be the same at all sites of a run, by field, so that a difference can be named.

Files that settings name are compared by what is in them: sites keep them in different places.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from hansa.base.component import Component
from hansa.base.errors import ConfigError
from hansa.base.files import sha256
from hansa.base.paths import path_fields
from hansa.experiment.runfile import RunFile
from hansa.experiment.sites.site_file import SiteFile

OWN = {"plugins", "runtime", "checkpoint", "device", "sinks"}
"""Settings of a run file that each site has for itself."""
OWN_DATA = {"path", "test_path"}
"""Settings of the data that a site with its own table has for itself."""


def agreement(run: RunFile, site: SiteFile, columns: list[Any] | None) -> dict[str, Any]:
    """What all sites must have alike, plain data by field.

    Args:
        columns: names and kinds of the columns of the site's own table; None: it has its share of
            the run file's data.
    """
    fields = {name: agreed(getattr(run, name)) for name in RunFile.model_fields if name not in OWN}
    fields.pop("verb", None)
    data: dict[str, Any] = {**fields.pop("data")}
    if columns is not None:
        data = {name: value for name, value in data.items() if name not in OWN_DATA}
        fields["data.columns"] = columns
    fields["data"] = data | {"each": "share" if columns is None else "own"}
    fields["sites"] = [
        list(owner) for owner in sorted([site.nodes, *(p.nodes for p in site.peers)])
    ]
    flat: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, Mapping):
            own = run.algorithm.own_settings if name == "algorithm" else ()
            flat |= {f"{name}.{inner}": item for inner, item in value.items() if inner not in own}
        else:
            flat[name] = value
    return flat


def agreed(value: Any, is_path: bool = False) -> Any:
    """Settings as plain data in which a file stands for what is in it.

    Args:
        is_path: texts in it are paths.
    """
    if isinstance(value, BaseModel):
        paths, dumped = path_fields(type(value)), {}
        if isinstance(value, Component):
            dumped["name"] = _content(type(value).name)
        for field in type(value).model_fields:
            dumped[field] = agreed(getattr(value, field), field in paths)
        return dumped
    if isinstance(value, Mapping):
        return {str(key): agreed(inner, is_path) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [agreed(inner, is_path) for inner in value]
    if isinstance(value, Path) or (is_path and isinstance(value, str)):
        return _content(str(value))
    return json.loads(json.dumps(value, default=str))


def _content(text: str) -> str:
    """The digest of a file, with the name that follows it; the last name of another path."""
    module, colon, name = text.rpartition(":")
    code = bool(colon) and module.endswith(".py")
    path = Path(module if code else text)
    if path.is_file():
        return f"sha256:{sha256(path)}" + (f":{name}" if code else "")
    return path.name if path.is_absolute() else text


def owners(
    run_nodes: int, site: SiteFile, clients: int | None = None
) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """(this site's number, the site of each node, the number of each peer as the file lists them).

    Sites are numbered by their lowest node.

    Args:
        run_nodes: how many nodes the run has, servers included.
        clients: how many of them are no servers, which come last; None: all.

    Raises:
        ConfigError: a node lives nowhere, or there is none of its id.
    """
    groups = [site.nodes, *(peer.nodes for peer in site.peers)]
    owner = [-1] * run_nodes
    order = sorted(range(len(groups)), key=lambda k: min(groups[k]))
    number = {k: at for at, k in enumerate(order)}
    for k, nodes in enumerate(groups):
        field = "nodes" if k == 0 else f"peers.{k - 1}.nodes"
        for node in nodes:
            if not 0 <= node < run_nodes:
                problem = f"the run has {run_nodes} nodes, servers included"
                raise ConfigError(field, node, problem, f"0 to {run_nodes - 1}")
            owner[node] = number[k]
    lost = [node for node, at in enumerate(owner) if at < 0]
    if lost:
        problem = f"node {lost[0]} of {run_nodes} lives at no site"
        fix = f"--node {lost[0]} (or nodes) at the site where it lives, and so at its peers"
        if clients is not None and lost[0] >= clients:
            problem += "; it is a server"
        raise ConfigError("peers", None, problem, fix)
    return number[0], tuple(owner), tuple(number[k] for k in range(1, len(groups)))
