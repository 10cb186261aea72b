"""A strict reader of DER (X.690), for bytes that somebody else wrote.

It reads what its caller expects, one value after the other, and never calls itself: depth cannot
hurt it. Indefinite and non-minimal lengths, tags of more than one byte, integers and object
identifiers that are longer than they need be, and whatever lies beyond the end are refused.
"""

from __future__ import annotations

from datetime import UTC, datetime

from hansa.attest.refusals import Malformed, Trailing, Truncated

BOOLEAN, INTEGER, BIT_STRING, OCTET_STRING = 0x01, 0x02, 0x03, 0x04
OID, ENUMERATED, UTF8, PRINTABLE, IA5 = 0x06, 0x0A, 0x0C, 0x13, 0x16
UTC_TIME, GENERALIZED_TIME, SEQUENCE, SET = 0x17, 0x18, 0x30, 0x31
TEXT = (UTF8, PRINTABLE, IA5)

_MOST_LENGTH_BYTES = 3  # 16 MiB, more than anything here may have


def context(number: int, constructed: bool = True) -> int:
    """The tag ``[number]``."""
    return (0xA0 if constructed else 0x80) | number


class Reader:
    """Reads the values that stand one after the other in some bytes.

    Args:
        data: the bytes.
        what: what they are, for errors.
    """

    def __init__(self, data: bytes, what: str = "DER") -> None:
        self._data, self._at, self._what = data, 0, what

    @property
    def at_end(self) -> bool:
        """Whether nothing is left."""
        return self._at == len(self._data)

    @property
    def rest(self) -> bytes:
        """What is left, unread."""
        return self._data[self._at :]

    def peek(self) -> int | None:
        """The tag of the next value; None at the end."""
        return None if self.at_end else self._data[self._at]

    def element(self, *tags: int) -> tuple[int, bytes, bytes]:
        """(tag, content, whole encoding) of the next value.

        Raises:
            Malformed: it has another tag, or is no DER.
            Truncated: it is longer than what is left.
        """
        data, begin = self._data, self._at
        if begin + 2 > len(data):
            raise Truncated(f"{self._what} ends where a value should be")
        tag, length, at = data[begin], data[begin + 1], begin + 2
        if tags and tag not in tags:
            raise Malformed(f"{self._what} has tag 0x{tag:02x} and not 0x{tags[0]:02x}")
        if tag & 0x1F == 0x1F:
            raise Malformed(f"{self._what} has a tag of several bytes")
        if length == 0x80:
            raise Malformed(f"{self._what} has a value of indefinite length")
        if length > 0x80:
            size = length & 0x7F
            if size > _MOST_LENGTH_BYTES:
                raise Malformed(f"{self._what} has a length of {size} bytes")
            field = data[at : at + size]
            if len(field) < size:
                raise Truncated(f"{self._what} ends within a length")
            length, at = int.from_bytes(field, "big"), at + size
            if length < 0x80 or field[0] == 0:
                raise Malformed(f"{self._what} has a length that could be written shorter")
        if at + length > len(data):
            raise Truncated(f"{self._what} lacks {at + length - len(data)} bytes of a value")
        self._at = at + length
        return tag, data[at : self._at], data[begin : self._at]

    def content(self, *tags: int) -> bytes:
        """The content of the next value."""
        return self.element(*tags)[1]

    def raw(self, *tags: int) -> bytes:
        """The whole encoding of the next value."""
        return self.element(*tags)[2]

    def inside(self, tag: int = SEQUENCE) -> Reader:
        """A reader of the values within the next one."""
        return Reader(self.content(tag), self._what)

    def optional(self, tag: int) -> bytes | None:
        """The content of the next value if it has that tag."""
        return self.content(tag) if self.peek() == tag else None

    def integer(self, tag: int = INTEGER) -> int:
        """The next value, a whole number from 0.

        Raises:
            Malformed: it is negative, empty or longer than it need be.
        """
        value = self.content(tag)
        if not value or (len(value) > 1 and value[0] == 0 and value[1] < 0x80):
            raise Malformed(f"{self._what} has a number that is not minimal")
        if value[0] >= 0x80:
            raise Malformed(f"{self._what} has a negative number")
        return int.from_bytes(value, "big")

    def boolean(self) -> bool:
        """The next value, true or false."""
        value = self.content(BOOLEAN)
        if value not in (b"\x00", b"\xff"):
            raise Malformed(f"{self._what} has a truth value that is neither")
        return value == b"\xff"

    def oid(self) -> str:
        """The next value, an object identifier such as ``2.5.29.19``."""
        value = self.content(OID)
        if not value or len(value) > 64 or value[-1] & 0x80:
            raise Malformed(f"{self._what} has an object identifier that does not end")
        arcs, arc, fresh = [], 0, True
        for byte in value:
            if fresh and byte == 0x80:
                raise Malformed(f"{self._what} has an object identifier that is not minimal")
            arc, fresh = arc << 7 | byte & 0x7F, byte < 0x80
            if fresh:
                arcs.append(arc)
                arc = 0
        first = min(arcs[0] // 40, 2)
        return ".".join(map(str, [first, arcs[0] - 40 * first, *arcs[1:]]))

    def bits(self) -> bytes:
        """The next value, a string of bits that are whole bytes."""
        value = self.content(BIT_STRING)
        if not value or value[0] != 0:
            raise Malformed(f"{self._what} has a string of bits that are no whole bytes")
        return value[1:]

    def flags(self) -> int:
        """The next value, named bits (X.680, 22.7): bit k of the result is the bit named k."""
        value = self.content(BIT_STRING)
        if len(value) < 2 or len(value) > 3 or value[0] > 7 or value[-1] & ((1 << value[0]) - 1):
            raise Malformed(f"{self._what} has flags that are no flags")
        named = "".join(f"{byte:08b}" for byte in value[1:])
        return sum(1 << k for k, bit in enumerate(named) if bit == "1")

    def text(self) -> str:
        """The next value, text."""
        try:
            return self.content(*TEXT).decode("utf-8")
        except UnicodeDecodeError:
            raise Malformed(f"{self._what} has text that is no UTF-8") from None

    def time(self) -> datetime:
        """The next value, a moment in UTC, in seconds (RFC 5280, 4.1.2.5)."""
        tag, value, _ = self.element(UTC_TIME, GENERALIZED_TIME)
        form = "%y%m%d%H%M%SZ" if tag == UTC_TIME else "%Y%m%d%H%M%SZ"
        digits = 12 if tag == UTC_TIME else 14
        if len(value) != digits + 1 or not value[:-1].isdigit() or value[-1:] != b"Z":
            raise Malformed(f"{self._what} has a time that is none")
        try:
            moment = datetime.strptime(value.decode("ascii"), form).replace(tzinfo=UTC)
        except ValueError:
            raise Malformed(f"{self._what} has a time that never is") from None
        if tag == UTC_TIME and moment.year >= 2050:  # two digits stand for 1950 to 2049
            moment = moment.replace(year=moment.year - 100)
        return moment

    def end(self) -> None:
        """Say that nothing more is expected.

        Raises:
            Trailing: there is more.
        """
        if not self.at_end:
            raise Trailing(f"{len(self._data) - self._at} bytes behind the end of {self._what}")


def read(data: bytes, what: str, tag: int = SEQUENCE) -> Reader:
    """A reader of the values within the one value that some bytes are.

    Raises:
        Malformed: they are something else, less or more.
    """
    outer = Reader(data, what)
    inner = outer.inside(tag)
    outer.end()
    return inner
