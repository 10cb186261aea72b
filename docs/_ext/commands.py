"""Every command of ``hansa`` with its arguments and options, from the commands themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from tables import table


def _walk(command: Any, name: str, above: Any = None) -> Iterator[tuple[Any, str]]:
    settings = command.context_settings
    context = command.context_class(command, info_name=name.split()[-1], parent=above, **settings)
    yield context, name
    words = command.list_commands(context) if hasattr(command, "list_commands") else ()
    for word in words:
        one = command.get_command(context, word)
        if not one.hidden:
            yield from _walk(one, f"{name} {word}", context)


def all_commands() -> str:
    """A section a command: what it does, its usage, its arguments and options."""
    import typer

    from hansa.cli.app import app

    lines: list[str] = []
    for context, name in _walk(typer.main.get_command(app), "hansa"):
        command = context.command
        pieces = " ".join(command.collect_usage_pieces(context))
        lines += [f"## {name}", "", inspect.cleandoc(command.help or ""), ""]
        lines += ["```text", f"{name} {pieces}", "```", ""]
        records = [one.get_help_record(context) for one in command.get_params(context)]
        rows = [[f"`{names}`", said] for names, said in filter(None, records)]
        lines += table(["argument or option", ""], rows)
    return "\n".join(lines)
