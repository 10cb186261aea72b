"""``hansa watch``: runs while they go on, as a live page or in the terminal."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hansa.base.errors import ConfigError
from hansa.base.telling import say
from hansa.cli.answer import Answer, answering, console
from hansa.cli.options import Debug, Json, Plugins
from hansa.cli.running import heed_sigterm, present

if TYPE_CHECKING:
    from hansa.report.live.follower import Follower

Runs = Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.")]
Terminal = Annotated[bool, typer.Option("--terminal", help="Show them here, without a page.")]
Once = Annotated[bool, typer.Option("--once", help="Print how far they are, and leave.")]
Port = Annotated[
    int | None,
    typer.Option(
        min=0, max=65535, metavar="N", help="Where the page is served; 0: any that is free.",
        show_default="4848, or any that is free",
    ),
]  # fmt: skip
Open = Annotated[bool, typer.Option("--open", help="Open the page in a browser.")]
_GRACE = 5.0  # s for pages to take the end of a run


def watch(
    runs: Runs,
    terminal: Terminal = False,
    once: Once = False,
    port: Port = None,
    open_: Open = False,
    plugin: Plugins = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Show how far runs are, as a page that follows them, until they end or Ctrl-C.

    RUN is the folder of a run that goes on or has ended, of any runtime; several, such as those of
    the sites of one run, are shown together. Watching reads the folder and never disturbs the run.
    With --json the state is printed as one object.
    """
    with answering(as_json, debug) as answer:
        heed_sigterm()
        for run in runs:
            present(run)
        from hansa.base.modules import load_module
        from hansa.report.live.follower import Follower
        from hansa.report.live.shown import node_rows, shown
        from hansa.report.live.watched import Watched

        if terminal and (open_ or port is not None):
            raise ConfigError("terminal", True, "has no page", "without --open and --port")
        for module in plugin or ():
            load_module(module)
        follower = Follower([Watched(path.expanduser()) for path in dict.fromkeys(runs)])
        if once or as_json:
            follower.look()
            every = shown(follower.runs)
            if as_json:
                tables = [node_rows(run) for run in follower.runs]
                told = [{**r, "table": t} for r, t in zip(every["runs"], tables, strict=True)]
                answer.data = {**every, "runs": told}
            else:
                from hansa.report.live.terminal import screen

                console().print(screen(follower.runs, every, height=60))
            return
        try:
            if terminal:
                from hansa.report.live.terminal import follow

                follow(follower, console())
            else:
                _serve(answer, follower, port, open_)
        except KeyboardInterrupt:
            goes_on = any(run.held for run in follower.runs)
            say(f"no longer watching{'; the run goes on' if goes_on else ''}")
        finally:
            follower.close()


def _serve(answer: Answer, follower: Follower, port: int | None, open_: bool) -> None:
    from hansa.report.live.page_server import PageServer

    server = PageServer(follower, port)
    follower.start()
    server.start()
    try:
        ended = follower.over
        answer.line(f"watch  {server.url}")
        what = "has ended: its page is there until Ctrl-C" if ended else "Ctrl-C ends the watching"
        say(f"{', '.join(str(run.path) for run in follower.runs)}: {what}")
        if open_:
            import webbrowser

            webbrowser.open(server.url)
        if ended:
            follower.until_closed()
        else:
            follower.until_over()
            until = time.monotonic() + _GRACE
            while not server.told and time.monotonic() < until:
                time.sleep(0.05)
            for run in follower.runs:
                say(f"{run.path}: {run.state}")
    finally:
        server.close()
