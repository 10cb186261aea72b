"""Words that a shell completes: algorithms, examples, settings, run folders."""

from __future__ import annotations

from typing import Any

import typer

from hansa.base.completing import beginning, files, remembered, run_folders
from hansa.base.shipped import home


def _words() -> dict[str, Any]:
    def make() -> dict[str, Any]:
        from hansa.experiment.vocabulary import vocabulary

        return vocabulary()

    words: dict[str, Any] = remembered("completion", make)
    return words


def targets(incomplete: str) -> list[str]:
    """A run file here, an algorithm, or an example."""
    known = [*_words()["kinds"]["algorithm"], *examples(incomplete)]
    return [*beginning(known, incomplete), *run_files(incomplete)]


def run_files(incomplete: str) -> list[str]:
    """A run file here."""
    return list(files(incomplete, (".yaml", ".yml")))


def examples(incomplete: str) -> list[str]:
    """An example, by its name."""
    return beginning((file.stem for file in home().glob("*.yaml")), incomplete)


def algorithms(incomplete: str) -> list[str]:
    """An algorithm."""
    return beginning(_words()["kinds"]["algorithm"], incomplete)


def begun(incomplete: str) -> list[str]:
    """What ``hansa init`` can begin."""
    return [*beginning(_words()["begun"], incomplete), *examples(incomplete)]


def runs(incomplete: str) -> list[str]:
    """A run folder."""
    return list(run_folders(incomplete))


def kinds(incomplete: str) -> list[str]:
    """A kind of part."""
    return beginning([*_words()["kinds"], "settings", "systems"], incomplete)


def parts(context: typer.Context, incomplete: str) -> list[str]:
    """A part of the kind that was named."""
    return beginning(_words()["kinds"].get(context.params.get("kind") or "", ()), incomplete)


def settings(context: typer.Context, incomplete: str) -> list[str]:
    """A setting of the command's file; behind its ``=`` the names it may be set to."""
    command = context.command_path.partition(" ")[2]
    known = _words()["settings"]
    own = known.get(command) or known.get(command.removesuffix(" run")) or known["learn"]
    key, equals, _ = incomplete.partition("=")
    if equals:
        return beginning((f"{key}={value}" for value in own.get(key, ())), incomplete)
    return beginning((f"{name}=" for name in own), incomplete)
