"""How a program is asked: parameters, packing, what is hidden and what is told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from hansa.base.errors import ConfigError
from hansa.infer.private.program import LOGITS, Program
from hansa.infer.private.rlwe import noise
from hansa.infer.private.rlwe.profiles import profile

Packing = Literal["channel", "rows", "batch"]
Hides = Literal["none", "channel", "element"]
Mode = Literal["shuffle", "budget", "shares"]
Reveals = Literal["logits", "class"]


@dataclass(frozen=True)
class Scheme:
    """What both sides agree on before the first query.

    Attributes:
        profile: of the ring.
        plain_bits: bits of a decrypted number; accumulators have to fit.
        packing: ``channel``: one answer at a time, fast; ``batch``: as many rows as a polynomial
            has coefficients; ``rows``: a ciphertext a number, as in the paper.
        hides: what is shuffled between rounds.
        mode: ``shuffle`` and ``budget`` only obfuscate; ``shares`` holds against lying clients.
        flooding_bits: of the uniform noise that drowns a reply's errors.
        reveals: what the client learns in the end.
        rows: the most rows of one query.
    """

    profile: str = "n4096"
    plain_bits: int = 20
    packing: Packing = "channel"
    hides: Hides = "channel"
    mode: Mode = "shuffle"
    flooding_bits: int = 40
    reveals: Reveals = "logits"
    rows: int = 1

    @property
    def word_bits(self) -> int:
        """Bits of a reply's words."""
        return noise.word_bits(profile(self.profile), self.plain_bits)

    def plain(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Scheme:
        """The scheme that :meth:`plain` wrote.

        Raises:
            ConfigError: it is none.
        """
        known = cls.__dataclass_fields__
        for name in facts:
            if name not in known:
                raise ConfigError(f"scheme.{name}", facts[name], "is no part of a scheme")
        made = cls(**facts)
        made.check()
        return made

    def check(self) -> None:
        """What can be said without a program.

        Raises:
            ConfigError: a part cannot be, or two do not go together.
        """
        size = profile(self.profile).n
        for name, choices in (
            ("packing", Packing), ("hides", Hides), ("mode", Mode), ("reveals", Reveals),
        ):  # fmt: skip
            value = getattr(self, name)
            if value not in get_args(choices):
                fix = f"one of {', '.join(get_args(choices))}"
                raise ConfigError(f"scheme.{name}", value, "is not known", fix)
        for name, least, most in (
            ("plain_bits", 2, 30), ("flooding_bits", 0, 126), ("rows", 1, size),
        ):  # fmt: skip
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise ConfigError(f"scheme.{name}", value, f"is a number from {least} to {most}")
        shares = self.mode == "shares"
        if shares and (self.packing != "channel" or self.hides != "none"):
            raise ConfigError(
                "scheme.mode", self.mode, "shares what is decrypted, and shuffles nothing",
                "packing: channel and hides: none",
            )  # fmt: skip
        if not shares and self.reveals == "class":
            raise ConfigError(
                "scheme.reveals", self.reveals,
                f"cannot be kept in mode {self.mode}: its client decrypts the logits",
                "mode: shares, or reveals: logits",
            )  # fmt: skip
        if self.packing == "batch" and self.hides == "element":
            raise ConfigError(
                "scheme.hides", self.hides, "a batch shuffles channels", "hides: channel"
            )

    def check_program(self, program: Program, norm: int) -> None:
        """That a program's answers are exact.

        Args:
            program: what is asked.
            norm: the largest of its blocks (see ``layers.norm``).

        Raises:
            ConfigError: accumulators do not fit the plaintext, noise does not fit beside them, or
                the program's layers forbid the shuffle.
        """
        self.check()
        if program.accumulator_bits > self.plain_bits:
            worst = max(
                (block for one in program.rounds for block in one.blocks),
                key=lambda block: max(-block.low, block.high),
            )
            raise ConfigError(
                "scheme.plain_bits", self.plain_bits,
                f"{worst.name} accumulates numbers of {program.accumulator_bits} bits",
                f"plain_bits: {program.accumulator_bits}, or quantize to fewer bits",
            )  # fmt: skip
        half = 1 << (self.plain_bits - 1)
        for name, value in program.values.items():
            if value.low < -half or value.high >= half:
                raise ConfigError(
                    "scheme.plain_bits", self.plain_bits,
                    f"{name} holds numbers from {value.low} to {value.high}", "more bits",
                )  # fmt: skip
        ceiling = noise.flooding_ceiling(
            profile(self.profile), self.plain_bits, norm, self.word_bits
        )
        if self.flooding_bits > ceiling:
            raise ConfigError(
                "scheme.flooding_bits", self.flooding_bits,
                f"leaves no room for exact answers in profile {self.profile}",
                f"at most {ceiling}",
            )  # fmt: skip
        if self.hides == "element" and self.packing == "channel":
            for block in _hidden(program):
                if block.shape[1:] != (1, 1):
                    raise ConfigError(
                        "scheme.hides", self.hides,
                        f"{block.name} makes images, whose channels lie together",
                        "hides: channel, or packing: rows",
                    )  # fmt: skip

    def at_ceiling(self, norm: int) -> Scheme:
        """The same, flooded as much as exact answers allow."""
        bits = noise.flooding_ceiling(profile(self.profile), self.plain_bits, norm, self.word_bits)
        return replace(self, flooding_bits=bits)


def _hidden(program: Program) -> list[Any]:
    told = {
        activation.block
        for one in program.rounds
        for activation in one.activations
        if activation.makes == LOGITS
    }
    blocks = [block for one in program.rounds for block in one.blocks]
    return [block for block in blocks if block.name not in told]
