"""Who may try to become a connection: so many a second from an address, so many at a time."""

from __future__ import annotations

from collections import OrderedDict

_MOST_HOSTS = 1024  # that are told apart
_KNOWN_FACTOR = 20  # an address from which a peer proved itself may come so much more often


class Admission:
    """Buckets of attempts by address (a token bucket each).

    Args:
        rate: attempts a second from an address that has not proved itself.
        burst: attempts at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, float(burst)
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, since
        self._known: set[str] = set()

    def proved(self, host: str) -> None:
        """A peer proved itself from there."""
        if len(self._known) < _MOST_HOSTS:
            self._known.add(host)

    def admit(self, host: str, now: float) -> bool:
        """Whether another attempt from there is heard."""
        factor = _KNOWN_FACTOR if host in self._known else 1
        tokens, since = self._buckets.pop(host, (self._burst * factor, now))
        tokens = min(self._burst * factor, tokens + (now - since) * self._rate * factor)
        self._buckets[host] = (max(tokens - 1, 0.0), now)
        if len(self._buckets) > _MOST_HOSTS:
            self._buckets.popitem(last=False)
        return tokens >= 1
