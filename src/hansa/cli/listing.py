"""``hansa list``: what there is to choose from, and every setting."""

from __future__ import annotations

import difflib
import types
import typing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hansa.base.errors import ConfigError
from hansa.cli import completion
from hansa.cli.answer import Answer, answering
from hansa.cli.options import Debug, Json, Plugins

if TYPE_CHECKING:
    from pydantic import BaseModel

    from hansa.base.component import Reference

Kind = Annotated[
    str | None,
    typer.Argument(
        help="A kind of part, such as topology; settings: those of a file; systems: the papers.",
        autocompletion=completion.kinds,
    ),
]
Name = Annotated[
    str | None,
    typer.Argument(
        help="One of that kind, or whose file (learn, audit ...): shows its settings; a system: "
        "shows its claims.",
        autocompletion=completion.parts,
    ),
]


Markdown = Annotated[
    bool, typer.Option("--markdown", help="Print all kinds and parts as a page in Markdown.")
]


def list_(
    kind: Kind = None,
    name: Name = None,
    plugin: Plugins = None,
    markdown: Markdown = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List kinds of parts, the parts of one kind, or the settings of one part."""
    with answering(as_json, debug) as answer:
        from hansa.base.component import catalogue, find
        from hansa.base.homes import ROOMS
        from hansa.base.modules import load_module

        for module in plugin or ():
            load_module(module)
        if kind == "systems":
            from hansa.cli.systems import show_systems

            show_systems(answer, name, markdown)
        elif markdown:
            _markdown(answer)
        elif kind is None:
            _kinds(answer)
        elif kind == "settings":
            _file(answer, name)
        elif kind not in ROOMS:
            kinds = [*ROOMS, "settings", "systems"]
            near = difflib.get_close_matches(kind, kinds, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError("kind", kind, "no such kind", f"{hint}known: {', '.join(kinds)}")
        elif name is None:
            _parts(answer, kind, catalogue(kind))
        else:
            part = find(kind, name)
            _settings(answer, part, f"{kind} {name}", part.summary(), part.reference)


def _file(answer: Answer, verb: str | None) -> None:
    """The settings of a verb's file; without a verb those of a run file."""
    from hansa.experiment import RunFile
    from hansa.experiment.settings_file import files

    if verb is None:
        _settings(answer, RunFile, "run file", "Every setting of a run file.")
        return
    if verb not in files():
        raise ConfigError("name", verb, "has no file", f"one of {', '.join(files())}")
    file = files()[verb]
    _settings(answer, file, f"file of hansa {file.command}", f"Every setting of a {verb} file.")


def _kinds(answer: Answer) -> None:
    from hansa.base.component import catalogue
    from hansa.base.homes import ROOMS
    from hansa.report.grid import Grid

    answer.data = {"kinds": {kind: list(catalogue(kind)) for kind in ROOMS}}
    rows = [
        [kind, str(len(names)), ", ".join(names)] for kind, names in answer.data["kinds"].items()
    ]
    answer.table(Grid("Kinds of parts", ["kind", "", "names"], rows, words=3))
    answer.line("hansa list KIND, hansa list KIND NAME and hansa list settings say more.")


def _parts(answer: Answer, kind: str, parts: dict[str, Any]) -> None:
    from hansa.report.grid import Grid

    rows = [[name, part.summary(), _said(part.reference)] for name, part in parts.items()]
    answer.data = {
        "kind": kind,
        "names": {name: part.summary() for name, part in parts.items()},
        "references": {
            name: asdict(part.reference) for name, part in parts.items() if part.reference
        },
    }
    papers = any(paper for *_, paper in rows)
    rows = rows if papers else [row[:2] for row in rows]
    columns = ["name", "", "paper"] if papers else ["name", ""]
    answer.table(Grid(kind, columns, rows, words=len(columns)))


def _said(reference: Reference | None) -> str:
    return str(reference) if reference else ""


def _markdown(answer: Answer) -> None:
    """Every kind with its parts; where a part comes from is a link."""
    from hansa.base.component import catalogue
    from hansa.base.homes import ROOMS

    made = "Made by `hansa list --markdown`; `hansa list KIND NAME` says more of one."
    lines = ["# Parts", "", made, ""]
    for kind in ROOMS:
        lines += [f"## {kind}", "", "| name | | paper |", "|---|---|---|"]
        for name, part in catalogue(kind).items():
            source, said = part.reference, _said(part.reference)
            paper = f"[{said}]({source.url})" if source and source.url else said
            lines.append(f"| `{name}` | {part.summary().replace('|', chr(92) + '|')} | {paper} |")
        lines.append("")
    for line in lines[:-1]:
        answer.line(line)
    answer.data = {"text": "\n".join(lines)}


def _settings(
    answer: Answer,
    model: type[BaseModel],
    title: str,
    summary: str,
    reference: Reference | None = None,
) -> None:
    from hansa.report.grid import Grid

    settings = list(settings_of(model))
    answer.data = {"name": title, "summary": summary, "settings": settings}
    answer.data |= {"reference": asdict(reference)} if reference else {}
    rows = [
        [
            item["setting"],
            item["type"],
            "(required)" if item["required"] else _shown(item["default"]),
            item["help"],
        ]
        for item in settings
    ]
    answer.line(summary)
    if reference:
        answer.line(" ".join(filter(None, (f"{reference}", reference.url))))
    answer.table(Grid(title, ["setting", "type", "default", ""], rows, words=4))


def settings_of(model: type[BaseModel], prefix: str = "") -> list[dict[str, Any]]:
    """Setting, type, default, required and help of every field, groups of settings opened."""
    from pydantic import BaseModel

    from hansa.base.component import Component

    settings = []
    for field, info in model.model_fields.items():
        required = info.is_required()
        default = None if required else info.get_default(call_default_factory=True)
        if isinstance(default, BaseModel) and not isinstance(default, Component):
            settings += settings_of(type(default), f"{prefix}{field}.")
            continue
        settings.append(
            {
                "setting": f"{prefix}{field}",
                "type": readable_type(info.annotation),
                "default": default.dump() if isinstance(default, Component) else default,
                "required": required,
                "help": info.description or "",
            }
        )
    return settings


def readable_type(annotation: Any) -> str:
    """A type as one would say it: the kind of a part, ``a | b`` for choices."""
    from hansa.base.component import Component

    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return readable_type(inside[0])
    if origin is typing.Literal:
        return " | ".join(map(str, inside))
    if origin in (typing.Union, types.UnionType):
        return " | ".join(dict.fromkeys(" | ".join(map(readable_type, inside)).split(" | ")))
    if origin is not None:
        words = ["..." if part is ... else readable_type(part) for part in inside]
        return f"{origin.__name__}[{', '.join(words)}]"
    if annotation is type(None):
        return "none"
    if isinstance(annotation, type) and issubclass(annotation, Component):
        return annotation.kind
    return str(getattr(annotation, "__name__", annotation))


def _shown(value: Any) -> str:
    if isinstance(value, dict):  # a part: its own settings are in its own list
        return str(value.get("name", value or "{}"))
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(_shown, value)) + "]"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
