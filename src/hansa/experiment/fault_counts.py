"""How often what went wrong in a run."""

from __future__ import annotations

from hansa.base.errors import CheckpointError
from hansa.engine import Collector
from hansa.report.fault_log import FaultLog


def fault_counts(collector: Collector) -> dict[str, int] | None:
    """What a summary says under ``faults``, of the rounds that are done.

    Messages that are ``lost`` for good, ``resent``, or ``silent`` (their sender's site was not
    heard in time); ``nodes_lost`` with their site and nodes that ``rejoined``, once each time;
    ``absent_rounds``, one for each node and round in which it took no part, as planned or not. None
    where the run's events cannot be read any more.
    """
    folder, job, done = collector.folder, collector.job, collector.rounds_done
    try:
        log = FaultLog.of(folder.events(), folder.config)
    except CheckpointError:
        return None
    absent = sum(
        max(0, min(span.until or done + 1, done + 1) - span.first)
        for span in log.spans
        if span.why == "lost"
    )
    if job.presence.absences:
        for round in range(done):
            absent += int((~job.presence.at(round)).sum())
    return {**log.counts, "absent_rounds": absent}
