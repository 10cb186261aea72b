"""A compiled program as a service, and a client's half of its sessions from what a server told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hansa import __version__
from hansa.base.errors import ConfigError, WireError
from hansa.base.lazy import Lazy
from hansa.infer.private.program import Program
from hansa.infer.private.protocol.service import Equations, ServerSide

if TYPE_CHECKING:
    from hansa.infer.private.sessions.scheme import Scheme

sides = Lazy("hansa.infer.private.sessions.sides")
outlines = Lazy("hansa.infer.private.sessions.outline")
schemes = Lazy("hansa.infer.private.sessions.scheme")

_LARGEST_REPLY = 1 << 28


class ModelService:
    """A program in a scheme.

    Args:
        threads: of one answer.
        memory: bytes of prepared weights that are kept for sessions.

    Raises:
        ConfigError: the scheme does not fit the program.
    """

    def __init__(
        self, program: Program, scheme: Scheme, threads: int = 1, memory: int = 1 << 29
    ) -> None:
        self.program = program
        self.model: Any = sides.server_model(program, scheme, threads, memory)
        self.outline = json.dumps(self.model.outline.plain()).encode()
        self.scheme = json.dumps(scheme.plain(), sort_keys=True).encode()
        self.digest = program_digest(program, self.scheme)
        self.weights = weights_digest(program)
        self.told_rows = 0 if scheme.mode == "shares" else int(self.model.outline.rows)
        self.budgeted = scheme.mode == "budget"
        self.equations: Mapping[str, Equations] = equations(program, self.model.outline.rows)
        self.largest_request = int(self.model.largest_request)
        self.largest_reply = int(self.model.largest_reply)

    def steps(self, query: int) -> int:
        """Requests of a query; of the opening for -1."""
        return int(self.model.steps(query))

    def session(self, mask_seed: bytes, secret: bytes) -> ServerSide:
        """A session's half."""
        side: ServerSide = sides.server_session(self.model, mask_seed, secret)
        return side

    def warm(self) -> None:
        """One query of zeros through both halves: every kernel is compiled afterwards."""
        mask_seed, secret = bytes(32), bytes(32)
        server = self.session(mask_seed, secret)
        client = client_side(self.outline, self.scheme, mask_seed, secret)
        zeros = np.zeros((1, *self.program.input_shape))
        for query, steps in ((-1, client.open()), (0, client.ask(0, zeros))):
            step, request = 0, next(steps, None)
            while request is not None:
                reply = server.answer(query, step, request)
                step += 1
                try:
                    request = steps.send(reply)
                except StopIteration:
                    request = None
        server.close()


def equations(program: Program, rows: int) -> dict[str, Equations]:
    """What a query tells at most of each layer of a program to who chooses what it uploads."""
    told = {}
    for one in program.rounds:
        for block in one.blocks:
            unknown = block.bias.size + sum(term.weight.size for term in block.terms)
            told[block.name] = Equations(rows * int(np.prod(block.shape)), unknown)
    return told


def program_digest(program: Program, scheme: bytes) -> bytes:
    """SHA-256 of all that answers depend on, this version of hansa among it: sessions go on with
    the same alone."""
    digest = hashlib.sha256(f"{__version__} ".encode() + scheme)
    digest.update(repr((program.values, program.input_shape, program.classes)).encode())
    digest.update(np.asarray(program.offset, np.float64).tobytes())
    for one in program.rounds:
        digest.update(repr((one.uploads, one.activations)).encode())
        for block in one.blocks:
            digest.update(repr((block.name, block.shape, block.low, block.high)).encode())
            digest.update(repr(block.scale).encode() + np.int64(block.bias).tobytes())
            for term in block.terms:
                facts = {k: v for k, v in vars(term).items() if k != "weight"}
                digest.update(repr((facts, term.weight.shape)).encode())
                digest.update(np.int64(term.weight).tobytes())
    return digest.digest()


def weights_digest(program: Program) -> bytes:
    """SHA-256 of a program's weights and biases, which a client is told equations on."""
    digest = hashlib.sha256()
    for block in [block for one in program.rounds for block in one.blocks]:
        for whole in (block.bias, *(term.weight for term in block.terms)):
            digest.update(repr(whole.shape).encode() + np.int64(whole).tobytes())
    return digest.digest()


class SizedSide:
    """A session's half with what the line has to know of it."""

    def __init__(self, side: Any, rows: int) -> None:
        self._side, self.rows = side, rows
        self.outline = side.outline
        self.largest_reply = int(getattr(side, "largest_reply", _LARGEST_REPLY))
        self.open, self.ask, self.prepared = side.open, side.ask, side.outline.prepared


def client_side(
    outline: bytes, scheme: bytes, mask_seed: bytes, secret: bytes, threads: int = 1
) -> SizedSide:
    """The client's half of a session with a server that told this.

    Raises:
        WireError: it is no outline or scheme, or one that this client does not take part in.
    """
    try:
        told = outlines.Outline.of(json.loads(outline))
        agreed = schemes.Scheme.of(json.loads(scheme))
        side = sides.client_session(told, agreed, mask_seed, secret, threads)
    except ConfigError as error:
        raise WireError(f"the server's scheme is refused: {error}") from None
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        problem = f"what the server tells of its program cannot be read ({error!r})"
        raise WireError(problem) from None
    except RecursionError:
        raise WireError("what the server tells of its program is too deep") from None
    return SizedSide(side, told.rows)
