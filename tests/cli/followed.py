"""A page of the docs, followed as a reader would: its files written, its commands run, in order.

- A ``python`` or ``yaml`` block whose first line is ``# NAME`` is that file. Python without a
  name is run as it stands, YAML without a name is a part of a file.
- A ``console`` block holds commands: ``hansa ...`` and ``python FILE``. One that ends in ``&``
  serves until the page ends; sites (``hansa node run``) of one block run side by side.
- A ``text`` block after it is what was printed, with ``...`` for lines, or the rest of one, that
  were left out.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..toy.waiting import until
from .conftest import Hansa

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# ([\w./-]+\.(?:py|yaml))\b")
PORT = re.compile(r"(?<=127\.0\.0\.1:)\d{4}|(?<=--port )\d{4}")
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?")
SHARE = re.compile(r"(-?\d+(?:\.\d+)?) ?%")
POINTS = 4.0
"""So far may a share that a page shows be from what comes out on another machine."""


@dataclass
class Followed:
    """What each command said; and of each ``text`` block what was printed and what it shows."""

    said: dict[str, str] = field(default_factory=dict)
    foretold: list[tuple[str, str]] = field(default_factory=list)


def follow(
    hansa: Hansa,
    page: Path,
    folder: Path,
    shortened: Callable[[str], str] = lambda line: line,
    may_end: Callable[[str], tuple[int, ...]] = lambda line: (0,),
    excerpts: bool = False,
) -> Followed:
    """Write the page's files into the folder, which is the current one, and run its commands.

    Args:
        shortened: makes of a command one that takes less; an empty one is not run.
        may_end: the exit statuses of a command that are answers.
        excerpts: Python without a name is shown, and cannot be run by itself.
    """
    seen, printed = Followed(), ""
    servers: list[Background] = []
    try:
        for kind, text in _blocks(page):
            name = NAME.match(text)
            if kind in ("python", "yaml") and name:
                (folder / name[1]).write_text(text)
            elif (kind == "python" and excerpts) or kind == "yaml":
                continue  # a part of a file, which is shown
            elif kind == "python":
                printed = _python(exec, compile(text, page.name, "exec"), {})
            elif kind == "text":
                seen.foretold.append((printed, text))
            elif kind == "console":
                printed = ""
                for line in _begun_together(text, folder, seen, shortened):
                    if not (short := shortened(line)):
                        continue
                    if line.endswith("&"):
                        servers.append(Background(short, folder / f"{len(servers)}.log"))
                        seen.said[line] = servers[-1].ready()
                    elif line.startswith("python "):
                        script = shlex.split(short)[1]
                        seen.said[line] = _python(runpy.run_path, script, run_name="__main__")
                    else:
                        assert line.startswith("hansa "), f"no command of hansa: {line}"
                        said = hansa(*shlex.split(short)[1:])
                        assert said.status in may_end(line), f"{line}\n{said.out}\n{said.err}"
                        seen.said[line] = said.err + said.out
                    printed += seen.said[line]
                printed = printed or "\n".join(seen.said.values())
            else:
                assert kind in ("sh", "py", "json", "toml"), (
                    f"a block that nobody runs: {kind}\n{text}"
                )
    finally:
        for server in servers:
            server.process.terminate()  # all at once, then each is waited for
        for server in servers:
            server.stop()
        for name, module in list(sys.modules.items()):  # the next page has files of that name too
            if (getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
                del sys.modules[name]
    return seen


def check_foretold(seen: Followed) -> None:
    """What the page shows was printed: the same words in the same order, shares nearly the same."""
    for printed, shown in seen.foretold:
        lines = [" ".join(line.split()) for line in printed.splitlines()]
        at = 0
        for line in shown.splitlines():
            words = " ".join(line.split())
            if not words or words == "...":
                continue
            open_end = words.endswith(" ...")  # what follows on the line is left out
            mask = NUMBER.sub("#", words.removesuffix(" ..."))
            masked = [NUMBER.sub("#", one) for one in lines]
            found = next(
                (
                    k
                    for k in range(at, len(lines))
                    if masked[k] == mask or (open_end and masked[k].startswith(mask))
                ),
                None,
            )
            assert found is not None, f"is not printed (any more): {line}\n\n{printed}"
            told, came = SHARE.findall(words), SHARE.findall(lines[found])
            for one, other in zip(told, came, strict=not open_end):
                assert abs(float(one) - float(other)) <= POINTS, f"{line}\n{lines[found]}"
            at = found + 1


class Background:
    """A command in a process of its own."""

    def __init__(self, line: str, log: Path) -> None:
        self.line, self.log = line, log
        words = [sys.executable, "-m", "hansa.cli", *shlex.split(line.rstrip("& "))[1:]]
        with log.open("w") as out:
            self.process = subprocess.Popen(words, stdout=out, stderr=subprocess.STDOUT)

    def ready(self) -> str:
        """What it said, once that tells where it listens."""

        def listens() -> str:
            said = self.log.read_text()
            assert self.process.poll() is None, f"{self.line}\n{said}"
            return said if "127.0.0.1:" in said else ""

        return until(listens, self.line)

    def wait(self) -> str:
        """What it said, once it has ended well."""
        status = self.process.wait()
        assert status == 0, f"{self.line}\n{self.log.read_text()}"
        return self.log.read_text()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


def _blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each block, with free ports in place of those that the page names."""
    text = page.read_text()
    ports = sorted(set(PORT.findall(text)))
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in ports]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        free = {port: str(one.getsockname()[1]) for port, one in zip(ports, sockets, strict=True)}
    return [(kind, PORT.sub(lambda m: free[m[0]], body)) for kind, body in BLOCK.findall(text)]


def _begun_together(
    text: str, folder: Path, seen: Followed, shortened: Callable[[str], str]
) -> list[str]:
    """Run the sites of a block side by side; returns its other commands."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    together = [line for line in lines if line.startswith("hansa node run")]
    begun = [line for line in together if shortened(line)]
    sites = [Background(line, folder / f"site{k}.log") for k, line in enumerate(begun)]
    try:
        for site in sites:
            seen.said[site.line] = site.wait()
    finally:
        for site in sites:
            site.stop()
    return [line for line in lines if line not in together]


def _python(run: Callable[..., object], *words: object, **more: object) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out:
        run(*words, **more)
    return out.getvalue()
