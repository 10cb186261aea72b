"""One connection with another site: a channel over a pipe, and what is said over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from hansa.base.errors import WireError
from hansa.engine.links import speech
from hansa.engine.links.framing import Buffer
from hansa.engine.links.hello import MOST_FACTS, Hello, pack_facts, short, unpack_facts
from hansa.engine.links.limits import MAX_CHUNK
from hansa.engine.links.link_filter import Filter
from hansa.engine.links.overhead import PeerTraffic
from hansa.engine.links.pair import Pair
from hansa.engine.links.pipe import Pipe
from hansa.engine.links.refusal import ChannelError
from hansa.engine.links.session import Chunk
from hansa.engine.links.shaped import Clock, Shaped
from hansa.engine.links.speech import CHUNK_BYTES, Bye, Say
from hansa.engine.links.vouching import VouchError

_FRAME_COST = 256  # bytes that a frame takes while it waits, beside its own
_MOST_WAITING = 1 << 22  # bytes of frames other than chunks that wait for the pipe
MOST_PASSING = 1 << 17
"""Frames of a relay, or for one, that wait for the pipe; their bytes are bounded by circuits."""


class Frame(NamedTuple):
    """What goes out.

    Attributes:
        parts: the body.
        size: its bytes.
        cause: what its bytes are for, one of ``CAUSES``.
        chunk: the piece of the stream that it carries.
        inner: bytes of it that are counted elsewhere, being another connection's.
        then: is called when it is written.
    """

    parts: Sequence[Buffer]
    size: int
    cause: str
    chunk: Chunk | None = None
    inner: int = 0
    then: Callable[[], None] | None = None


class Keeper(Protocol):
    """Who keeps the connections of a site."""

    def now(self) -> float:
        """Seconds of the monotonic clock."""

    def proven(self, connection: Connection) -> None:
        """Both ends have shown who they are."""

    def ready(self, connection: Connection) -> None:
        """Both ends have proved all that they have to: they may greet each other."""

    def greeted(self, connection: Connection, hello: Hello) -> None:
        """The other says who it is."""

    def came(self, pair: Pair, messages: list[Any]) -> None:
        """Messages, whole."""

    def relayed(self, connection: Connection, body: memoryview) -> int:
        """A frame for a relay or out of one: bytes of it that are another connection's."""

    def changed(self, connection: Connection) -> None:
        """There is news of the other."""

    def over(self, connection: Connection, why: str) -> None:
        """It has ended; why as one line, if that is of interest."""


class Vouched(Protocol):
    """What a connection has to pass before anything is said: a :class:`Guard`."""

    @property
    def passed(self) -> bool:
        """Both ends have accepted."""

    @property
    def longest(self) -> int:
        """Bytes of a word of evidence at most."""

    @property
    def seconds(self) -> float:
        """That an exchange may take."""

    def begin(self) -> None:
        """Begin an exchange."""

    def take(self, word: bytes) -> None:
        """A word of the other end."""

    def hold(self, frame: memoryview) -> None:
        """Any other frame, before both ends have accepted."""

    def look(self, now: float, stood: float) -> str:
        """Look after what is due; returns why the connection is to be ended, if it is."""


