"""Table messages: encoding and decoding all of an exchange at once, against a loop; and bytes.

    python benchmarks/decentralized/tables_speed.py
    python benchmarks/decentralized/tables_speed.py --smoke    # few messages

The loop is plain Python that writes and reads the same bytes, a message, a column, a number at a
time. Fixed widths are those of the columns' types. One thread; CPU time, the least of some calls.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from measure import markdown, publish

from hansa.codec import Table, Tables
from hansa.codec.table_messages import TYPES

FORMATS = {"uint8": "B", "int64": "q", "float32": "f", "float64": "d", "bool": "?"}


def seconds(work: Callable[[], Any], repeats: int) -> float:
    """The least CPU time of some calls, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return min(times[1:])


def varint(value: int, out: bytearray) -> None:
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)


def written(table: dict[str, np.ndarray]) -> bytes:
    """One table: ids as differences, other numbers in the narrowest format that is exact."""
    out = bytearray()
    rows = len(next(iter(table.values())))
    varint(rows, out)
    for column in table.values():
        kind = TYPES.index(column.dtype.name)
        values = column.tolist()
        if column.dtype.kind == "f":
            code, form = 0, FORMATS[column.dtype.name]
            narrow = [(5, "e")] + ([(6, "f")] if form == "d" else [])
            for other, short in narrow:
                try:
                    exact = all(struct.unpack(short, struct.pack(short, v))[0] == v for v in values)
                except OverflowError:
                    exact = False
                if exact:
                    code, form = other, short
                    break
            out.append(kind | code << 4)
            for value in values:
                out += struct.pack(f"<{form}", value)
        elif column.dtype.itemsize == 1:
            out.append(kind)
            out += bytes(values)
        else:
            steps, last = bytearray(), 0
            for value in values:
                step, last = value - last, value
                varint(2 * step if step >= 0 else -2 * step - 1, steps)
            best = (0, 8)
            for code, size in ((1, 1), (2, 2), (3, 4)):
                if all(0 <= value < 1 << 8 * size for value in values):
                    best = (code, size)
                    break
            if len(steps) < best[1] * rows:
                out.append(kind | 4 << 4)
                out += steps
                continue
            out.append(kind | best[0] << 4)
            for value in values:
                out += value.to_bytes(best[1], "little", signed=best[0] == 0)
    return bytes(out)


def read(data: bytes, columns: int) -> list[list[Any]]:
    """The columns of one table."""
    at = 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    rows, table = number(), []
    for _ in range(columns):
        head = data[at]
        at += 1
        code, name = head >> 4, TYPES[head & 15]
        values: list[Any] = []
        if code == 4:
            last = 0
            for _ in range(rows):
                folded = number()
                last += folded >> 1 if folded % 2 == 0 else -(folded >> 1) - 1
                values.append(last)
        else:
            form = {0: FORMATS[name], 1: "B", 2: "H", 3: "I", 5: "e", 6: "f"}[code]
            size = struct.calcsize(form)
            for _ in range(rows):
                values.append(struct.unpack(f"<{form}", data[at : at + size])[0])
                at += size
        table.append(values)
    return table


def cases(smoke: bool) -> dict[str, Tables]:
    """Invitations of one row, ratings as nodes would share them, and one large table."""
    random, scale = np.random.default_rng(0), 50 if smoke else 1

    def ratings(messages: int, rows: int) -> Tables:
        n = messages * rows
        columns = {
            "user": random.integers(0, 610, n),
            "item": random.integers(0, 9724, n),
            "stars": random.integers(1, 11, n).astype(np.uint8),
        }
        return Tables(np.arange(messages + 1) * rows, columns)

    n = 5000 // scale
    words = Tables.rows(
        client=np.arange(n),
        steps=random.integers(1, 200, n),
        weight=random.random(n),
        until=random.random(n).astype(np.float32),
        late=random.random(n) < 0.5,
    )
    return {
        f"{n:,} invitations, 1 row of 5": words,
        f"{610 // scale:,} nodes, 300 ratings each": ratings(610 // scale, 300),
        f"1 table of {200_000 // scale:,} ratings": ratings(1, 200_000 // scale),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few messages")
    smoke = parser.parse_args().smoke
    repeats, table, codec = 1 if smoke else 5, [], Table()
    for name, messages in cases(smoke).items():
        width, wide = messages.width, len(messages.columns)
        each = [messages.table(k) for k in range(len(messages))]
        payloads = codec.encode(messages)
        assert [bytes(p) for p in payloads] == [written(one) for one in each], name
        back = codec.unpack(payloads, width)
        for ours, theirs in zip(back.table(0).values(), read(payloads[0], wide), strict=True):
            assert ours.tolist() == theirs, name
        ours = [
            seconds(lambda m=messages: codec.size(m), repeats),
            seconds(lambda m=messages: codec.encode(m), repeats),
            seconds(lambda p=payloads, w=width: codec.unpack(p, w), repeats),
        ]
        loops = [
            seconds(lambda e=each: [written(one) for one in e], 1),
            seconds(lambda p=payloads, w=wide: [read(one, w) for one in map(bytes, p)], 1),
        ]
        sent = sum(map(len, payloads))
        fixed = sum(c.nbytes for c in messages.columns.values())
        row = [name, *(f"{1e3 * spent:.1f} ms" for spent in ours)]
        row += [f"{loop / spent:.0f}" for loop, spent in zip(loops, ours[1:], strict=True)]
        rows = int(messages.indptr[-1])
        table.append([*row, f"{sent / rows:.1f}", f"{fixed / rows:.1f}"])
    header = ["messages", "size", "encode", "decode", "loop / encode", "loop / decode"]
    header += ["bytes a row", "of fixed width"]
    command = "python benchmarks/decentralized/tables_speed.py"
    text = markdown("Table messages: CPU time and bytes", command, header, table)
    publish("tables_speed", text, smoke)


if __name__ == "__main__":
    main()
