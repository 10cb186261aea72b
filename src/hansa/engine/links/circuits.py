"""A site's own ends of circuits: how it meets those whom it cannot reach but through a relay."""

from __future__ import annotations

import os
from collections.abc import Callable

from hansa.base.errors import WireError
from hansa.engine.links.connection import Connection
from hansa.engine.links.limits import LinkSettings
from hansa.engine.links.relay import Circuit, Op, Relay, Relayed, relayed
from hansa.engine.links.ticket import Ticket


class Circuits:
    """Opens circuits, takes those that others open, and passes on as a relay where the site is one.

    Args:
        ticket: the site's.
        settings: limits.
        line: gives the connection with a site that is in use, or None.
        connection: makes one with a site; the second is whether this end dials.
        provable: whether a site can prove who it is.
    """

    def __init__(
        self,
        ticket: Ticket,
        settings: LinkSettings,
        line: Callable[[int], Connection | None],
        connection: Callable[[int, bool], Connection],
        provable: Callable[[int], bool],
    ) -> None:
        self._site, self._relays, self._settings = ticket.site, ticket.relays, settings
        self._line, self._connection, self._provable = line, connection, provable
        self._ends: dict[int, Circuit] = {}
        self.relay = Relay(line, settings.relayed, settings.circuits)

    def open(self, site: int) -> bool:
        """Reach for a peer through the first relay that is connected; returns whether there is."""
        for relay in self._relays:
            outer = self._line(relay)
            if outer is not None and relay != site:
                number = int.from_bytes(os.urandom(8), "little")
                outer.post(relayed(Op.OPEN, number, site))
                self._begin(outer, number, site, dials=True)
                return True
        return False

    def _begin(self, outer: Connection, number: int, site: int, *, dials: bool) -> None:
        """Begin a connection over a circuit."""
        circuit = Circuit(outer, number, site, self._settings.relayed, self._over)
        self._ends[number] = circuit
        connection = self._connection(site, dials)
        circuit.receiver = connection
        connection.over(circuit)

    def _over(self, circuit: Circuit) -> None:
        self._ends.pop(circuit.number, None)

    def take(self, connection: Connection, body: memoryview) -> int:
        """A frame for a relay or out of one: bytes of it that are another connection's.

        Raises:
            WireError: it cannot come.
        """
        frame, pair = Relayed.unpack(body), connection.pair
        if pair is None or self._line(pair.other) is not connection:
            return 0
        circuit = self._ends.get(frame.circuit)
        if circuit is not None and circuit.outer is connection and circuit.site == frame.site:
            circuit.came(frame)
            return frame.body.nbytes if frame.op == Op.DATA else 0
        if self._site in self._relays:
            self.relay.take(pair.other, frame)
        elif (
            frame.op == Op.OPEN
            and circuit is None
            and pair.other in self._relays
            and frame.site != pair.other
            and self._provable(frame.site)
            and len(self._ends) < self._settings.circuits
        ):
            self._begin(connection, frame.circuit, frame.site, dials=False)
        elif pair.other not in self._relays:
            raise WireError("sends what is for a relay, and this site is none")
        elif frame.op != Op.CLOSE:
            connection.post(relayed(Op.CLOSE, frame.circuit, frame.site))
        return 0

    def lost(self, outer: Connection) -> None:
        """A connection is no more: nor are the circuits that went over it."""
        for circuit in [c for c in self._ends.values() if c.outer is outer]:
            circuit.broke("the connection with the relay is gone")