class Connection:
    """What is said over a pipe, both ways.

    Args:
        keeper: who keeps it.
        channel: what proves the ends, and seals.
        dialled: this site reached for the other.
        longest: bytes of a greeting or of facts at most.

    Attributes:
        pair: whom it is with, once that is proved.
        born: when it was made, s.
        heard: when bytes last came, s.
        said: when a frame was last written, s.
        asked: when a PING was sent that no PONG has answered yet, s; 0: none was.
        told: which of the keeper's news the other has been told.
        traffic: where its bytes are counted.
        passing: frames of a relay, or for one, that wait.
        guard: what both ends vouch through; None: keys or a secret are all that they prove.
    """

    def __init__(self, keeper: Keeper, channel: Any, *, dialled: bool, longest: int) -> None:
        self.keeper, self.channel, self.dialled, self._longest = keeper, channel, dialled, longest
        self.pair: Pair | None = None
        self.expected: int | None = None  # site that was dialled
        self.host = ""
        self.born = self.heard = self.said = keeper.now()
        self.asked = 0.0
        self.told = 0
        self.traffic = PeerTraffic()
        self.hello: Hello | None = None  # the other's
        self.closed = False
        self.refused = False  # one end does not let the other in
        self.useful = False  # messages went over it
        self.rests = False  # it is not needed at the moment
        self._begun = False
        self._ending = False
        self.shaped: Shaped | None = None
        self.guard: Vouched | None = None
        self._outbox: deque[Frame] = deque()
        self._waiting = 0
        self.passing = 0
        self._pipe: Pipe | None = None

    def over(self, pipe: Pipe) -> None:
        """Begin, over this pipe."""
        self._pipe = pipe
        self._shake()

    def share(self, traffic: PeerTraffic) -> None:
        """Count its bytes there from now on, with those that were counted already."""
        traffic.add(self.traffic)
        self.traffic = traffic

    # Out

    def put(self, body: bytes, cause: str) -> None:
        """Write a frame."""
        self.post(Frame((body,), len(body), cause))

    def post(self, frame: Frame) -> None:
        """Write a frame, when there is room."""
        if self.closed or self._ending:
            return
        self._outbox.append(frame)
        if frame.cause == "relay":
            self.passing += 1
        else:
            self._waiting += frame.size + _FRAME_COST
        if self._waiting > _MOST_WAITING or self.passing > MOST_PASSING:
            self.fail("does not take what is sent to it")
            return
        self.pump()

    def end(self, body: bytes, why: str) -> None:
        """Write a last frame and close; what else comes is not looked at."""
        if self.closed or self._ending:
            return
        self._outbox.clear()
        self._waiting = self.passing = 0
        cause = "hello" if body[0] == Say.REFUSE else "bye"
        if self.channel.ready and self._pipe is not None:
            self._write(Frame((body,), len(body), cause))
            self._pipe.flush()
        self._ending = True
        self.fail(why)

    def refuse(self, reason: str, why: str = "") -> None:
        """Say why it cannot be, and close; ``why`` as people here are told it."""
        facts = pack_facts({"reason": reason[:1000]})
        self.end(bytes((Say.REFUSE,)) + facts, why)

    def unvouched(self, error: VouchError) -> None:
        """An exchange of evidence has failed: say so, and close."""
        self.refused = True
        self.refuse(error.told, str(error))

    def pump(self) -> None:
        """Write what waits, as long as there is room: first what is short, then chunks."""
        pipe = self._pipe
        if pipe is None or self.closed or not self.channel.ready:
            return
        while self._room:
            wrote = False
            while self._outbox and self._room:
                frame = self._outbox.popleft()
                if frame.cause == "relay":
                    self.passing -= 1
                else:
                    self._waiting -= frame.size + _FRAME_COST
                self._send(frame)
                wrote = True
            chunk = self._chunk_to_send()
            if chunk is not None:
                head = speech.chunk(chunk.offset)
                size = chunk.size + CHUNK_BYTES
                self._send(Frame((head, *chunk.buffers), size, "chunk", chunk))
                wrote = True
            if not wrote:
                break
            pipe.flush()
            if self.closed:
                return
        pipe.flush()

    @property
    def _room(self) -> bool:
        assert self._pipe is not None
        return self._pipe.room and (self.shaped is None or self.shaped.room)

    def _chunk_to_send(self) -> Chunk | None:
        if self.pair is None:
            return None
        most = MAX_CHUNK if self.shaped is None else self.shaped.chunk
        return self.pair.chunk(self, self.keeper.now(), most)

    def _send(self, frame: Frame) -> None:
        """Write a frame now, or when a shaped link lets it through; greetings are not shaped."""
        if self.shaped is None or frame.cause in ("hello", "bye"):
            self._write(frame)
        else:
            self.said = self.keeper.now()
            self.shaped.put(frame, frame.size)

    def _write(self, frame: Frame) -> None:
        assert self._pipe is not None
        self.said = self.keeper.now()
        self._pipe.write(self.channel.seal(*frame.parts), lambda: self._written(frame))

    def _let_through(self, frame: Frame, what: str) -> None:
        """A shaped link gives a frame out: ``whole``, a ``duplicate`` or ``corrupt``."""
        if self._pipe is None or self.closed:
            return
        if what == "corrupt":
            broken = bytearray().join(self.channel.seal(*frame.parts))
            broken[-1] ^= 1
            self._pipe.write((broken,), lambda: self._written(frame))
        elif what == "whole":
            self._write(frame)
        elif frame.chunk is not None:
            self._write(frame._replace(chunk=replace(frame.chunk, again=True), then=None))
        self._pipe.flush()

    def shape(self, link: Filter, clock: Clock) -> None:
        """Send what comes after the greeting through a filter."""
        self.shaped = Shaped(link, clock, self._let_through, self.pump)

    def _written(self, frame: Frame) -> None:
        sent, chunk = self.traffic.sent, frame.chunk
        sent.wire -= frame.inner
        if chunk is None:
            sent.causes[frame.cause] += frame.size - frame.inner
        elif chunk.again:
            sent.causes["again"] += frame.size
        else:
            sent.data += chunk.data
            sent.causes["control"] += chunk.control
            sent.causes["chunk"] += frame.size - chunk.data - chunk.control
        if chunk is not None and self.pair is not None and self.pair.line is self:
            self.pair.session.wrote(chunk)
        if frame.then is not None:
            frame.then()

    def _shake(self) -> None:
        """Write what the channel has to say for itself."""
        assert self._pipe is not None
        if hand := self.channel.outgoing():
            self._pipe.write((hand,), None)
            self._pipe.flush()

    # In

    def came(self, data: bytes) -> None:
        """Bytes from the pipe."""
        self.traffic.received.wire += len(data)
        self.heard = self.keeper.now()
        if self.pair is not None:
            self.pair.heard = self.heard
        problem = ""
        frames: Sequence[Any] = ()
        try:
            frames = self.channel.receive(data)
        except WireError as error:
            problem = str(error)
            self.refused = isinstance(error, ChannelError) and error.lasting
        self._shake()
        if problem:
            self.fail(problem)
        elif self.channel.ready and not self._begun and not self.closed:
            self._begun = True
            self.keeper.proven(self)
        self.take(frames)

    def take(self, frames: Sequence[Any]) -> None:
        """Frames that have opened, in order."""
        for frame in frames:
            if self.closed:
                return
            try:
                self._take(memoryview(frame))
            except WireError as error:
                self.fail(str(error))
        if self._outbox:
            self.pump()

    def _take(self, frame: memoryview) -> None:
        if not frame.nbytes:
            raise WireError("an empty frame")
        say, body, causes = frame[0], frame[1:], self.traffic.received.causes
        if self.guard is not None:
            if say == Say.VOUCH and body.nbytes <= self.guard.longest:
                causes["vouch"] += frame.nbytes
                self.guard.take(bytes(body))
                return
            if not self.guard.passed and say not in (Say.REFUSE, Say.BYE):
                self.guard.hold(frame)
                return
        elif say == Say.VOUCH:
            told = "it was asked for evidence and has none to show: channel: attested at both"
            problem = "asks for evidence, and this site shows none: channel: attested at both"
            self.unvouched(VouchError(problem, told))
            return
        if say == Say.CHUNK:
            self._chunk(body)
            return
        if say == Say.RELAY and self.pair is not None:
            inner = self.keeper.relayed(self, body)
            causes["relay"] += frame.nbytes - inner
            self.traffic.received.wire -= inner
            return
        if body.nbytes > self._longest:
            raise WireError(f"a frame of {body.nbytes} bytes; {self._longest} may come")
        if say == Say.HELLO and self.hello is None:
            causes["hello"] += frame.nbytes
            self.hello = Hello.unpack(body)
            self.keeper.greeted(self, self.hello)
        elif say == Say.REFUSE:
            causes["hello"] += frame.nbytes
            self._refused(body)
        elif self.pair is None:
            raise WireError("says something before it has said who it is")
        elif say == Say.RESUME:
            causes["hello"] += frame.nbytes
            self.pair.resumed(self, body, self.keeper.now())
            self.keeper.changed(self)
        elif say == Say.ACK:
            causes["ack"] += frame.nbytes
            self.pair.acked(self, body)
            self.useful = True
            self.pump()
        elif say in (Say.PING, Say.PONG):
            causes["ping"] += frame.nbytes
            self._facts(say, body)
        elif say == Say.BYE:
            causes["bye"] += frame.nbytes
            self._bye(speech.read_bye(body))
        else:
            raise WireError(f"a frame of kind {say}")

    def _chunk(self, body: memoryview) -> None:
        if self.pair is None:
            raise WireError("sends before it has said who it is")
        received, self.useful = self.traffic.received, True
        heads = self.pair.session.heads
        messages, new = self.pair.chunked(self, body, self.keeper.now())
        received.causes["again"] += body.nbytes - (CHUNK_BYTES - 1) - new
        received.causes["chunk"] += CHUNK_BYTES + self.pair.session.heads - heads
        for message in messages:
            if message.kind:
                received.causes["control"] += message.size
            else:
                received.data += message.size
        self.keeper.came(self.pair, messages)
        self.pair.acknowledge(soon=True)

    def _facts(self, say: int, body: memoryview) -> None:
        assert self.pair is not None
        self.pair.facts.update(unpack_facts(body))
        if len(self.pair.facts) > MOST_FACTS:
            raise WireError("tells more facts than it may")
        if say == Say.PING:
            self.put(bytes((Say.PONG,)) + pack_facts({}), "ping")
        else:
            self.asked = 0.0
        self.keeper.changed(self)

    def _refused(self, body: memoryview) -> None:
        reason = unpack_facts(body).get("reason")
        self._ending = True
        self.refused = True
        self.fail(f"was refused there: {short(str(reason))}")

    def _bye(self, why: Bye) -> None:
        self._ending = True
        if why == Bye.OVER and self.pair is not None:
            self.pair.gone = True
        self.rests = why == Bye.IDLE
        self.fail("")

    # The end

    def free(self) -> None:
        """The pipe has room again."""
        self.pump()

    def went(self, nbytes: int) -> None:
        """Bytes were written."""
        self.traffic.sent.wire += nbytes

    def broke(self, why: str) -> None:
        """The pipe broke. Who leaves before it has said who it is has been nobody."""
        self.fail(why if self.dialled or self.pair is not None else "")

    def fail(self, why: str, *, gently: bool = True) -> None:
        """End it; why as one line, empty where nobody needs to know.

        Args:
            gently: what was written still arrives, as far as it can.
        """
        if self.closed:
            return
        self.closed = True
        if self._pipe is not None:
            self.traffic.sent.causes["cut"] += self._pipe.partial
            self._pipe.close(gently=gently)
        if self.shaped is not None:
            self.shaped.clear()
        self._outbox.clear()
        self.keeper.over(self, why)
