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

from hansa.base.words import is_number

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


OTHERS = {
    ".net": "Pajek",
    ".mtx": "Matrix Market",
    ".json": "JSON",
    ".dot": "DOT",
    ".gv": "DOT",
    ".g6": "graph6",
    ".s6": "sparse6",
    ".npy": "NumPy",
    ".npz": "NumPy",
    ".gz": "gzip",
}
"""Forms that are not read, by what files of them end with."""
_DIRECTED = re.compile(r"^(%\s*asym\b|#.*\bdirected\b)", re.IGNORECASE | re.MULTILINE)
"""A comment of KONECT's or SNAP's that says of edges that they have a direction."""


@dataclass
class Edges:
    """What a file says.

    Attributes:
        names: of the nodes that it lists, in its order; a list of edges lists none.
        ends: (sender, receiver) of each edge.
        weights: of each edge, None where it has none.
        stated: how many nodes there are, if the file says so.
        directed: whether edges have a direction, if the file says so.
        hint: a comment says that they have.
        places: where a name first stands, for errors.
    """

    names: list[str] = field(default_factory=list)
    ends: list[tuple[str, str]] = field(default_factory=list)
    weights: list[float | None] = field(default_factory=list)
    stated: int | None = None
    directed: bool | None = None
    hint: bool = False
    places: dict[str, str] = field(default_factory=dict)

    def add(self, sender: str, receiver: str, weight: float | None = None, place: str = "") -> None:
        """One more edge, and where its names stand."""
        self.ends.append((sender, receiver))
        self.weights.append(weight)
        for name in (sender, receiver):
            self.places.setdefault(name, place)


def read(path: Path, form: Format, weighted: bool = True) -> Edges:
    """The nodes and edges of a file.

    Args:
        weighted: read weights; else what follows a pair of nodes does not count.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not of this form; the text names the line and shows it.
    """
    if form in ("edges", "adjacency"):
        text = _text(path)
        lines = _lines(text)
        edges = _edges(lines, weighted) if form == "edges" else _adjacency(lines)
        edges.hint = bool(_DIRECTED.search(text))
        return edges
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
    edges = Edges(names=[str(node) for node in graph.nodes])
    if form != "multiline":
        edges.directed = bool(graph.is_directed())
    edges.stated = len(edges.names)
    for sender, receiver, data in graph.edges(data=True):
        weight = _weight(data, f"edge {sender} {receiver}") if weighted else None
        edges.add(str(sender), str(receiver), weight)
    return edges


Line = tuple[int, str]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


def _lines(text: str) -> list[Line]:
    """(number, text) of the lines without comments: ``#`` to the end, ``%`` at the beginning."""
    lines = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.split("#")[0]
        if line.lstrip().startswith("%") or ("#" in line and not content.strip()):
            continue
        lines.append((number, content.strip()))
    return lines


def _edges(lines: list[Line], weighted: bool) -> Edges:
    """``i j``, ``i j 0.5``, ``i j {}`` or ``i j {'weight': 0.5}`` a line; marks: space , ; tab."""
    edges = Edges()
    lines = [line for line in lines if line[1]]
    if lines and lines[0][1].isdecimal():
        edges.stated = int(lines.pop(0)[1])
    elif lines and _are_names(lines):
        lines.pop(0)
    for number, text in lines:
        where = f"line {number} ({text[:60]!r})"
        body, brace, data = text.partition("{")
        words = _words(body)
        weight = None
        if not weighted and all(word.isdecimal() for word in words[:2]):
            words = words[:2]
        elif brace and weighted:
            weight = _weight(_dictionary(brace + data, where), where)
        elif len(words) == 3:
            weight = _number(words.pop(), where)
        if len(words) != 2:
            raise ValueError(f"{where} is not a pair of nodes, or a pair and its weight")
        edges.add(words[0], words[1], weight, f" in line {number}")
    return edges


def _are_names(lines: list[Line]) -> bool:
    """Whether the first line names columns, as tables of edges have it."""
    heads = _words(lines[0][1])
    if heads and heads[0].casefold() in ("source", "from"):
        return True
    numbers = [word.isdecimal() for _, text in lines[1:] for word in _words(text)[:2]]
    words = len(heads) in (2, 3) and all(head and not is_number(head) for head in heads)
    return words and bool(numbers) and all(numbers)


def _adjacency(lines: list[Line]) -> Edges:
    """DecentralizePy's rows (how many, then whom node k hears), or networkx's (k and its own)."""
    edges = Edges()
    written = len(lines)
    while lines and not lines[-1][1]:
        lines.pop()
    first = _words(lines[0][1]) if lines else []
    alone = len(first) == 1 and first[0].isdecimal()
    if alone and (int(first[0]) >= len(lines) - 1 or any(not text for _, text in lines)):
        edges.stated = int(first[0])
        rows = lines[1:]
        if not len(rows) <= edges.stated < written:
            raise ValueError(f"it has {len(rows)} rows for {edges.stated} nodes")
        for k, (number, text) in enumerate(rows):
            for word in _words(text):
                edges.add(word, str(k), place=f" in line {number}")
        return edges
    lines = [line for line in lines if line[1]]
    if not lines:
        raise ValueError("it is empty")
    for number, text in lines:
        name, *others = _words(text)
        if name in edges.names:
            raise ValueError(
                f"line {number} ({text[:60]!r}) lists the neighbours of {name} again; begin with "
                "the number of nodes, or name a node first in each line"
            )
        edges.names.append(name)
        for other in others:
            edges.add(name, other, place=f" in line {number}")
    return edges


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
    text = re.sub(r":\s*(-?(?:nan|inf))\b", r": '\1'", text)  # as Python writes them
    try:
        parsed = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ValueError(f"{where}: what follows the nodes is no dictionary")
    return parsed


def _weight(data: dict[str, Any], where: str) -> float | None:
    weight = data.get("weight", data.get("Weight"))
    return None if weight is None else _number(weight, where)


def _number(value: Any, where: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the weight {value!r} is no number") from None
