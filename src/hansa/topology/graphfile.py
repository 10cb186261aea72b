"""Graph files read into pairs of names, whatever wrote them: lists of edges or of neighbours, XML.

Names stay text here; :mod:`hansa.topology.names` makes numbers of them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from xml.etree.ElementTree import ParseError

Format = Literal["edges", "adjacency", "multiline", "graphml", "gml", "gexf"]
EXTENSIONS: dict[str, Format] = {
    ".edges": "edges",
    ".edgelist": "edges",
    ".el": "edges",
    ".txt": "edges",
    ".csv": "edges",
    ".tsv": "edges",
    ".adj": "adjacency",
    ".adjlist": "adjacency",
    ".graphml": "graphml",
    ".gml": "gml",
    ".gexf": "gexf",
}


@dataclass
class Edges:
    """What a file says.

    Attributes:
        names: of the nodes that it lists, in its order; a list of edges lists none.
        ends: (sender, receiver) of each edge.
        weights: of each edge, None where it has none.
        stated: how many nodes there are, if the file says so.
        directed: whether edges have a direction, if the file says so.
        places: where a name first stands, for errors.
    """

    names: list[str] = field(default_factory=list)
    ends: list[tuple[str, str]] = field(default_factory=list)
    weights: list[float | None] = field(default_factory=list)
    stated: int | None = None
    directed: bool | None = None
    places: dict[str, str] = field(default_factory=dict)

    def add(self, sender: str, receiver: str, weight: float | None = None, place: str = "") -> None:
        """One more edge, and where its names stand."""
        self.ends.append((sender, receiver))
        self.weights.append(weight)
        for name in (sender, receiver):
            self.places.setdefault(name, place)


def read(path: Path, form: Format) -> Edges:
    """The nodes and edges of a file.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not of this form; the text names the line and shows it.
    """
    if form in ("edges", "adjacency"):
        lines = _lines(path)
        return _edges(lines) if form == "edges" else _adjacency(lines)
    import networkx

    readers: dict[str, Callable[..., Any]] = {
        "multiline": networkx.read_multiline_adjlist,
        "graphml": networkx.read_graphml,
        "gml": networkx.read_gml,
        "gexf": networkx.read_gexf,
    }
    path.open("rb").close()  # the same error for a file that is not there in every form
    try:
        graph = readers[form](path)
    except (networkx.NetworkXError, ParseError, TypeError, KeyError, IndexError) as error:
        raise ValueError(str(error)) from None
    found = Edges(names=[str(node) for node in graph.nodes])
    if form != "multiline":
        found.directed = bool(graph.is_directed())
    found.stated = len(found.names)
    for sender, receiver, data in graph.edges(data=True):
        found.add(str(sender), str(receiver), _weight(data, f"edge {sender} {receiver}"))
    return found


Line = tuple[int, str]


def _lines(path: Path) -> list[Line]:
    """(number, text) of the lines without comments: ``#`` to the end, ``%`` at the beginning."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#")[0]
        if line.lstrip().startswith("%") or ("#" in line and not content.strip()):
            continue
        lines.append((number, content.strip()))
    while lines and not lines[-1][1]:
        lines.pop()
    return lines


def _edges(lines: list[Line]) -> Edges:
    """``i j``, ``i j 0.5``, ``i j {}`` or ``i j {'weight': 0.5}`` a line; marks: space , ; tab."""
    found = Edges()
    lines = [line for line in lines if line[1]]
    if lines and lines[0][1].isdecimal():
        found.stated = int(lines.pop(0)[1])
    elif lines and (heads := _words(lines[0][1])) and heads[0].casefold() in ("source", "from"):
        lines.pop(0)  # a line of names, as tables of edges have it
    for number, text in lines:
        where = f"line {number} ({text[:60]!r})"
        body, brace, data = text.partition("{")
        words = _words(body)
        weight = None
        if brace:
            weight = _weight(_dictionary(brace + data, where), where)
        elif len(words) == 3:
            weight = _number(words.pop(), where)
        if len(words) != 2:
            raise ValueError(f"{where} is not a pair of nodes, or a pair and its weight")
        found.add(words[0], words[1], weight, f" in line {number}")
    return found


def _adjacency(lines: list[Line]) -> Edges:
    """DecentralizePy's rows (how many, then whom node k hears), or networkx's (k and its own)."""
    found = Edges()
    first = _words(lines[0][1]) if lines else []
    alone = len(first) == 1 and first[0].isdecimal()
    if alone and (int(first[0]) >= len(lines) - 1 or any(not text for _, text in lines)):
        found.stated = int(first[0])
        rows = lines[1:]
        if len(rows) > found.stated:
            raise ValueError(f"it has {len(rows)} rows for {found.stated} nodes")
        for k, (number, text) in enumerate(rows):
            for word in _words(text):
                found.add(word, str(k), place=f" in line {number}")
        return found
    lines = [line for line in lines if line[1]]
    if not lines:
        raise ValueError("it is empty")
    for number, text in lines:
        name, *others = _words(text)
        if name in found.names:
            raise ValueError(
                f"line {number} ({text[:60]!r}) lists the neighbours of {name} again; begin with "
                "the number of nodes, or name a node first in each line"
            )
        found.names.append(name)
        for other in others:
            found.add(name, other, place=f" in line {number}")
    return found


def _words(text: str) -> list[str]:
    """Words between spaces; where there is a comma, semicolon or tab, what is between those."""
    mark = next((mark for mark in (";", ",", "\t") if mark in text.strip()), None)
    if mark is None:
        return text.split()
    words = [word.strip().strip('"') for word in text.split(mark)]
    while words and not words[-1]:
        words.pop()
    if all(" " not in word for word in words) or mark == "\t":
        return words
    return re.split(r"[\s,;]+", text.strip(" ,;")) if _plain(text) else words


def _plain(text: str) -> bool:
    """Whether a line holds nothing but whole numbers, spaces and marks."""
    return re.fullmatch(r"[\d\s,;]+", text) is not None


def _dictionary(text: str, where: str) -> dict[str, Any]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"{where}: what follows the nodes is no dictionary")
    return found


def _weight(data: dict[str, Any], where: str) -> float | None:
    weight = data.get("weight", data.get("Weight"))
    return None if weight is None else _number(weight, where)


def _number(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the weight {value!r} is no number") from None
