"""What is in a Flower message: messages between nodes as they are on any wire, and a few facts.

Payloads are arrays of bytes: Flower takes them apart into chunks, and gives back the very bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from hansa.base.errors import WireError
from hansa.engine.exchange.wire import Header, pack_control, unpack_control

KIND = "hansa"
"""Names our handlers in a ClientApp: ``train.hansa`` and ``query.hansa``."""
_VERSION = 1
_PAYLOADS = f"{KIND}.payloads"

Piece = tuple[Header, bytes]
"""One message from a node to a node."""


@dataclass(frozen=True)
class Letter:
    """The content of a Flower message, either way.

    Attributes:
        facts: plain data and arrays.
        mail: messages between nodes.
    """

    facts: dict[str, Any]
    mail: list[Piece] = field(default_factory=list)

    def pack(self) -> RecordDict:
        """As Flower's records."""
        head = ConfigRecord(
            {
                "version": _VERSION,
                "facts": pack_control(KIND, **self.facts),
                "headers": [header.pack() for header, _ in self.mail],
            }
        )
        payloads = {
            str(k): Array("uint8", (len(payload),), KIND, payload)
            for k, (_, payload) in enumerate(self.mail)
        }
        return RecordDict({KIND: head, _PAYLOADS: ArrayRecord(payloads)})

    @classmethod
    def unpack(cls, content: RecordDict) -> Letter:
        """The letter in these records.

        Raises:
            WireError: they are not a letter of this version, or damaged.
        """
        try:
            head, payloads = content.config_records[KIND], content.array_records[_PAYLOADS]
            version, facts, headers = head["version"], head["facts"], head["headers"]
        except KeyError as error:
            raise WireError(f"this Flower message is not one of hansa's: no {error}") from None
        if version != _VERSION:
            raise WireError(f"a letter of version {version!r}; this is version {_VERSION}")
        if not isinstance(facts, bytes) or not isinstance(headers, list):
            raise WireError("this Flower message is not one of hansa's")
        if len(headers) != len(payloads):
            raise WireError(f"{len(headers)} headers for {len(payloads)} payloads")
        mail: list[Piece] = []
        for k, packed in enumerate(headers):
            header = Header.unpack(packed if isinstance(packed, bytes) else b"")
            header.verify(payloads[str(k)].data)
            mail.append((header, payloads[str(k)].data))
        return cls(unpack_control(facts), mail)
