"""Makes docs/watching.png: the live page of a run with lost messages, as Chromium shows it.

    python docs/make_watch_picture.py

The run goes to a temporary folder and is stopped short of its end; it takes a minute.
"""

import importlib.util
import sys
import tempfile
import time
from pathlib import Path

import hansa
from hansa.report.folder import held
from hansa.report.live.follower import Follower
from hansa.report.live.page_server import PageServer
from hansa.report.live.watched import Watched

SETTINGS = {
    "nodes": 64,
    "rounds": 60,
    "data": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 0.5}},
    "topology": {"name": "regular", "degree": 4, "dynamic": True},
    "faults": {"loss": 0.002, "on_missing": "self"},
    "evaluate": {"every": 2},
    "checkpoint": {"every": 0},
}
DONE = 42  # rounds, after which the picture is taken


def main(target: Path) -> None:
    """Train until a round, and look."""
    found = importlib.util.spec_from_file_location(
        "chromium", Path(__file__).parents[1] / "tests" / "toy" / "chromium.py"
    )
    assert found is not None
    assert found.loader is not None
    chromium = importlib.util.module_from_spec(found)
    found.loader.exec_module(chromium)

    def stop(done: int, figures: dict[str, float]) -> None:
        time.sleep(0.05)
        if done == DONE:
            raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs" / "lossy"
        try:
            hansa.run(SETTINGS, path, stop, report=False)
        except KeyboardInterrupt:
            (path / "summary.json").unlink()  # as it was a moment before
        with held(path):
            server = PageServer(Follower([Watched(path)]), 0)
            server.follower.start()
            server.start()
            with chromium.Chromium(Path(folder) / "profile") as page:
                page.emulate(1160, 1390)
                page.goto(server.url)
                page.wait("document.querySelectorAll('#nodes tbody tr').length > 9")
                page.wait("document.querySelectorAll('#charts polyline').length > 4")
                page.ask("document.getElementById('where').textContent = 'runs/lossy · 64 nodes'")
                page.picture(target)
            server.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("watching.png"))
