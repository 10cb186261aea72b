"""Fuzz targets of what comes from another site: any bytes give what they should or one error.

Each target takes bytes and raises nothing, or asserts what must not be. Tests drive them with
mutated captures, ``tests/fuzz_links.py`` with atheris.
"""

from __future__ import annotations

import contextlib
import random
import zlib
from collections.abc import Callable, Iterator
from typing import ClassVar

import numpy as np

from hansa.base.errors import WireError
from hansa.engine.exchange.post import SitePost
from hansa.engine.exchange.wire import HEADER_BYTES, UNASKED, Header, pack_control, unpack_control
from hansa.engine.links import speech
from hansa.engine.links.assembly import HEAD, LENGTH
from hansa.engine.links.channel import MAX_FRAME
from hansa.engine.links.connection import Connection, Frame
from hansa.engine.links.framing import MAX_HANDSHAKE
from hansa.engine.links.handshaking import Handshaking
from hansa.engine.links.hello import Hello, pack_facts
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.refusal import ChannelError
from hansa.engine.links.relay import PIECE, Op, Relay, Relayed, relayed
from hansa.engine.links.speech import Bye, Say
from hansa.engine.runtimes.control import FORMS, read

from ..toy.mutating import mutated
from .channel_ends import KINDS, pair, sealed, talk
from .virtual_links import Bare, MemoryPipe, VirtualWorld

Target = Callable[[bytes], None]


class Established(Handshaking):
    """An end of a channel whose handshake is over, without what a handshake costs."""

    hides: ClassVar[bool] = True
    kind: ClassVar[bytes] = b"k"

    def __init__(self, dials: bool) -> None:
        super().__init__(dials)
        self._start = None
        self._proven("peer", bytes(32), bytes(range(32)))
        self._out.clear()
        self.ready = True

    def _begin(self) -> None:
        """Nothing is said."""

    def _handshake(self, body: memoryview) -> None:
        """Nothing comes."""

    def _handshake(self, body: memoryview) -> None:
        raise AssertionError("the handshake is over")


class EstablishedPlain(Established):
    hides: ClassVar[bool] = False
    kind: ClassVar[bytes] = b"s"


ESTABLISHED: dict[str, type[Established]] = {"secret": EstablishedPlain, "tls": Established}
BODIES = (b"", b"x", b"one hundred and one", bytes(range(256)))


def heard_by(channel: Handshaking, data: bytes) -> None:
    """Any bytes, in two pieces: frames that hold, or an error that can be printed; bounded."""
    before = channel.ready
    middle = len(data) // 2
    frames = []
    for piece in (data[:middle], data[middle:]):
        try:
            frames += channel.receive(piece)
        except ChannelError as error:
            text = str(error)
            assert text.isprintable()
            assert len(text) < 500
            assert not channel.ready
            break
        kept = channel._reassembly._body
        assert kept is None or len(kept) <= (MAX_FRAME + 20 if before else MAX_HANDSHAKE)
    assert before or not channel.ready
    assert before or not frames
    assert [bytes(frame) for frame in frames] == list(BODIES[: len(frames)])
    channel.outgoing()


def handshake(kind: str, role: str) -> Target:
    """An end that has not heard anything yet: these are a stranger's bytes."""

    def one(data: bytes) -> None:
        dialler, listener = pair(kind)
        channel = dialler if role == "dialler" else listener
        assert isinstance(channel, Handshaking)
        channel.outgoing()
        heard_by(channel, data)

    return one


def frames(kind: str, role: str) -> Target:
    """An end that has accepted its peer: these are bytes of whoever sits between them."""

    def one(data: bytes) -> None:
        heard_by(ESTABLISHED[kind](role == "dialler"), data)

    return one


def altered(kind: str) -> Target:
    """Two ends that know each other, and somebody between them who alters one of their words.

    What is no part of the conversation may be altered (bytes behind the last word, a version in the
    head of a record that TLS 1.3 tells to ignore): then both have the same session all the same.
    """

    def one(data: bytes) -> None:
        draws = random.Random(data)
        dialler, listener = pair(kind)
        target, count, whole = draws.randrange(5), 0, True
        for _ in range(4):
            for speaks, hears in ((dialler, listener), (listener, dialler)):
                word = speaks.outgoing()
                count += bool(word)
                if word and count - 1 == target:
                    changed = mutated(word, draws, [word, data])
                    whole, word = changed == word, changed
                with contextlib.suppress(ChannelError):
                    assert not hears.receive(word)
        assert dialler.ready or not whole
        if dialler.ready:
            assert dialler.binding == listener.binding != b""

    return one


