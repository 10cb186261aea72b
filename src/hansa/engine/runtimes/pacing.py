"""Which agenda a block has: modelled time, sockets or a recorded order drive it."""

from __future__ import annotations

from collections.abc import Callable

from hansa.base.errors import RunError
from hansa.engine.block import Block
from hansa.engine.exchange.asked import Exchange
from hansa.engine.exchange.post import SitePost
from hansa.engine.job import Job
from hansa.engine.runtimes.agenda import Agenda, Guard
from hansa.engine.runtimes.arrivals import Order
from hansa.engine.runtimes.live import Live
from hansa.engine.runtimes.mailing import Mailing
from hansa.engine.runtimes.replaying import Replayed


def agenda_of(
    job: Job,
    block: Block,
    exchange: Exchange,
    guard: Guard,
    watch: Callable[[int], None],
    order: Order | None,
) -> Agenda:
    """The agenda of a block.

    Raises:
        RunError: what carries its messages knows rounds only.
    """
    post = exchange.post
    if post is not None and not isinstance(post, SitePost):
        raise RunError(f"{job.algorithm.name} has no rounds, and its messages are carried in some")
    mailing = Mailing(block, job.clock, job.attackers, post, exchange.weather)
    if order is not None:
        return Replayed(job, block, mailing, guard, watch).follow(order)
    if post is not None:
        return Live(job, block, mailing, guard, watch).connect(post)
    return Agenda(job, block, mailing, guard, watch)
