"""One run that is watched: its folder, followed, and what is shown of it."""

from __future__ import annotations

import datetime
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from hansa.report.folder import CONFIG, EVENTS, SUMMARY, RunFolder, is_held
from hansa.report.live.diary import Diary
from hansa.report.live.nodes import Nodes
from hansa.report.live.parts import Anew, MetricTail, Rows
from hansa.report.live.track import Track
from hansa.report.marks import marked
from hansa.report.run_page import RunPage

QUIET = 20.0
"""Seconds without a sign of life and with nobody holding the folder: then a run is stale."""
RUNNING, STALE = "running", "stale"
_TRACKS, _SERVERS = 64, 10_000
_RATED = 20  # of the last points the rate is taken
_LEFT_OUT = ("_std", "_min", "_max")


class Watched:
    """Follows the folder of a run.

    Attributes:
        tracks: figures by (name, whether servers' alone).
        nodes: what is known of each node.
        state: ``running``, ``stale``, or how the run ended.
        since: when it came into its state, seconds since 1970.
        held: whether a process holds the folder.
        trouble: why the folder could not be looked at the last time, if it could not.

    Raises:
        CheckpointError: it is no run folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.nodes = Nodes()
        self._diary = Diary(path, self.nodes)
        self._rows = MetricTail(path / "metrics")
        self._config: tuple[int, ...] = ()
        self.summary: dict[str, Any] = {}
        self.state, self.since, self.trouble = RUNNING, time.time(), ""
        self.held = False
        self._open()
        self._begin()

    def _begin(self) -> None:
        self.tracks: dict[tuple[str, bool], Track] = {}
        self.time, self.bytes = Track(), Track()
        self.round = 0
        self.nodes.round[:] = -1
        for figure in self.nodes.figures.values():
            figure[:] = np.nan

    def _open(self) -> None:
        """Read the settings, again where they changed."""
        facts = (self.path / CONFIG).stat() if (self.path / CONFIG).exists() else None
        seen = () if facts is None else (facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if self._config and seen in ((), self._config):
            return
        self.folder = RunFolder.open(self.path)
        self._config = seen
        count = self.folder.config.get("nodes")
        self.clients = count if type(count) is int else None
        if self.clients is not None:
            self.nodes.most = self.clients + _SERVERS
        rounds = self.folder.config.get("rounds")
        self.rounds = rounds if type(rounds) is int else None

    def update(self) -> bool:
        """Look at the folder again; returns whether anything is another than before.

        Raises:
            CheckpointError: its settings cannot be read now.
        """
        self._open()
        self.trouble = ""
        news, back = self._diary.update()
        if back:
            self._rows.rewind()
            self._begin()
        for _ in range(2):
            try:
                for rows in self._rows.read():
                    news = True
                    self._take(rows)
                break
            except Anew:
                news = True
                self._rows.rewind()
                self._begin()
        before = (self.state, self.since, self.summary, self.held)
        self._judge()
        return news or before != (self.state, self.since, self.summary, self.held)

    def _take(self, rows: Rows) -> None:
        single = rows.node >= 0
        self.round = max(self.round, int(rows.round.max(initial=0)))
        self._clocks(rows, single)
        for code, name in enumerate(rows.names):
            if name.endswith(_LEFT_OUT) or name.startswith("client_"):
                continue
            chosen = (rows.code == code) & np.isfinite(rows.value)
            if not chosen.any():
                continue
            of_nodes = chosen & single
            self.nodes.measured(
                name, rows.node[of_nodes], rows.value[of_nodes], rows.round[of_nodes]
            )
            server = of_nodes & (rows.node >= (self.clients or np.inf))
            self._track(name, False, rows, chosen & ~server)
            self._track(name, True, rows, server)

    def _track(self, name: str, servers: bool, rows: Rows, chosen: np.ndarray) -> None:
        at = np.flatnonzero(chosen)
        if not len(at):
            return
        track = self.tracks.get((name, servers))
        if track is None:
            if len(self.tracks) >= _TRACKS:
                return
            track = self.tracks[name, servers] = Track()
        # A round's rows stand together, and those of the whole run apart from those of nodes.
        whole = rows.node[at] < 0
        edges = np.flatnonzero((np.diff(rows.round[at]) != 0) | (np.diff(whole) != 0)) + 1
        for part in np.split(at, edges):
            of_run = bool(rows.node[part[0]] < 0)
            track.add(int(rows.round[part[0]]), rows.value[part], whole=of_run)

    def _clocks(self, rows: Rows, single: np.ndarray) -> None:
        sent = single & np.isfinite(rows.bytes)
        self.nodes.measured("bytes", rows.node[sent], rows.bytes[sent], rows.round[sent])
        for track, values in (
            (self.time, np.where(single, np.nan, rows.time)),
            (self.bytes, np.where(single, np.nan, rows.bytes)),
        ):
            known = np.flatnonzero(np.isfinite(values))
            for part in np.split(known, np.flatnonzero(np.diff(rows.round[known])) + 1):
                if len(part):
                    track.add(int(rows.round[part[0]]), values[part], whole=True)

    def _judge(self) -> None:
        """Whether the run goes on, and if not, since when."""
        self.summary = self._read_summary()
        self.held = is_held(self.path)
        status = self.summary.get("status")
        heard = self.heard
        state, since = RUNNING, _seconds(self._diary.began or self.started) or heard
        if isinstance(status, str):
            state, since = status, _seconds(self._diary.ended) or heard
        elif not self.held and time.time() - heard > QUIET:
            state, since = STALE, heard
        self.state, self.since = state, since

    @property
    def started(self) -> str:
        """When the run began, ISO 8601; empty if it does not say."""
        return str(self.folder.environment.get("started", ""))

    @property
    def heard(self) -> float:
        """When something was last written in the folder, seconds since 1970."""
        times = [0.0]
        for name in (CONFIG, EVENTS, SUMMARY, "metrics", "checkpoints"):
            try:
                times.append((self.path / name).stat().st_mtime)
            except OSError:
                continue
        return max(times)

    @property
    def over(self) -> bool:
        """Whether the run has ended and nobody works in its folder any more."""
        return self.state not in (RUNNING, STALE) and not self.held

    def _read_summary(self) -> dict[str, Any]:
        try:
            summary = json.loads((self.path / SUMMARY).read_bytes())
        except (OSError, ValueError):  # none yet
            return {}
        return summary if isinstance(summary, dict) else {}

    @property
    def rate(self) -> float | None:
        """Seconds that a round takes of late, or None."""
        points = self.time.points[-_RATED:]
        if len(points) < 2 or points[-1].round == points[0].round:
            return None
        seconds = (points[-1].whole - points[0].whole) / (points[-1].round - points[0].round)
        return seconds if seconds >= 0 else None

    @property
    def left(self) -> float | None:
        """Seconds to the last round, if those to come are like those of late."""
        if self.state != RUNNING or self.rate is None or self.rounds is None:
            return None
        return self.rate * max(0, self.rounds - self.round)

    @property
    def name(self) -> str:
        """What the run is called, and what has to stand behind that."""
        return marked(RunPage().called(self.folder), self.folder.marks)

    @property
    def faults(self) -> dict[str, int]:
        """Messages missing and silent, nodes lost and rejoined, workers lost; none that is zero."""
        return {name: count for name, count in self._diary.faults.items() if count}

    @property
    def missed(self) -> dict[str, Track]:
        """Messages that had not come by a round, by cause; those causes that there were."""
        return {cause: track for cause, track in self._diary.missed.items() if track.last}

    @property
    def marks(self) -> list[tuple[int, str]]:
        """(round, ``lost`` or ``rejoined``) of the last times that it was so."""
        return list(self._diary.marks)

    @property
    def events(self) -> list[dict[str, Any]]:
        """The last lines of the diary, the newest first."""
        return self._diary.lines

    @property
    def error(self) -> str:
        """Why the run failed, if it did."""
        return self._diary.error

    @property
    def problems(self) -> list[str]:
        """What of the folder could not be read."""
        return [*self._rows.damaged.values(), *([self.trouble] if self.trouble else [])]

    def track(self, name: str) -> Track | None:
        """A figure: of the nodes or clients where they have it, else of the servers."""
        return self.tracks.get((name, False)) or self.tracks.get((name, True))

    @property
    def overhead(self) -> float | None:
        """Bytes that the network added, if the run counts them."""
        track = self.track("overhead_bytes")
        told = self.summary.get("overhead_bytes")
        if isinstance(told, int | float):
            return float(told)
        if track is None or track.last is None:
            return None
        return track.last.total or track.last.whole


def _seconds(moment: str) -> float | None:
    try:
        return datetime.datetime.fromisoformat(moment).timestamp()
    except ValueError:
        return None
