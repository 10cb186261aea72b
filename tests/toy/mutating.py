"""Good bytes made bad, and a table of how readers of what others have written take them."""

from __future__ import annotations

import faulthandler
import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

EDGES = (b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff", b"\x00\x00\x00", b"\x01\x00\x00\x01")


def mutated(data: bytes, draws: random.Random, others: Sequence[bytes]) -> bytes:
    """``data`` with a few changes: bits, bytes, pieces cut, repeated, swapped in from others."""
    changed = bytearray(data)
    for _ in range(draws.choice((1, 1, 1, 2, 4, 16))):
        at = draws.randrange(len(changed) + 1)
        to = min(len(changed), at + draws.choice((1, 1, 2, 4, 16, 200)))
        match draws.randrange(7):
            case 0 if at < len(changed):
                changed[at] ^= 1 << draws.randrange(8)
            case 1 if at < len(changed):
                changed[at] = draws.randrange(256)
            case 2:
                del changed[at:to]
            case 3:
                changed[at:at] = changed[at:to]
            case 4:
                other = draws.choice(others)
                begin = draws.randrange(len(other) + 1)
                changed[at:to] = other[begin : begin + draws.choice((1, 4, 16, 200))]
            case 5:
                edge = draws.choice(EDGES)
                changed[at : at + len(edge)] = edge
            case _:
                del changed[at:]
    return bytes(changed)


def table(
    targets: Mapping[str, Callable[[bytes], None]],
    seeds: Callable[[str], list[bytes]],
    mutations: Callable[[str, int], Iterator[bytes]],
    count: int,
    words: Sequence[str] = (),
) -> None:
    """Mutate the seeds of each target; a target that hangs or fails ends with a traceback.

    Args:
        targets: what takes bytes, by name.
        seeds: good inputs of a target.
        mutations: so many bad ones.
        count: how many.
        words: of the names of those to take; none: all.
    """
    print(f"{'target':45} {'inputs':>8} {'CPU s':>7} {'grown MB':>9}")
    for name, one in targets.items():
        if words and not any(word in name for word in words):
            continue
        for data in seeds(name):
            one(data)
        began, held = time.process_time(), _peak()
        for number, data in enumerate(mutations(name, count)):
            if number % 1000 == 0:
                faulthandler.dump_traceback_later(300, exit=True)
            try:
                one(data)
            except BaseException:
                print(f"{name}: {data!r}", file=sys.stderr)
                raise
        faulthandler.cancel_dump_traceback_later()
        spent, grown = time.process_time() - began, (_peak() - held) / 1e6
        print(f"{name:45} {count:8} {spent:7.1f} {grown:9.1f}", flush=True)


def _peak() -> int:
    """The most memory that this process has held, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
