"""That a program's answers are exact in a scheme, and how little they tell: computed beforehand.

From worst-case bounds alone: the largest accumulator that any input can lead to, the largest error
that the sizes of the weights can make of bounded draws. Nothing is measured while it runs, since a
meter would tell of what is decrypted.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import log2
from typing import Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.program import Block, Program
from hansa.infer.private.rlwe import noise
from hansa.infer.private.rlwe.profiles import PROFILES, profile
from hansa.infer.private.sessions.model import layers_of
from hansa.infer.private.sessions.scheme import Hides, Mode, Packing, Reveals, Scheme

share_model = Lazy("hansa.infer.private.shares.share_model")

SCHEME = "scheme"
"""The fact of a program that holds how it is asked."""
WANTED_FLOODING = 40
"""Bits that flooding has to be above the errors that it hides, in a profile chosen by itself."""


@dataclass(frozen=True)
class Certified:
    """A block's part of a certificate.

    Attributes:
        bits: of a two's complement integer that holds each of its accumulators.
        norm: the largest sum of sizes of weights that an output's error meets.
    """

    name: str
    round: int
    low: int
    high: int
    bits: int
    norm: int


@dataclass(frozen=True)
class Certificate:
    """What is known of a program in a scheme before anybody asks.

    Attributes:
        plain_bits: of a decrypted number; ``accumulator_bits`` of what is asked of it.
        residual_bits: log2 of the largest error of a sum, modulo q, which tells of the weights.
        room_bits: log2 of the error at which an answer would be wrong.
        failure_log2: of the probability that any number of a query decrypts wrongly; -1000 is
            said of any less.
        distance_log2: of what one coefficient's error tells beside flooding, for honest noise;
            None in mode shares, whose masks are uniform.
        security: of the parameters, and the source.
    """

    scheme: Scheme
    blocks: tuple[Certified, ...]
    accumulator_bits: int
    plain_bits: int
    residual_bits: float
    room_bits: float
    flooding_bits: int
    failure_log2: float
    distance_log2: float | None
    security: str

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)


def certify(program: Program, scheme: Scheme) -> Certificate:
    """The certificate of a program.

    Raises:
        ConfigError: accumulators or noise do not fit, or the scheme does not suit the program;
            names what and the way out.
    """
    scheme.check()
    layers = layers_of(program, scheme)
    blocks = tuple(
        Certified(b.name, at + 1, b.low, b.high, bits_of(b), int(layers.norm(b)))
        for at, one in enumerate(program.rounds)
        for b in one.blocks
    )
    norm, ring = max(one.norm for one in blocks), profile(scheme.profile)
    _check_values(program, scheme)
    _check_told(program, scheme)
    count = sum(b.shape[0] * b.shape[1] * b.shape[2] for one in program.rounds for b in one.blocks)
    numbers = log2(max(count * scheme.rows, 2))
    distance: float | None = None
    if scheme.mode == "shares":
        least = share_model.least_plain_bits(program)
        if least > scheme.plain_bits:
            problem = f"accumulators, with what is added to round them, take {least} bits"
            raise ConfigError("scheme.plain_bits", scheme.plain_bits, problem, f"{least}")
        share_model.check_room(scheme, norm)
        failure = share_model.failure_log2(scheme, norm, numbers)
    else:
        scheme.check_program(program, norm)
        failure = noise.failure_log2(
            ring, scheme.plain_bits, norm, scheme.flooding_bits, scheme.word_bits, numbers
        )
        distance = noise.statistical_distance_log2(ring, norm, scheme.flooding_bits)
    return Certificate(
        scheme,
        blocks,
        program.accumulator_bits,
        scheme.plain_bits,
        round(log2(noise.residual_bound(ring, norm)), 2),
        round(log2(ring.q) - scheme.plain_bits - 1, 2),
        scheme.flooding_bits,
        round(max(failure, -1000.0), 1),
        None if distance is None else round(distance, 1),
        f"{ring.name}: N = {ring.n}, log2 q = {log2(ring.q):.1f}; {ring.source}",
    )


def bits_of(block: Block) -> int:
    """Bits of a two's complement integer that holds every accumulator of a block."""
    return 1 + max(-block.low - 1, block.high, 0).bit_length()


