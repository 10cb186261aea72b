"""A scheme for a program where little is said: exact, and flooded as much as exactness allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.base.lazy import Lazy
from hansa.infer.private.program import Program

if TYPE_CHECKING:
    from hansa.infer.private.sessions.scheme import Scheme

models = Lazy("hansa.infer.private.sessions.model")
schemes = Lazy("hansa.infer.private.sessions.scheme")
shares = Lazy("hansa.infer.private.shares.share_model")


def scheme_for(program: Program, mode: str = "shuffle", **said: Any) -> Scheme:
    """The scheme of a program.

    Args:
        mode: shuffle, budget or shares.
        said: parts of the scheme that are asked for; None: as fits the mode and the program.

    Raises:
        ConfigError: parts that do not go together, or do not fit the program.
    """
    parts = {name: value for name, value in said.items() if value is not None}
    if mode == "shares":
        parts = {"hides": "none", "reveals": "class"} | parts
    if "plain_bits" not in parts:
        bits = program.accumulator_bits
        parts["plain_bits"] = shares.least_plain_bits(program) if mode == "shares" else bits
    if parts.get("packing") == "rows":
        parts.setdefault("hides", "element")
    scheme: Scheme = schemes.Scheme(mode=mode, **{"flooding_bits": 0} | parts)
    scheme.check()
    if "flooding_bits" in parts or mode == "shares":
        return scheme
    layers = models.layers_of(program, scheme)
    blocks = [block for one in program.rounds for block in one.blocks]
    norm = max(layers.norm(block) for block in blocks)
    return scheme.at_ceiling(norm)


def check_budget(equations: dict[str, Any], share: float) -> None:
    """That a budget lets anybody ask at all.

    Raises:
        ConfigError: one query tells more of a layer than the budget; names it.
    """
    for name, (told, unknown) in equations.items():
        if told > int(share * unknown):
            problem = (
                f"is no use for {name}: one query tells up to {told} equations on its {unknown} "
                f"weights, and the budget is {share:g} of them"
            )
            fix = "--mode shares, which needs no budget; or --mode shuffle, which has none"
            raise ConfigError("mode", "budget", problem, fix)
