"""A site that is hosted as an order says, wherever that comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hansa.engine.job import Job
from hansa.engine.links.link_filter import Filter
from hansa.engine.links.ticket import Ticket
from hansa.engine.runtimes.coordinated import Coordinated
from hansa.engine.runtimes.ledgers import Ledger
from hansa.engine.runtimes.site import Moment, Service, Site, serve
from hansa.engine.runtimes.strikes import Strike, Strikes


def host(
    order: dict[str, Any],
    ticket: Ticket,
    service: Service,
    build: Callable[[], Job],
    ledger: Callable[[Site], Ledger] | None = None,
) -> int:
    """Host a site to the end of a run; returns an exit status as :func:`serve` does.

    Args:
        order: what beside ticket and service was said: the ``strikes``.
        build: as of :func:`serve`.
        ledger: as of :func:`serve`; by default reports go to who gathers them.
    """
    if ticket.channel is not None and ticket.channel.mark:
        head = f"[tee: {ticket.channel.mark}] site {ticket.site}: no hardware stands behind it"
        print(head, file=sys.stderr)  # noqa: T201 - its log
    reports = ledger or (lambda site: Coordinated(site, service.careful))
    strikes = Strikes([Strike(**one) for one in order["strikes"]], ticket.site, ticket.incarnation)
    jobs: list[Job] = []

    def built() -> Job:
        jobs.append(build())
        return jobs[0]

    def plain(peer: int) -> Filter | None:
        if not jobs or jobs[0].shaping is None:  # no peer is met before
            return None
        return jobs[0].shaping.between(jobs[0].streams, ticket.site, ticket.owner)(peer)

    def moment(site: Site) -> Moment:
        strikes.links = site.links
        return strikes.at

    shaping: Callable[[int], Filter | None] | None = strikes.over(plain)
    return serve(ticket, built, service, reports, shaping, moment)