def choose_scheme(
    program: Program,
    mode: Mode = "shuffle",
    *,
    profile_name: str | None = None,
    packing: Packing = "channel",
    hides: Hides | None = None,
    reveals: Reveals | None = None,
    rows: int = 1,
    insist: bool = False,
) -> Scheme:
    """The scheme of a mode with as few plaintext bits and as much flooding as the program allows.

    Args:
        profile_name: of the ring; None: the smallest in which flooding is 40 bits above the errors
            that it hides, else that in which it is most (in mode shares: in which answers are
            exact).
        packing: how numbers lie in polynomials.
        hides: what is shuffled; None: channels, single numbers in packing rows, or nothing in mode
            shares.
        reveals: None: logits, or the class alone in mode shares.
        rows: the most rows of one query.
        insist: take mode budget though convolutions leave it nothing to count.

    Raises:
        ConfigError: no profile holds the program, or the mode does not suit it.
    """
    if mode == "budget" and not insist:
        _refuse_convolutions(program)
    names = (
        (profile_name,) if profile_name else tuple(sorted(PROFILES, key=lambda p: PROFILES[p].n))
    )
    refusal: ConfigError | None = None
    best: tuple[float, Scheme] | None = None
    for name in names:
        try:
            made = _fitted(program, mode, name, packing, hides, reveals, rows)
            if mode == "shares" or profile_name:
                return made
            hidden = hidden_bits(program, made)
            if hidden >= WANTED_FLOODING:
                return made
            if best is None or hidden > best[0]:
                best = hidden, made
        except ConfigError as error:
            if profile_name or error.field not in ("plain_bits", "scheme.plain_bits", "profile"):
                raise _in_terms_of_compiling(error) from None
            refusal = error
    if best is not None:
        return best[1]
    assert refusal is not None
    raise _in_terms_of_compiling(refusal)


def _in_terms_of_compiling(error: ConfigError) -> ConfigError:
    if error.field not in ("plain_bits", "scheme.plain_bits"):
        return error
    fix = "compile it to fewer bits: --weights, --activations, or --accumulator 22"
    return ConfigError(error.field, error.value, error.problem, fix)


def hidden_bits(program: Program, scheme: Scheme) -> float:
    """Bits that flooding is above what it hides."""
    layers = layers_of(program, scheme)
    norm = max(int(layers.norm(b)) for one in program.rounds for b in one.blocks)
    ring = profile(scheme.profile)
    return -noise.statistical_distance_log2(ring, norm, scheme.flooding_bits)


def scheme_of(program: Program) -> Scheme:
    """How a program says that it is asked, or what mode shuffle chooses.

    Raises:
        ConfigError: what it says is no scheme.
    """
    told = program.facts.get(SCHEME)
    if isinstance(told, dict):
        return Scheme.of(told)
    return choose_scheme(program)


def _fitted(
    program: Program,
    mode: Mode,
    name: str,
    packing: Packing,
    hides: Hides | None,
    reveals: Reveals | None,
    rows: int,
) -> Scheme:
    shares = mode == "shares"
    made = Scheme(
        profile=name,
        plain_bits=max(program.accumulator_bits, _value_bits(program)),
        packing=packing,
        hides=hides or ("none" if shares else "element" if packing == "rows" else "channel"),
        mode=mode,
        flooding_bits=0,
        reveals=reveals or ("class" if shares else "logits"),
        rows=rows,
    )
    if shares:
        made = replace(made, plain_bits=max(made.plain_bits, share_model.least_plain_bits(program)))
    made.check()
    _check_told(program, made)
    layers = layers_of(program, made)
    norm = max(int(layers.norm(b)) for one in program.rounds for b in one.blocks)
    if shares:
        share_model.check_room(made, norm)
        return made
    made = made.at_ceiling(norm)
    made.check_program(program, norm)
    return made


def _value_bits(program: Program) -> int:
    return max(1 + max(-v.low - 1, v.high, 0).bit_length() for v in program.values.values())


def _check_told(program: Program, scheme: Scheme) -> None:
    if scheme.reveals == "class" and program.logits.shape == (1, 1, 1):
        problem = "says nothing of a network of one output, which has no classes"
        fix = "mode: shuffle; or serve --reveals logits, which tells of the last layer's weights"
        raise ConfigError("scheme.reveals", scheme.reveals, problem, fix)


def _check_values(program: Program, scheme: Scheme) -> None:
    if _value_bits(program) > scheme.plain_bits:
        problem = f"values of {_value_bits(program)} bits are encrypted"
        raise ConfigError("scheme.plain_bits", scheme.plain_bits, problem, "more bits")


def _refuse_convolutions(program: Program) -> None:
    for one in program.rounds:
        for block in one.blocks:
            outputs, (_, high, wide) = block.shape[0], block.shape
            weights = sum(term.weight.size for term in block.terms) + outputs
            if high * wide * outputs >= weights:
                problem = (
                    f"{block.name} has {weights} weights, and one query gives "
                    f"{high * wide * outputs} equations of them: no budget is below that"
                )
                raise ConfigError(
                    "mode",
                    "budget",
                    problem,
                    "mode: shares (--mode shares), or compile with --insist",
                )
