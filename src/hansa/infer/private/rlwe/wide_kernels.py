"""The high half of a product of two words, which numba has no name for."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic


def _high(typingctx, a, b):  # type: ignore[no-untyped-def]  # pragma: no cover
    """floor(a·b / 2^64) of two uint64."""

    def build(context, builder, signature, values):  # type: ignore[no-untyped-def]
        wide = ir.IntType(128)
        product = builder.mul(builder.zext(values[0], wide), builder.zext(values[1], wide))
        return builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


high: Any = intrinsic(_high)


@njit(cache=True, nogil=True, inline="always")
def shoup(x, factor, quotient, prime):  # type: ignore[no-untyped-def]  # pragma: no cover
    """x·factor mod prime, in [0, 2·prime), of any word x; quotient = floor(factor·2^64 / prime)."""
    return x * factor - high(x, quotient) * prime