LIMITS = LinkSettings(ahead=1 << 12, message=1 << 14, chunk=1 << 10, hello=1 << 10)


def said(number: int) -> Target:
    """A peer that has proven who it is, once both have greeted: any frames."""

    def one(data: bytes) -> None:
        world = VirtualWorld(LIMITS)
        victim = world.sites[number]
        victim.granting = False
        world.dial(1 - number)
        world.heal()
        victim.send(bytes(1 << 13))
        connection = victim.pair.line
        assert isinstance(connection, Connection)
        connection.came(data)
        pair = victim.pair
        assert pair.session.partial <= len(data)
        assert sum(map(len, victim.got)) <= len(data)
        assert len(pair.facts) <= 65
        assert all(why.isprintable() for why in victim.ended)

    return one


def greeting(data: bytes) -> None:
    """The first frames of a peer that has proven who it is."""
    world = VirtualWorld(LIMITS)
    victim = world.sites[0]
    connection = Connection(victim, Bare(), dialled=False, longest=LIMITS.hello)
    pipe = MemoryPipe()
    pipe.receiver, pipe.other = connection, MemoryPipe()
    pipe.other.closed = True
    connection.over(pipe)
    connection.came(data)
    assert not victim.got
    with contextlib.suppress(WireError):
        assert Hello.unpack(Hello.unpack(data[5:]).pack()).site >= 0


def framed(*bodies: bytes) -> bytes:
    """Frames as a bare channel takes them."""
    return b"".join(b"".join(Bare().seal(body)) for body in bodies)


def control(data: bytes) -> None:
    """A message from site to site about the run."""
    with contextlib.suppress(WireError):
        assert isinstance(unpack_control(data)["kind"], str)


def header(data: bytes) -> None:
    """What stands before a payload."""
    with contextlib.suppress(WireError):
        read = Header.unpack(data[:HEADER_BYTES])
        assert Header.unpack(read.pack()) == read


class Nobody:
    """Links of a site that only hears, and the lines of a relay."""

    def __init__(self) -> None:
        self.granted = self.passing = 0

    def grant(self, site: int, nbytes: int) -> None:
        self.granted += nbytes

    def post(self, frame: Frame) -> None:
        self.passing += 1
        assert frame.size <= PIECE + 14
        Relayed.unpack(memoryview(b"".join(frame.parts))[1:])


def between_nodes(data: bytes) -> None:
    """Messages of a site that has proven who it is, whose headers hold where they would not."""
    post = SitePost(1, (0, 0, 1, 1, 2), 60.0, lambda: None, kept=1 << 12)
    links = Nobody()
    post.connect(links)  # type: ignore[arg-type]
    post.unasked = bool(data) and data[-1] % 2 == 0
    heads = [bytearray(data[at : at + HEADER_BYTES]) for at in range(0, len(data), HEADER_BYTES)]
    for head in heads:
        if len(head) == HEADER_BYTES:
            head[:5], head[20:24], head[28:36] = b"HNSA\x01", bytes(4), bytes(8)  # of no payload
            head[-4:] = zlib.crc32(head[:-4]).to_bytes(4, "little")
    sizes = 0
    for parts in ([data[:HEADER_BYTES], data[HEADER_BYTES:]], *([head, b""] for head in heads)):
        sizes += sum(map(len, parts))
        post.arrived(0, parts)
        while post._take():
            pass
    while post.receive(0):
        pass
    ahead = sum(len(part) for queue in post._ahead.values() for one in queue for part in one)
    assert links.granted + ahead == sizes  # what is kept back is what came too early
    assert sum(map(len, post._holes._kept.values())) <= (1 << 12) // 512
    assert all(why.isprintable() for why in post.dropped)


