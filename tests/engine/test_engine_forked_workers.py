"""Workers of ``processes`` beside what measured findings said of them: memory, and addresses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from hansa.base import forks
from hansa.engine.runtimes.coordinator import Coordinator
from hansa.experiment import run

HEAD, WORKERS = "127.0.0.2", "127.0.0.3"
"""Addresses of this machine, and not the one that everybody takes (RFC 1122, section 3.2.1.3)."""
HELD = """
import time
from pathlib import Path
from hansa import register
from hansa.learn.gossip.dpsgd import DPSGD

@register("held")
class Held(DPSGD):
    go: str = ""

    def round(self, block, t):
        while t == 1 and not Path(self.go).exists():
            time.sleep(0.02)
        return (yield from super().round(block, t))
"""
"""An algorithm in a file of its own whose second round waits until it was looked at."""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc, and all of 127.0.0.0/8")
def test_forked_workers_share_what_is_loaded_and_listen_where_they_are_told(
    small: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, given = Coordinator._ticket, Coordinator.ticket
    head, worker = f"{HEAD}:0", f"{WORKERS}:0"
    monkeypatch.setattr(Coordinator, "_ticket", lambda self: replace(own(self), listen=head))
    monkeypatch.setattr(
        Coordinator, "ticket", lambda self, site: replace(given(self, site), listen=worker)
    )
    assert forks.possible()
    seen: list[tuple[int, int]] = []
    places: set[str] = set()

    def look(done: int, figures: dict[str, float]) -> None:
        for one in psutil.Process().children(recursive=True):
            server = one.parent()
            if done == 1 and server is not None and one.name().startswith("worker-"):
                seen.append((one.memory_full_info().uss, server.memory_info().rss))
                places.update(
                    each.laddr.ip for each in one.net_connections() if each.status == "LISTEN"
                )
        if done == 1:
            (tmp_path / "go").touch()

    (tmp_path / "held.py").write_text(HELD)
    algorithm = {"name": "held", "go": str(tmp_path / "go")}
    settings = small({"rounds": 2, "evaluate.every": 1, "runtime": "processes", "nodes": 4})
    settings |= {"algorithm": algorithm, "plugins": [str(tmp_path / "held.py")]}
    run(settings, tmp_path / "run", look, report=False)
    assert places == {WORKERS}
    assert len(seen) == 2
    # What a spawned worker holds alone is more than what the process that forks holds at all.
    for private, loaded in seen:
        assert private < loaded / 2
