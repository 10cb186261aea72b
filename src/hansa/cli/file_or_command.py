"""Verbs that take a file, and have commands besides."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

_OWN = ("--help", "-h")


class FileOrCommand(TyperGroup):
    """``hansa audit FILE`` runs it, as ``hansa audit run FILE`` does; others are commands."""

    def parse_args(self, context: Any, arguments: list[str]) -> list[str]:
        if arguments and arguments[0] not in self.commands and arguments[0] not in _OWN:
            arguments = ["run", *arguments]
        return super().parse_args(context, arguments)
