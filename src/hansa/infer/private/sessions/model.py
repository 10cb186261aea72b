"""A program made ready to be asked by many sessions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any, Protocol

import numpy as np

from hansa.base.lazy import Lazy
from hansa.infer.private.linear.batched import BatchLayers
from hansa.infer.private.linear.encrypted import ChannelLayers, Held, Order
from hansa.infer.private.linear.places import Download, Upload
from hansa.infer.private.linear.rows import LOG_ROWS, RowLayers
from hansa.infer.private.program import LOGITS, Block, Program
from hansa.infer.private.rlwe.profiles import Profile, profile
from hansa.infer.private.sessions.messages import reply_bytes, upload_bytes
from hansa.infer.private.sessions.outline import Outline, outline
from hansa.infer.private.sessions.scheme import Scheme

switch_keys = Lazy("hansa.infer.private.lwe.switch_keys")


class Layers(Protocol):
    """A program's blocks on ciphertexts of one packing."""

    uploads: dict[str, Upload]
    downloads: dict[str, Download]

    def prepare(
        self, block: Block, into: Mapping[str, Order | None], out: Order | None, threads: int = 1
    ) -> Any:
        """A block's weights, for channels ordered as given."""
        ...

    def apply(
        self, block: Block, prepared: Any, held: Mapping[str, Held], rows: int, threads: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Its sums, bare."""
        ...

    def chunks(
        self,
        block: Block,
        prepared: Any,
        held: Mapping[str, Held],
        rows: int,
        threads: int = 1,
        keys: Any = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The same in pieces: which ciphertexts, and their halves."""
        ...

    def bias_words(self, block: Block, prepared: Any, rows: int) -> np.ndarray:
        """Its bias at each position."""
        ...

    def norm(self, block: Block) -> int:
        """The largest sum of sizes of weights that an output's error meets."""
        ...


def layers_of(program: Program, scheme: Scheme) -> Layers:
    """The blocks of a program in a scheme's packing."""
    ring: Profile = profile(scheme.profile)
    if scheme.packing == "batch":
        return BatchLayers(program, ring)
    if scheme.packing == "rows":
        return RowLayers(program, ring)
    return ChannelLayers(program, ring)


class ServerModel:
    """What sessions share: where numbers lie, and weights at the roots.

    Args:
        program: what is asked.
        scheme: how.
        threads: that one answer's arithmetic takes.
        memory: bytes of prepared weights that are kept, of all sessions; each has its own where
            channels are shuffled. What does not fit is prepared again when it is needed.

    Raises:
        ConfigError: the program's answers would not be exact.
    """

    def __init__(
        self, program: Program, scheme: Scheme, threads: int = 1, memory: int = 1 << 29
    ) -> None:
        scheme.check()
        self.program, self.scheme, self.threads = program, scheme, threads
        self.profile = profile(scheme.profile)
        self.layers = layers_of(program, scheme)
        blocks = [block for one in program.rounds for block in one.blocks]
        scheme.check_program(program, max(self.layers.norm(block) for block in blocks))
        rows = self.profile.n if scheme.packing == "batch" else scheme.rows
        self.outline: Outline = outline(program, self.layers.uploads, self.layers.downloads, rows)
        self.last_reads = {
            term.value: at
            for at, one in enumerate(program.rounds)
            for block in one.blocks
            for term in block.terms
        }
        self.told = {one.block for turn in program.rounds for one in turn.activations
                     if one.makes == LOGITS}  # fmt: skip
        self.windowed = {one.block for turn in program.rounds for one in turn.activations
                         if any(step.windows for step in one.steps)}  # fmt: skip
        self._kept: OrderedDict[tuple[bytes, str], Any] = OrderedDict()
        self._memory, self._lock = memory, Lock()

    def steps(self, query: int) -> int:
        """Requests of a query; of the opening, query -1."""
        return 1 if query == -1 else len(self.program.rounds)

    @property
    def largest_request(self) -> int:
        """Bytes of the longest request that a session can take."""
        steps = range(len(self.program.rounds))
        asked = [self.request_bytes(step, self.outline.rows) for step in steps]
        return max(self.opening_bytes, *asked)

    @property
    def opening_bytes(self) -> int:
        """Bytes of the request that begins a session: a public key, and what packs rows."""
        keys = 0
        if self.scheme.packing == "rows":
            keys = int(switch_keys.key_bytes(self.profile, LOG_ROWS))
        return self.profile.polynomial_bytes + keys

    @property
    def largest_reply(self) -> int:
        """Bytes of the longest reply."""
        return max(
            self.reply_bytes(at, self.outline.rows) for at in range(len(self.program.rounds))
        )

    def request_bytes(self, step: int, rows: int) -> int:
        """Bytes of a step's request."""
        names = self.program.rounds[step].uploads
        count = sum(self.layers.uploads[name].polynomials(rows) for name in names)
        return upload_bytes(self.profile, count)

    def reply_bytes(self, step: int, rows: int) -> int:
        """Bytes of a step's reply."""
        blocks = self.program.rounds[step].blocks
        return reply_bytes(
            self.profile,
            [self.layers.downloads[block.name] for block in blocks],
            rows,
            self.scheme.word_bits,
        )

    def prepared(
        self, session: bytes, block: Block, into: Mapping[str, Order | None], out: Order | None
    ) -> Any:
        """A block's weights in a session's orders, prepared now or kept from before."""
        plain = out is None and all(order is None for order in into.values())
        key = (b"" if plain else session, block.name)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = self.layers.prepare(block, into, out, self.threads)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and sum(x.nbytes for x in self._kept.values()) > self._memory:
                self._kept.popitem(last=False)
        return made

    def forget(self, session: bytes) -> None:
        """Drop what was prepared for a session that has ended."""
        with self._lock:
            for key in [key for key in self._kept if key[0] == session]:
                del self._kept[key]
