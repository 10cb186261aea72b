"""Sites of one run on one machine, each ``hansa node run`` in a process of its own, and their cost.

Each site is measured at the end of each of its rounds; the run's round ends when the last site's
does.
"""

from __future__ import annotations

import contextlib
import json
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def one(file: str) -> dict[str, Any]:
    """Take a site to its end; returns its marks by round, and what it has sent."""
    import psutil

    from hansa.experiment.progress import RunProgress
    from hansa.experiment.sites.site_file import SiteFile
    from hansa.experiment.sites.site_run import run_site

    process = psutil.Process()
    marks: dict[str, list[float]] = {"at": [], "cpu": [], "memory": []}

    class Marks(RunProgress):
        def __call__(self, done: int, figures: dict[str, float]) -> None:
            times = process.cpu_times()
            marks["at"].append(time.monotonic())  # one clock for all processes of a machine
            marks["cpu"].append(times.user + times.system)
            marks["memory"].append(process.memory_full_info().pss)

    with Marks(quiet=True) as progress:
        folder = run_site(SiteFile.load(Path(file)), progress, report=False)
    summary = folder.summary or {}
    return {**marks, "bytes": summary["bytes_sent"], "overhead": summary["overhead_bytes"]}


def site_files(folder: Path, settings: dict[str, Any], sites: int) -> list[Path]:
    """Write the run file, a key and a site file for each of so many sites, nodes in equal parts."""
    from hansa.engine.links.keys import Key

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(sites)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    (folder / "run.yaml").write_text(json.dumps(settings))  # JSON is YAML
    nodes = [part.tolist() for part in np.array_split(np.arange(settings["nodes"]), sites)]
    keys = [Key.generate(f"site{k}") for k in range(sites)]
    files = []
    for k, key in enumerate(keys):
        key.save(folder / f"site{k}.key")
        peers = [
            {"name": f"site{j}", "nodes": nodes[j], "address": addresses[j], "key": keys[j].line}
            for j in range(sites)
            if j != k
        ]
        files.append(folder / f"site{k}.yaml")
        site = {
            "verb": "node", "name": f"site{k}", "run": "run.yaml", "nodes": nodes[k],
            "listen": addresses[k], "key": f"site{k}.key", "peers": peers, "data": "share",
            "tells": ["sizes", "labels", "names", "moments"], "own_streams": "seed",
        }  # fmt: skip
        files[-1].write_text(json.dumps(site))
    return files


def measured(folder: Path, settings: dict[str, Any], sites: int) -> dict[str, Any]:
    """What a run of so many sites costs: medians of its rounds without the first, and sums.

    Returns:
        ``seconds`` and ``cpu`` of a round, ``each`` and ``all``: bytes of memory, ``bytes`` and
        ``overhead`` that were sent.
    """
    files = site_files(folder, settings, sites)
    code = (
        f"import json, sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
        "import measure_sites; print(json.dumps(measure_sites.one(sys.argv[1])))"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
        for file in files
    ]
    said = [process.communicate()[0] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit(f"sites ended with {[process.returncode for process in started]}")
    marks = [json.loads(text.splitlines()[-1]) for text in said]
    ends = np.max([mark["at"] for mark in marks], axis=0)
    cpu = np.sum([mark["cpu"] for mark in marks], axis=0)
    memory = [mark["memory"][-1] for mark in marks]
    return {
        "seconds": statistics.median(np.diff(ends).tolist()),
        "cpu": statistics.median(np.diff(cpu).tolist()),
        "each": statistics.median(memory),
        "all": sum(memory),
        "bytes": sum(mark["bytes"] for mark in marks),
        "overhead": sum(mark["overhead"] for mark in marks),
    }