def through_relay(data: bytes) -> None:
    """Frames of two sites to a relay: it passes on what is a frame, within its bounds."""
    lines = [Nobody() for _ in range(3)]
    relay = Relay(lambda site: lines[site] if site < 3 else None, 1 << 8, 4)  # type: ignore
    for number in range(0, len(data), 16):
        with contextlib.suppress(WireError):
            relay.take(number // 16 % 2, Relayed.unpack(memoryview(data)[number : number + 16]))
        assert len(relay._circuits) <= 4
        for carried in relay._circuits.values():
            assert all(0 <= nbytes <= 1 << 8 for nbytes in carried.under_way.values())


def checked_control(data: bytes) -> None:
    """A message of a site to another or to who gathers: of a known form, and nothing else."""
    with contextlib.suppress(WireError):
        message = read(0, data, FORMS)
        assert message.fields.keys() == FORMS[message.kind].keys()


TARGETS: dict[str, Target] = {
    **{
        f"{stage} of a {kind} channel at its {role}": make(kind, role)
        for stage, make in (("handshake", handshake), ("frames", frames))
        for kind in KINDS
        for role in ("dialler", "listener")
    },
    **{f"altered words of a {kind} channel": altered(kind) for kind in KINDS},
    **{f"frames of a peer, to site {number}": said(number) for number in (0, 1)},
    "greeting of a peer": greeting,
    "control message": control,
    "header": header,
    "message between nodes": between_nodes,
    "frame through a relay": through_relay,
    "checked control message": checked_control,
}


def seeds(target: str) -> list[bytes]:
    """Good input of a target: what mutations begin with."""
    if target == "header":
        return [Header(1, 2, 3, 4, 5, 6, 7, 8.0, "model", True).pack(), bytes(HEADER_BYTES)]
    if target == "message between nodes":
        loose = Header(1, 2, 0, UNASKED, 0, 0, 0, 0.0, "loose", True).pack()
        heads = [Header(1, 2, k, k, 0, 0, 0, 1.0, "model", k > 1).pack() for k in range(3)]
        return [heads[0], b"".join(heads), loose + b"\0", Header(0, 3, 9, *[0] * 5, "x").pack()]
    if target == "frame through a relay":
        said = [relayed(Op.OPEN, 7, 1), relayed(Op.OPEN, 8, 0), relayed(Op.DATA, 7, 1, b"abc")]
        said += [relayed(Op.DATA, 7, 0, b"xyz"), relayed(Op.CREDIT, 7, 1, b"\2\0\0\0")]
        said += [relayed(Op.CLOSE, 8, 1), relayed(Op.CLOSE, 7, 1)]
        return [b"".join(b"".join(one.parts)[1:].ljust(16, b"\0")[:16] for one in said)]
    if target == "checked control message":
        entry = {"file": "nodes-000000-000002.safetensors", "nodes": [0, 2]}
        entry |= {"sha256": "ab", "outcome": None}
        return [
            pack_control("saved", round=3, entry=entry),
            pack_control("tells", tells={"stage": {"done": 1, "playing": True, "asks": False}}),
            pack_control("peers", addresses=[[0, "a:1", ""]], tells=[{"x": {"y": 1}}], gone=[1]),
            pack_control("part", round=1, name="x", at=0, data=b"abc"),
            pack_control("note", event={"kind": "lost", "round": 1}),
        ]
    if target == "control message":
        array = np.arange(6, dtype=np.float32).reshape(2, 3)
        return [
            pack_control("report", round=3, rows=[["loss", None, 0.5]], array=array),
            pack_control("done", counts={"late": 3}, text="é", big=2**63, none=None),
            pack_control("deep", value=[[[[{"a": [1, -1, 1e300]}]]]]),
        ]
    if target.startswith("frames of a peer"):
        text = HEAD.pack(0, 2) + LENGTH.pack(3) + LENGTH.pack(900) + b"abc" + bytes(900)
        chunks = [speech.chunk(at) + text[at : at + 300] for at in range(0, len(text), 300)]
        facts = pack_facts({"round": 3, "finished": False, "name": "x" * 30})
        return [
            framed(*chunks, speech.ack(1 << 10, 1 << 20)),
            framed(bytes((Say.PING,)) + facts, bytes((Say.PONG, 0x80)), speech.bye(Bye.IDLE)),
            framed(speech.resume(2, 0, 1 << 12), chunks[0], speech.ack(100, 1 << 13)),
            framed(bytes((Say.REFUSE,)) + pack_facts({"reason": "no\nreason"})),
        ]
    if target.startswith("greeting"):
        hello = Hello(1, 0, "run", 0, b"8 bytes.", config={"rounds": "ab" * 8}, facts={"round": 1})
        return [framed(bytes((Say.HELLO,)) + hello.pack())]
    if target.startswith("altered"):
        return [bytes(range(256))]
    kind = "secret" if "secret" in target else "tls"
    role = "dialler" if target.endswith("dialler") else "listener"
    other = "listener" if role == "dialler" else "dialler"
    if target.startswith("handshake"):
        said = [word for who, word in talk(*pair(kind)).words if who == other]
        return [b"".join(said), *said]
    speaks = ESTABLISHED[kind](other == "dialler")
    return [b"".join(sealed(speaks, body) for body in BODIES)]


def mutations(target: str, count: int, seed: int = 0) -> Iterator[bytes]:
    """So many mutated inputs of a target, the same for the same seed."""
    draws = random.Random(f"{seed} {target}")
    good = seeds(target)
    for _ in range(count):
        yield mutated(draws.choice(good), draws, good)
