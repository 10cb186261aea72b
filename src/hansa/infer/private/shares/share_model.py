"""A program prepared for mode ``shares``: weights at the roots and circuits, shared by sessions."""

from __future__ import annotations

from dataclasses import replace
from math import log

from hansa.base.errors import ConfigError
from hansa.infer.private.linear.encrypted import ChannelLayers, Prepared
from hansa.infer.private.program import Program
from hansa.infer.private.rlwe import noise
from hansa.infer.private.rlwe.profiles import profile
from hansa.infer.private.sessions.outline import Outline, outline
from hansa.infer.private.sessions.scheme import Scheme
from hansa.infer.private.shares.exchange import circuits, opening_sizes, sizes
from hansa.infer.private.shares.step_circuits import guard_bits, rounded_width


def accumulator_widths(program: Program) -> dict[str, int]:
    """Bits that circuits read of each block's accumulators, by the block's name."""
    widths: dict[str, int] = {}
    for one in program.rounds:
        blocks = {block.name: block for block in one.blocks}
        for made in one.activations:
            block = blocks[made.block]
            width = rounded_width(made.steps, block.low, block.high)
            widths[block.name] = max(width, widths.get(block.name, 2))
    return widths


def least_plain_bits(program: Program) -> int:
    """The smallest ``plain_bits`` with which mode ``shares`` is exact."""
    return max(accumulator_widths(program).values())


def failure_log2(
    scheme: Scheme, norm: int, coefficients_log2: float = noise.COEFFICIENTS_LOG2
) -> float:
    """log2 of the probability that any of 2^coefficients_log2 numbers is read wrongly.

    Errors are bounded, and each input's counts twice: the server's share is rounded like the
    client's. Rounding to the guard bits is bounded, too. The rounding errors of the mask are
    uniform within half a word and meet a ternary secret: a uniform number is sub-Gaussian with its
    own variance, 1/12 (Marchal, Arbel, 2017), of which the general bound for numbers of that size
    (``noise.switch_bound``) makes three times as much.

    Args:
        norm: the largest sum of the sizes of weights that an output's error meets.
    """
    ring, guard = profile(scheme.profile), guard_bits(scheme.plain_bits)
    errors = noise.residual_bound(ring, 2 * norm) + noise.zero_bound(ring) + 1
    words = 2.0 ** (scheme.word_bits - scheme.plain_bits) * (0.5 - 2.0**-guard)
    left = words - errors * 2.0**scheme.word_bits / ring.q - 2
    if left <= 0:
        return 0.0
    return min(0.0, 1 - 6 * (left / 1.01) ** 2 / ring.n / log(2) + coefficients_log2)


def check_room(scheme: Scheme, norm: int) -> None:
    """That noise and rounding stay within half of an accumulator's unit, but with 2^-40.

    Raises:
        ConfigError: they do not.
    """
    if failure_log2(scheme, norm) > noise.FAILURE_LOG2:
        raise ConfigError(
            "scheme.plain_bits",
            scheme.plain_bits,
            f"leaves no room for exact answers in mode shares and profile {scheme.profile}",
            "fewer accumulator bits (quantize further), or another profile",
        )


class ShareModel:
    """What all sessions of a program share.

    Args:
        program: what is asked.
        scheme: of mode ``shares``.

    Raises:
        ConfigError: plain_bits too small for the accumulators or too large for the noise, or a
            step that circuits do not do.
    """

    def __init__(
        self, program: Program, scheme: Scheme, threads: int = 1, memory: int = 1 << 29
    ) -> None:
        scheme.check()
        del memory  # weights are kept once for all sessions: no channel is shuffled
        self.program, self.scheme, self.threads = program, scheme, threads
        self.profile = profile(scheme.profile)
        widths = accumulator_widths(program)
        if (least := max(widths.values())) > scheme.plain_bits:
            raise ConfigError(
                "scheme.plain_bits",
                scheme.plain_bits,
                f"accumulators of mode shares, with what is added to round them, take {least} bits",
                f"plain_bits: {least}, or quantize to fewer bits",
            )
        self.layers = ChannelLayers(program, self.profile)
        blocks = [block for one in program.rounds for block in one.blocks]
        check_room(scheme, max(self.layers.norm(block) for block in blocks))
        told = outline(program, self.layers.uploads, self.layers.downloads, 1)
        turns = tuple(
            replace(
                turn,
                replies=tuple(
                    replace(reply, bits=widths[block.name])
                    for reply, block in zip(turn.replies, one.blocks, strict=True)
                ),
            )
            for turn, one in zip(told.turns, program.rounds, strict=True)
        )
        self.outline: Outline = replace(told, turns=turns)
        self.last_reads = {
            term.value: at
            for at, one in enumerate(program.rounds)
            for block in one.blocks
            for term in block.terms
        }
        self.turns = circuits(self.outline, scheme)
        self.sizes = sizes(self.outline, scheme, self.turns)
        self.prepared: dict[str, Prepared] = {
            block.name: self.layers.prepare(block, {}, None, threads) for block in blocks
        }

    def steps(self, query: int) -> int:
        """Requests of a query; of the opening: query -1."""
        return 1 if query < 0 else 2 * len(self.turns)

    @property
    def largest_request(self) -> int:
        """Bytes of the largest request."""
        return max(*self.sizes.requests, opening_sizes(self.profile)[0])

    @property
    def largest_reply(self) -> int:
        """Bytes of the largest reply."""
        return max(*self.sizes.replies, opening_sizes(self.profile)[1])
