"""The commands by name; a command's module is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

COMMANDS = {
    "learn": "learn:learn",
    "forget": "forget:forget",
    "init": "init:init",
    "doctor": "doctor:doctor",
    "check": "check:check",
    "list": "listing:list_",
    "report": "report:report",
    "export": "export:export",
    "predict": "predict:predict",
    "compare": "compare:compare",
    "sweep": "sweep:sweep",
    "watch": "watch:watch",
    "migrate": "migrate:migrate",
    "data": "data:data",
    "tune": "tune:tune",
    "node": "node:app",
    "recommend": "recommend:app",
    "combine": "combine:app",
    "route": "route:app",
    "infer": "infer:app",
    "audit": "audit:app",
    "attest": "attest:app",
}
"""Of each command its module here, and the function or the commands in it; in help's order."""


class Verbs(TyperGroup):
    """All commands of ``hansa``, each made when it is asked for: most calls need one."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, or None."""
        if cmd_name not in self.commands and cmd_name in COMMANDS:
            self.commands[cmd_name] = _made(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that words begin with; of a name that there is none of, what is near."""
        if args and args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _made(name: str) -> Any:
    module, _, own = COMMANDS[name].partition(":")
    found = getattr(importlib.import_module(f"hansa.cli.{module}"), own)
    if isinstance(found, typer.Typer):
        group = get_group(found)
        group.name = name
        return group
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command(name)(found)
    return get_command(alone)
