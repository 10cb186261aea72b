"""The links of a run as a person describes them: the run file's ``network``.

Every directed pair of nodes has a link. Nothing that it carries is gone for good: what is lost,
corrupt or cut goes out again, and costs time. Times count from the run's start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from pydantic import Field

from hansa.base.errors import ConfigError
from hansa.engine.links.conditions import BURST, RESEND, Conditions, Course, merged
from hansa.engine.links.link_filter import Filter
from hansa.engine.links.link_tables import Rows, read_matrix, read_trace
from hansa.engine.settings import Settings

if TYPE_CHECKING:
    from hansa.base.streams import Streams

Figure: TypeAlias = Literal[
    "delay", "jitter", "rate", "burst", "loss", "resend", "duplicate", "corrupt"
]
_LOWER_IS_WORSE = ("rate", "burst")
_PLAIN = Conditions()
_ANY = (None, None)


class LinkShape(Settings):
    """What is said of some links; what is not said stays."""

    delay: float | None = Field(None, ge=0, description="seconds that a frame is under way")
    jitter: float | None = Field(
        None,
        ge=0,
        description="a frame's delay is uniform in delay ± jitter seconds; frames keep their order",
    )
    rate: float | None = Field(
        None, gt=0, description="bytes a second, by a token bucket; none = no limit"
    )
    burst: float | None = Field(
        None, gt=0, description=f"bytes that pass at once after a pause; none = {BURST}"
    )
    loss: float | None = Field(
        None, ge=0, le=0.9, description="chance that a frame is lost and has to go out again"
    )
    resend: float | None = Field(
        None, ge=0, description=f"seconds until a lost frame goes out again; none = {RESEND}"
    )
    duplicate: float | None = Field(
        None, ge=0, le=0.9, description="chance that a frame comes twice"
    )
    corrupt: float | None = Field(
        None,
        ge=0,
        le=0.9,
        description="chance that a frame comes with wrong bytes: it is noticed, the connection is "
        "made anew, and the frame goes out again",
    )
    cut: tuple[tuple[float, float], ...] = Field(
        (), description="[from, until) seconds of the run in which nothing passes"
    )

    @property
    def figures(self) -> dict[str, float]:
        """What is said, but for the cuts."""
        return self.model_dump(include=set(_PLAIN.__dataclass_fields__), exclude_none=True)

    def check_cut(self, field: str) -> None:
        """Refuse intervals that are none.

        Raises:
            ConfigError: naming ``field``.
        """
        for begins, until in self.cut:
            if begins < 0 or until <= begins:
                problem, fix = (
                    "is no interval of time",
                    "[from, until] with 0 <= from < until, in s",
                )
                raise ConfigError(f"{field}cut", [begins, until], problem, fix)


class PairShape(LinkShape):
    """What is said of the link of two nodes."""

    link: tuple[int, int] = Field(description="its sender and its receiver")
    both_ways: bool = Field(True, description="the way back too")


class Shaping(LinkShape):
    """What links between nodes are like. What is said of a pair goes before what is said of its
    nodes (of both: the worse), that before the matrix, and that before what is said of all; a trace
    goes before everything."""

    nodes: dict[int, LinkShape] = Field({}, description="all links of a node, both ways")
    links: tuple[PairShape, ...] = Field((), description="the links of single pairs")
    matrix: dict[Figure, Path] = Field(
        {},
        description="for a figure such as delay or rate, a table of text: a line for each sender, "
        "in it a number for each receiver",
    )
    trace: Path | None = Field(
        None,
        description="a table of text with the columns time, and any of from, to, delay, jitter, "
        "rate, loss ...: what holds from a second of the run on; rate 0 = nothing passes",
    )

    def check(self, nodes: int) -> None:
        """Refuse nodes that do not exist, files that do not fit and figures that cannot be.

        Args:
            nodes: of the run, servers included.

        Raises:
            ConfigError: naming the field.
        """
        self.check_cut("")
        there = f"nodes are 0..{nodes - 1}"
        for node, shape in self.nodes.items():
            if not 0 <= node < nodes:
                raise ConfigError(f"nodes.{node}", None, "is no node of the run", there)
            shape.check_cut(f"nodes.{node}.")
        for k, pair in enumerate(self.links):
            if not all(0 <= node < nodes for node in pair.link) or len({*pair.link}) < 2:
                fix = f"[sender, receiver], two of the nodes 0..{nodes - 1}"
                raise ConfigError(f"links.{k}.link", list(pair.link), "is no link of the run", fix)
            pair.check_cut(f"links.{k}.")
        for name, table in self._tables.items():
            if len(table) != nodes:
                problem = f"has {len(table)} lines, the run {nodes} nodes"
                raise ConfigError(f"matrix.{name}", None, problem, "a line and a column a node")
        for ends in self._rows:
            if any(node is not None and node >= nodes for node in ends):
                problem = f"names a node that is not in the run ({ends[0]} to {ends[1]})"
                raise ConfigError("trace", str(self.trace), problem, there)
        if {"delay", "jitter"} & self._tables.keys():
            delay, jitter = (
                np.array(self._tables.get(name, self.figures.get(name, 0.0)))
                for name in ("delay", "jitter")
            )
            above = (jitter > delay) & ~np.eye(nodes, dtype=bool)
            for sender, receiver in np.argwhere(above)[:1].tolist():
                self._check_course(sender, receiver)
        for sender, receiver in self._telling(nodes):
            self._check_course(sender, receiver)

    def course(self, sender: int, receiver: int) -> Course:
        """What the link from one node to another is like over time."""
        shapes = [self.nodes[node] for node in (sender, receiver) if node in self.nodes]
        said = self.figures
        said |= {name: float(table[sender, receiver]) for name, table in self._tables.items()}
        said |= _worse([shape.figures for shape in shapes])
        cuts = [*self.cut, *(cut for shape in shapes for cut in shape.cut)]
        for pair in self.links:
            if (sender, receiver) == pair.link or (
                pair.both_ways and (receiver, sender) == pair.link
            ):
                said |= pair.figures
                cuts += pair.cut
        first = replace(_PLAIN, **said)
        starts, conditions = [0.0], [first]
        for time, figures in self._rows_of(sender, receiver):
            after = replace(conditions[-1], **figures)
            if time > starts[-1]:
                starts.append(time)
                conditions.append(after)
            else:
                conditions[-1] = after
        return Course(tuple(starts), tuple(conditions), merged(cuts))

    def filter(self, streams: Streams, sender: int, receiver: int, lap: int = 0) -> Filter:
        """The link from one node to another, with chances that follow from the run's seed.

        Args:
            lap: tells apart the chances of several filters of one link.
        """
        key = streams.integer(f"network {lap}", sender, receiver)
        return Filter(self.course(sender, receiver), key)

    def between(
        self, streams: Streams, site: int, owner: Sequence[int]
    ) -> Callable[[int], Filter | None]:
        """The filters of a site's links to the others, by their numbers.

        The link of two sites is that of their first nodes; a site without nodes has plain links,
        for it is no part of what is shaped.

        Args:
            owner: the site of each node of the run.
        """
        first = {host: owner.index(host) for host in set(owner)}

        def toward(peer: int) -> Filter | None:
            if site not in first or peer not in first:
                return None
            made = self.filter(streams, first[site], first[peer])
            return None if made.course.plain else made

        return toward

    def check_sites(self, owner: Sequence[int]) -> None:
        """Refuse sites whose nodes have links that are told apart: a site has one link to another.

        Raises:
            ConfigError: naming the node.
        """
        crowded = Counter(owner)
        single = [(f"nodes.{node}", node) for node in self.nodes]
        single += [(f"links.{k}", node) for k, pair in enumerate(self.links) for node in pair.link]
        for field, told in (
            ("matrix", bool(self.matrix)),
            ("trace", bool(self._rows.keys() - {_ANY})),
        ):
            single += [(field, node) for node in range(len(owner)) if told]
        for field, node in single:
            if crowded[owner[node]] > 1:
                raise ConfigError(
                    field,
                    None,
                    f"tells node {node} from others of the same worker, which have one link",
                    f"a node a worker (runtime.workers: {len(owner)}), or the same for all links",
                )

    @cached_property
    def _tables(self) -> dict[str, np.ndarray]:
        return {name: read_matrix(name, path) for name, path in self.matrix.items()}

    @cached_property
    def _rows(self) -> dict[tuple[int | None, int | None], Rows]:
        return {} if self.trace is None else read_trace(self.trace)

    def _rows_of(self, sender: int, receiver: int) -> list[tuple[float, dict[str, float]]]:
        """The lines of the trace for a link, ascending by time, in the order of the file."""
        lines = [
            line
            for ends in (_ANY, (sender, None), (None, receiver), (sender, receiver))
            for line in self._rows.get(ends, ())
        ]
        lines.sort(key=lambda line: line[:2])
        return [(time, figures) for time, _, figures in lines]

    def _telling(self, nodes: int) -> list[tuple[int, int]]:
        """Pairs of nodes so that every kind of link that is described is among them."""
        alike: dict[LinkShape | None, list[int]] = {}
        others = (node for node in range(nodes) if node not in self.nodes)
        for node in [*self.nodes, *islice(others, 2)]:
            same = alike.setdefault(self.nodes.get(node), [])
            if len(same) < 2:
                same.append(node)
        some = [node for same in alike.values() for node in same]
        some += [node for ends in self._rows for node in ends if node is not None]
        pairs = {(a, b) for a in some for b in some}
        for pair in self.links:
            pairs |= {pair.link, pair.link[::-1]}
        return sorted((a, b) for a, b in pairs if a != b)

    def _check_course(self, sender: int, receiver: int) -> None:
        course = self.course(sender, receiver)
        for there in course.conditions:
            if there.jitter > there.delay:
                raise ConfigError(
                    "jitter",
                    there.jitter,
                    f"is more than the delay of {there.delay:g} s from node {sender} to "
                    f"{receiver}: frames would be there before they leave",
                    "a jitter of at most the delay",
                )
        if not course.conditions[-1].rate:
            problem = f"ends with rate 0 from node {sender} to {receiver}: nothing would ever pass"
            raise ConfigError("trace", str(self.trace), problem, "a last line with a rate above 0")


def _worse(shapes: list[dict[str, Any]]) -> dict[str, float]:
    """What is said of both ends of a link: of each figure the worse."""
    worst: dict[str, float] = {}
    for figures in shapes:
        for name, value in figures.items():
            choose = min if name in _LOWER_IS_WORSE else max
            worst[name] = choose(value, worst.get(name, value))
    return worst
