"""What a site's folder says of the site: who it is, and who was there when it last looked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.errors import ConfigError
from hansa.report import RunFolder
from hansa.report.folder import is_held

if TYPE_CHECKING:
    from hansa.engine.runtimes.own_ledger import OwnLedger
    from hansa.engine.runtimes.site import Site

SITE, PEERS = "site.json", "peers.json"
"""What a site's folder says beside other runs' folders: who it is, and who was there."""


def note_peers(folder: RunFolder, site: Site, ledger: OwnLedger) -> None:
    """Leave in a run's folder who is there."""
    now, peers = time.monotonic(), []
    for peer in site.ticket.peers:
        state = site.links.state(peer.site)
        problem = (state.refused or state.why).removeprefix(f"{peer}: ")
        peers.append(
            {
                "site": peer.site,
                "name": str(peer),
                "connected": state.connected,
                "heard_seconds_ago": round(now - state.heard, 1) if state.ever else None,
                "round": state.facts.get("round"),
                "finished": bool(state.facts.get("finished")) or state.gone,
                "problem": problem.removeprefix(f"{peer} "),
            }
        )
    folder.write_json(PEERS, {"at": time.time(), "round": ledger.rejoining.begun, "peers": peers})


def status_of(path: Path) -> dict[str, Any]:
    """What is known of a site's run from its folder: facts, fit for JSON.

    Raises:
        ConfigError: it is no site's folder.
        CheckpointError: it is no run's folder.
    """
    folder = RunFolder.open(path)
    who = folder.read_json(SITE)
    if who is None:
        problem = "is not the folder of a site's run"
        raise ConfigError("run", str(path), problem, "hansa report RUN, for other runs")
    seen = folder.read_json(PEERS) or {"at": None, "round": 0, "peers": []}
    summary = folder.summary or {}
    faults: dict[str, int] = {}
    for event in folder.events():
        if event["kind"] in ("missing", "lost", "rejoined", "warning", "failed"):
            faults[event["kind"]] = faults.get(event["kind"], 0) + 1
    state = summary.get("status") or ("running" if is_held(path) else "killed")
    since = None if seen["at"] is None else round(max(0.0, time.time() - seen["at"]), 1)
    return {
        "run_dir": str(path),
        **who,
        "status": state,
        "round": summary.get("rounds", seen["round"]),
        "rounds": folder.config.get("rounds"),
        "seconds_since": since,
        "peers": seen["peers"],
        "events": faults,
    }
