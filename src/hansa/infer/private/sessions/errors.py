"""What either side refuses in what the other sent."""

from __future__ import annotations

from hansa.base.errors import HansaError


class ProtocolError(HansaError):
    """A request or a reply that cannot be answered or read.

    Args:
        code: short and public: ``malformed``, ``out_of_order``, ``too_large``, ``changed``.
        text: what was wrong; of sizes and orders alone, never of what is encrypted.
    """

    def __init__(self, code: str, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(code, text)

    def __str__(self) -> str:
        return f"{self.code}: {self.text}"
