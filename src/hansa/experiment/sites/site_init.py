"""A site file to begin with: every setting with a remark, what is known filled in."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from hansa.base.errors import ConfigError
from hansa.base.files import atomic_write
from hansa.engine.links.keys import fingerprint_in
from hansa.experiment.runfile import run_kind
from hansa.experiment.settings_file import read_yaml
from hansa.experiment.sites.site_file import Patience, SiteFile, SitePeer

_WIDTH = 96


@dataclass(frozen=True)
class Known:
    """What a site file says from the start.

    Attributes:
        data: the site's own table, or None: its share of the run file's data.
        test: a table of test examples.
    """

    name: str
    run: Path
    key: Path
    nodes: tuple[int, ...]
    listen: str | None
    peers: tuple[SitePeer, ...]
    data: Path | None
    test: Path | None
    tells: tuple[str, ...] = ()
    session: str = "run"


def peer_of(text: str) -> SitePeer:
    """A peer from ``NODES=FILE[@HOST:PORT]``: its nodes, the file with its key's line, its address.

    Raises:
        ConfigError: the text is none, or there is no such file.
    """
    nodes, equals, rest = text.partition("=")
    file, _, address = rest.partition("@")
    fix = "NODES=FILE[@HOST:PORT], such as 1=south.pub@10.0.0.5:7000 or 2,3=east.pub"
    if not equals or not all(part.strip().isdecimal() for part in nodes.split(",")):
        raise ConfigError("peer", text, "does not say which nodes live there", fix)
    path = Path(file).expanduser()
    if not path.is_file():
        problem = "there is no such file with the line of its key"
        raise ConfigError("peer", file, problem, "the file NAME.pub of that site")
    line = path.read_text(encoding="utf-8", errors="replace").strip()[:1000]
    fingerprint = fingerprint_in(line, "peer")
    words = line.split()
    return SitePeer(
        name=words[3] if len(words) > 3 else path.stem,
        nodes=tuple(int(part) for part in nodes.split(",")),
        address=address or None,
        key=fingerprint,
    )


def site_text(known: Known, folder: Path) -> str:
    """The site file, as YAML with remarks; paths in it are relative to ``folder``.

    Raises:
        ConfigError: the run file cannot be read.
    """
    run = run_kind(read_yaml(known.run)).load(known.run)
    asks = sorted(run.algorithm.must_tell)
    remark = f"the algorithm asks for: {', '.join(asks) or 'nothing'}"
    if known.data is not None or known.test is not None:
        remark += "; own tables for names and moments unless the run file declares them"

    def at(path: Path | None) -> str:
        return "null" if path is None else _text(_relative(path, folder))

    data = "share"
    if known.data is not None or known.test is not None:
        data = f"{{path: {at(known.data)}, test_path: {at(known.test)}}}"
    dialling = [peer for peer in known.peers if peer.address is None]
    over_relays = known.listen is None and bool(dialling)
    lines = [
        "# A site of a run without a coordinator. See docs/tutorials/three_hospitals.md.",
        "# hansa node explain THIS FILE says exactly what leaves this site before anything does.",
        "verb: node",
        *_set("name", _text(known.name)),
        *_set("session", _text(known.session)),
        *_set("run", at(known.run)),
        *_set("nodes", json.dumps(list(known.nodes))),
        *_set("listen", "null" if known.listen is None else _text(known.listen)),
        *_set("relay", json.dumps(len(dialling) > 1)),
        *_set("key", at(known.key)),
        *_set("data", data),
        *_set("tells", f"[{', '.join(known.tells)}]", remark),
        *_remark(SiteFile, "peers"),
        "peers:" if known.peers else "peers: []",
    ]
    for peer in known.peers:
        lines += [
            f"  - name: {_text(peer.name)}",
            f"    nodes: {json.dumps(list(peer.nodes))}",
            f"    address: {'null' if peer.address is None else _text(peer.address)}",
            f"    key: {_text(peer.key)}",
        ]
        if over_relays and peer.address is not None:
            lines += ["    relay: true  # passes on what those that only dial tell each other"]
    lines += [*_remark(SiteFile, "patience"), "patience:"]
    for name, field in Patience.model_fields.items():
        lines.append(f"  {name}: {field.default:g}  # {field.description}")
    for name in ("least", "own_streams", "out"):
        value = SiteFile.model_fields[name].default
        lines += _set(name, "null" if value is None else _text(str(value)))
    return "\n".join(lines) + "\n"


def write_site(known: Known, path: Path) -> SiteFile:
    """Write a site file that can be run, and give what it says.

    Raises:
        ConfigError: there is a file already, or it would not do.
    """
    if path.exists():
        raise ConfigError("out", str(path), "is there already", "another name")
    text = site_text(known, path.absolute().parent)
    with atomic_write(path, "w") as file:
        file.write(text)
    try:
        return SiteFile.load(path)
    except ConfigError:
        path.unlink(missing_ok=True)
        raise


def _set(name: str, value: str, more: str = "") -> list[str]:
    return [*_remark(SiteFile, name, more), f"{name}: {value}"]


def _remark(group: type[BaseModel], name: str, more: str = "") -> list[str]:
    """A setting's description as lines of remarks."""
    text = group.model_fields[name].description or name
    text = f"{text} ({more})" if more else text
    return ["", *textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")]


def _relative(path: Path, folder: Path) -> str:
    """A path as it stands in a file in a folder: relative if it lies there."""
    whole = path.expanduser().absolute()
    return str(whole.relative_to(folder)) if whole.is_relative_to(folder) else str(whole)


def _text(value: str | Sequence[str]) -> str:
    """Text as YAML that reads back as text (JSON strings are YAML)."""
    return json.dumps(value, ensure_ascii=False)
