"""What sites and who gathers their reports say to each other beside the messages between nodes.

Every message is plain data of a known form. Who has sent it is who has proven so; whatever has not
the form of its kind, or is not for its sender to say, is dropped with a reason.
"""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from hansa.base.errors import WireError
from hansa.engine.exchange.carrier import Carrier
from hansa.engine.exchange.dropped import Dropped
from hansa.engine.exchange.wire import pack_control, unpack_control
from hansa.engine.links.assembly import CONTROL

if TYPE_CHECKING:
    from hansa.engine.links.links import Links

_PART = re.compile(r"nodes-\d{6}-\d{6}\.safetensors")

Check = Callable[[Any], bool]


def _is(*types: type) -> Check:
    """Of one of these types; no truth value is a number."""
    return lambda value: type(value) in types


def _maybe(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _list(check: Check, length: int | None = None) -> Check:
    return lambda value: (
        type(value) is list and length in (None, len(value)) and all(map(check, value))
    )


def _by_name(check: Check) -> Check:
    return lambda value: (
        type(value) is dict
        and all(type(name) is str for name in value)
        and all(map(check, value.values()))
    )


def _count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _array(value: Any) -> bool:
    return isinstance(value, np.ndarray)


def _entry(value: Any) -> bool:
    """A part of a checkpoint: its file is named after its nodes, and lies nowhere else."""
    return (
        _by_name(lambda _: True)(value)
        and value.keys() >= {"file", "nodes", "sha256", "outcome"}
        and type(value["file"]) is str
        and _PART.fullmatch(value["file"]) is not None
        and _list(_count, 2)(value["nodes"])
        and type(value["sha256"]) is str
        and type(value.get("frozen", "")) is str
        and _maybe(_by_name(_is(str)))(value["outcome"])
    )


def _event(value: Any) -> bool:
    """Plain data by name, and of what kind it is."""
    return _by_name(lambda _: True)(value) and type(value.get("kind")) is str


def _tells(value: Any) -> bool:
    """What a party tells when it joins: arrays and plain data by name, or groups of such."""
    return _by_name(lambda one: type(one) is not dict or _by_name(lambda _: True)(one))(value)


_text, _yes = _is(str), _is(bool)
FORMS: dict[str, dict[str, Check]] = {
    # a site -> who gathers
    "hello": {"address": _text, "tells": _tells},
    "report": {"report": _by_name(lambda _: True), "overhead": _by_name(_count)},
    "note": {"event": _event},
    "saved": {"round": _count, "entry": _entry},
    "want": {"name": _text, "at": _count},
    "part": {"round": _count, "name": _text, "at": _count, "data": _is(bytes)},
    "paused": {"round": _count},
    "rejoined": {"since": _count, "at": _count},
    "done": {"whole": _yes, "overhead": _by_name(_count)},
    "left": {"dropped": _by_name(_count)},
    "error": {
        "problem": _text,
        "node": _maybe(_count),
        "round": _maybe(_count),
        "phase": _maybe(_text),
        "repeats": _yes,
        "own": _list(lambda one: one is None or type(one) is str),
        "type": _text,
    },
    # who gathers -> a site
    "peers": {
        "addresses": _list(lambda one: _list(lambda _: True, 3)(one)),
        "tells": _list(_tells),
        "gone": _list(_count),
        "awaited": _list(_count),
    },
    "pause": {},
    "last": {"round": _count},
    "stop": {},
    "bye": {},
    "gone": {"site": _count, "incarnation": _count, "awaited": _yes},
    "address": {"site": _count, "address": _text, "key": _text},
    "piece": {"name": _text, "at": _count, "data": _is(bytes), "last": _yes},
    # a site -> another
    "where": {"incarnation": _count},
    "begun": {"round": _count},
    "back": {"at": _count},
    "tells": {"tells": _tells},
}
"""What each kind of message has, by name, and of what form."""
REPORTED = frozenset(
    {
        "hello",
        "report",
        "note",
        "saved",
        "paused",
        "rejoined",
        "done",
        "left",
        "error",
        "want",
        "part",
    }
)
"""What a site may say to who gathers."""
ORDERED = frozenset({"peers", "pause", "last", "stop", "bye", "gone", "address", "piece"})
"""What who gathers may say to a site."""
AMONG = frozenset({"where", "begun", "back", "tells"})
"""What sites may say to each other."""


class Message(NamedTuple):
    """A message that has the form of its kind.

    Attributes:
        site: who has sent it.
        fields: what it says, by name.
    """

    site: int
    kind: str
    fields: dict[str, Any]


def read(site: int, data: bytes | memoryview, allowed: Iterable[str]) -> Message:
    """A control message of a site, checked.

    Raises:
        WireError: it is none of those that it may say, or lacks something.
    """
    message = unpack_control(data)
    kind = message.pop("kind")
    if kind not in allowed or kind not in FORMS:
        raise WireError(f"a {kind[:32]!r} is not for it to say")
    for name, fits in FORMS[kind].items():
        if name not in message:
            raise WireError(f"a {kind!r} without its {name}")
        if not fits(message[name]):
            raise WireError(f"a {kind!r} whose {name} is not one")
    return Message(site, kind, {name: message[name] for name in FORMS[kind]})


def check_report(report: Mapping[str, Any], ids: np.ndarray, nodes: int) -> None:
    """Refuse what is not the report of a block with these nodes.

    Raises:
        WireError: naming what is wrong.
    """

    def of(length: int) -> Check:
        return _by_name(lambda one: isinstance(one, np.ndarray) and one.shape == (length,))

    forms: dict[str, Check] = {
        "round": _count,
        "ids": lambda one: _array(one) and np.array_equal(one, ids),
        "seconds": _is(float, int),
        "at": _is(float, int),
        "values": of(len(ids)),
        "log": of(nodes),
        "events": _list(_event),
        "counters": of(len(ids)),
        "measured": _maybe(_by_name(lambda _: True)),
        "extra": _yes,
        "outcome": _maybe(_by_name(_is(str))),
        "arrivals": _maybe(_array),
    }
    for name, fits in forms.items():
        if name not in report or not fits(report[name]):
            raise WireError(f"a report whose {name} is not that of its nodes")
    if not {"bytes_sent", "steps"} <= report["counters"].keys():
        raise WireError("a report without counters")
    measured = report["measured"]
    if measured is not None and not (
        of(len(ids))(measured.get("values"))
        and _count(measured.get("models"))
        and _array(measured.get("mean"))
        and _is(float, int)(measured.get("spread"))
    ):
        raise WireError("a report whose measured is not that of its nodes")


def overhead_of(links: Links) -> dict[str, int]:
    """Bytes beyond the messages between nodes: those ``sent``, by cause too, and ``received``."""
    sent, received = links.overhead.sent, links.overhead.received
    return {"sent": sent.overhead, "received": received.overhead, **sent.by_cause()}


class Control:
    """The control messages of a site: those that it says, and those that it hears, checked.

    Args:
        may: which kinds a site may say here.

    Attributes:
        dropped: how often something was dropped, by the reason.
    """

    def __init__(self, may: Callable[[int], frozenset[str]]) -> None:
        self.may = may
        self.carrier: Carrier
        self.dropped = Dropped()
        self._came = threading.Condition()
        self._inbox: deque[tuple[int, bytes]] = deque()

    def arrived(self, site: int, parts: Sequence[bytes | bytearray | memoryview]) -> None:
        """A message of a site that has proven who it is; called from any thread."""
        with self._came:
            self._inbox.append((site, b"".join(parts)))
            self._came.notify_all()

    def wake(self) -> None:
        """Let who waits look again; called from any thread."""
        with self._came:
            self._came.notify_all()

    def say(self, to: int, kind: str, /, **fields: Any) -> None:
        """Tell a site something."""
        self.carrier.send(to, CONTROL, [pack_control(kind, **fields)])

    def hear(self, wait: float = 0.0) -> Message | None:
        """The next message that has its form; None: none came in so many seconds."""
        while True:
            with self._came:
                if not self._inbox and wait:
                    self._came.wait(wait)
                    wait = 0.0
                if not self._inbox:
                    return None
                site, data = self._inbox.popleft()
            self.carrier.grant(site, len(data))
            try:
                return read(site, data, self.may(site))
            except WireError as error:
                self.dropped.count(f"from site {site}: {error}")
