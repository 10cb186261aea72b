"""``hansa node``: one site of a run without a coordinator."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli.answer import Interrupted, answering
from hansa.cli.options import Debug, Json, NoReport, Quiet, Sets, home
from hansa.cli.running import heed_sigterm

app = typer.Typer(help="One site of a run that several owners train without a coordinator.")

SiteArg = Annotated[Path, typer.Argument(metavar="SITE.yaml", help="A site file.", callback=home)]


@app.command("keygen")
def keygen(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the site is called.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The key's file.", callback=home)
    ] = None,
    days: Annotated[int, typer.Option(metavar="N", help="How long it holds.")] = 3650,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Make a site's key, and the line that the other sites put on their lists."""
    with answering(as_json, debug) as answer:
        from hansa.engine.links.keys import Key

        path = out or Path(f"{name}.key")
        public = path.with_suffix(".pub")
        if public.exists():
            problem = "is there already"
            raise ConfigError("out", str(public), problem, "another --out")
        key = Key.generate(name, days)
        key.save(path)
        public.write_text(key.line + "\n", encoding="utf-8")
        answer.data = {
            "key": str(path), "public": str(public), "line": key.line,
            "fingerprint": key.fingerprint, "until": key.until.isoformat(),
        }  # fmt: skip
        answer.line(f"wrote  {path}  (yours alone: it never leaves this machine)")
        answer.line(f"wrote  {public}  (for the other sites)")
        answer.line(key.line)


@app.command("init")
def init(
    run: Annotated[Path, typer.Argument(metavar="RUN.yaml", help="The run file.", callback=home)],
    name: Annotated[str, typer.Option(metavar="NAME", help="What this site is called.")],
    node: Annotated[
        list[int], typer.Option("--node", metavar="N", help="A node here; may be repeated.")
    ],
    key: Annotated[Path, typer.Option(metavar="FILE", help="This site's key.", callback=home)],
    peer: Annotated[
        list[str],
        typer.Option(
            "--peer", metavar="NODES=PUB[@HOST:PORT]", help="Another site; may be repeated."
        ),
    ],
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen.", show_default="none")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE", help="Its own table.", show_default="its share", callback=home
        ),
    ] = None,
    test: Annotated[
        Path | None, typer.Option(metavar="TABLE", help="A table of test rows.", callback=home)
    ] = None,
    tells: Annotated[
        str, typer.Option(metavar="WORDS", help="What it is willing to tell: sizes,names ...")
    ] = "",
    session: Annotated[str, typer.Option(metavar="WORD", help="The run's word.")] = "run",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="SITE.yaml", show_default="NAME.yaml", help="The file.", callback=home
        ),
    ] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Write a site file with a remark on every setting."""
    with answering(as_json, debug) as answer:
        from hansa.experiment.sites.site_init import Known, peer_of, write_site

        path = out or Path(f"{name}.yaml")
        known = Known(
            name=name, run=run, key=key, nodes=tuple(node), listen=listen,
            peers=tuple(map(peer_of, peer)), data=data, test=test, session=session,
            tells=tuple(word.strip() for word in tells.split(",") if word.strip()),
        )  # fmt: skip
        site = write_site(known, path)
        answer.data = {"file": str(path), "site": site.dump()}
        answer.line(f"wrote  {path}")
        answer.line(f"hansa node explain {shlex.quote(str(path))}")


@app.command("explain")
def explain(file: SiteArg, sets: Sets = None, as_json: Json = False, debug: Debug = False) -> None:
    """Say exactly what leaves this site in its run, to whom and in how many bytes; send nothing."""
    with answering(as_json, debug) as answer:
        from hansa.experiment.sites.explaining import explained
        from hansa.report.grid import Grid

        facts = explained(_site(file, sets))
        answer.data = facts
        for title, part in (
            ("Joining", "joining"),
            ("Each round", "round"),
            ("Besides", "besides"),
        ):
            rows = [
                [row["what"], row["to"], _bytes(row)]
                for row in facts["rows"]
                if row["when"] == part
            ]
            answer.table(Grid(title, ["what", "to", "bytes"], rows, words=2))
        for line in facts["remarks"]:
            answer.line(f"remark: {line}")
        if facts["refused"]:
            answer.line(
                f"refused here (tells): {', '.join(facts['refused'])}; the run cannot start"
            )


def _bytes(row: dict[str, Any]) -> str:
    if row["bytes"] is None:
        return "varies"
    return f"{row['bytes']:,}" if row["exact"] else f"about {row['bytes']:,}"


@app.command("run")
def run(
    file: SiteArg,
    sets: Sets = None,
    no_report: NoReport = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Meet the other sites and train with them; again after an end: go on where this site was.

    Ctrl-C ends this site after the round under way; the others go on without it.
    """
    with answering(as_json, debug) as answer:
        heed_sigterm()
        site = _site(file, sets)  # what is wrong with it is told before what runs is imported
        from hansa.experiment.progress import RunProgress
        from hansa.experiment.sites.site_run import run_site
        from hansa.report.tables import final_table

        answer.go_on = "hansa node run"
        with RunProgress(quiet) as progress:
            try:
                folder = run_site(site, progress, not no_report)
            except KeyboardInterrupt:
                raise Interrupted(_kept(site.folder, file)) from None
            finally:
                if (site.folder / "config.yaml").exists():
                    answer.run_dir = str(site.folder)
        answer.data = folder.summary or {}
        answer.table(final_table(folder))
        answer.places(folder.path)


def _kept(folder: Path, file: Path) -> str:
    """What a site that was interrupted leaves."""
    from hansa.report import RunFolder

    if not (folder / "config.yaml").exists():
        return "interrupted before anything started"
    summary = RunFolder.open(folder).summary or {}
    text = (
        f"interrupted after round {summary.get('rounds', 0)}; what was measured is kept in {folder}"
    )
    return f"{text}\n  to take part again: hansa node run {shlex.quote(str(file))}"


@app.command("status")
def status(
    place: Annotated[
        Path,
        typer.Argument(
            metavar="SITE.yaml|RUN", help="A site file, or a site's run folder.", callback=home
        ),
    ],
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Say how far a site is, who is there, and what went wrong, from its folder."""
    with answering(as_json, debug) as answer:
        from hansa.experiment.sites.site_file import SiteFile
        from hansa.experiment.sites.status import status_of
        from hansa.report.grid import Grid

        folder = place if place.is_dir() else SiteFile.load(place).folder
        if not (folder / "config.yaml").exists():
            problem = "there is no run of this site yet"
            raise ConfigError("run", str(folder), problem, f"hansa node run {place}")
        answer.data = facts = status_of(folder)
        since = facts["seconds_since"]
        when = "" if since is None else f", as of {since:g} s ago"
        answer.line(
            f"{facts['name']} in {facts['session']}: {facts['status']}, round {facts['round']} of "
            f"{facts['rounds']}{when}"
        )
        rows = []
        for peer in facts["peers"]:
            heard = peer["heard_seconds_ago"]
            there = "there" if peer["connected"] else "ended" if peer["finished"] else "not there"
            rows.append(
                [
                    peer["name"], there, "" if peer["round"] is None else str(peer["round"]),
                    "never" if heard is None else f"{heard:g} s before", peer["problem"],
                ]
            )  # fmt: skip
        answer.table(Grid("Sites", ["site", "", "round", "heard", "problem"], rows, words=5))
        for kind, count in facts["events"].items():
            answer.line(f"{kind}: {count}")


def _site(file: Path, sets: list[str] | None) -> Any:
    from hansa.experiment.sites.site_file import SiteFile

    return SiteFile.load(file, tuple(sets or ()))
