"""Finding a data set's files: in $HANSA_DATA, in the cache, or by a checked download."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from hansa.base.errors import DataError
from hansa.base.files import atomic_write, cache_folder, lock, sha256
from hansa.base.pretrained import offline


@dataclass(frozen=True)
class Remote:
    """A file on the web that is known to the last bit.

    Attributes:
        url: where it is; the last part of the path is its name here too.
        sha256: hex digest of its content; empty where copies differ in form, and the reader checks
            what is in it.
    """

    url: str
    sha256: str

    @property
    def file(self) -> str:
        return self.url.rsplit("/", 1)[-1]


def folders(folder: str) -> list[Path]:
    """The existing places of a data set's files, in the order in which they are searched."""
    shared = os.environ.get("HANSA_DATA")
    places = [Path(shared).expanduser() / folder] if shared else []
    places.append(cache_folder() / folder)
    return [place for place in places if place.is_dir()]


def find(folder: str, *patterns: str) -> list[Path]:
    """The files of the first place (see :func:`folders`) where every pattern matches, or []."""
    for place in folders(folder):
        matches = [sorted(place.glob(pattern)) for pattern in patterns]
        if all(matches):
            return [path for paths in matches for path in paths]
    return []


def refuse_offline(what: str, folder: str, hint: str) -> None:
    """Stop before any download where ``HANSA_OFFLINE`` is set.

    Raises:
        DataError: says what is missing, where it was looked for and how to supply it.
    """
    if offline():
        looked = " or ".join(
            str(Path(place) / folder)
            for place in (os.environ.get("HANSA_DATA"), cache_folder())
            if place
        )
        raise DataError(
            f"{what} is not in {looked} and HANSA_OFFLINE forbids to download it\n"
            f"  fix: unset HANSA_OFFLINE, or {hint}"
        )


def fetch(folder: str, remote: Remote) -> Path:
    """The path of ``remote`` on this machine, downloaded into the cache if it is nowhere yet.

    Many processes may ask at once: one downloads, the others wait for it. The file appears
    under its name only when it is whole and its digest is right.

    Raises:
        DataError: the download failed, was cut short, or has the wrong content.
    """
    if present := find(folder, remote.file):
        return present[0]
    target = cache_folder() / folder / remote.file
    refuse_offline(remote.file, folder, f"put the file from {remote.url} there")
    try:
        with lock(target.with_name(f".{remote.file}.lock")):
            if not target.exists():  # another process may have been faster
                _download(remote, target)
    except OSError as error:  # the errors of requests are of this family too
        raise DataError(
            f"{remote.file} could not be downloaded from {remote.url}: {error}\n"
            f"  fix: try again, or put a good copy at {target}"
        ) from error
    return target


def _download(remote: Remote, target: Path) -> None:
    import pooch

    for dead in target.parent.glob(f".{target.name}.*.part"):  # we hold the lock: nobody's
        dead.unlink()
    with contextlib.closing(_Bar(remote.file)) as bar, atomic_write(target) as part:
        get = pooch.HTTPDownloader(
            progressbar=bar if sys.stderr.isatty() else False, chunk_size=1 << 20, timeout=60
        )
        get(remote.url, part, None)
        part.flush()
        got = sha256(Path(part.name))
        if remote.sha256 and got != remote.sha256:
            raise DataError(
                f"{remote.file} from {remote.url} is not the expected file\n"
                f"  expected sha256 {remote.sha256}\n  got             {got}\n"
                f"  fix: try again, or put a good copy at {target}"
            )


class _Bar:
    """What pooch asks of a progress bar, drawn by rich on stderr."""

    def __init__(self, title: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

        self.total = 0
        self._columns = Progress(
            "{task.description}",
            BarColumn(),
            DownloadColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._columns.add_task(title, total=None)

    def update(self, amount: int) -> None:
        self._columns.start()
        self._columns.update(self._task, total=self.total or None, advance=amount)

    def reset(self) -> None:
        self._columns.update(self._task, completed=0)

    def close(self) -> None:
        self._columns.stop()
