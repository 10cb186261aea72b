"""The names of ``hansa`` itself, from their docstrings."""

from __future__ import annotations

import inspect

TITLES = ("Functions", "Classes", "Errors")


def public_names() -> str:
    """What ``hansa.__all__`` names: functions, classes and errors."""
    import hansa

    found: dict[str, list[str]] = {title: [] for title in TITLES}
    for name in sorted(set(hansa.__all__) - {"__version__"}):
        value = getattr(hansa, name)
        if not inspect.isclass(value):
            function = inspect.isfunction(value)
            title, role = ("Functions", "function") if function else ("Classes", "data")
            found[title] += [f".. auto{role}:: hansa.{name}", ""]
            continue
        title = "Errors" if issubclass(value, Exception) else "Classes"
        found[title] += [f".. autoclass:: hansa.{name}", "   :members:"]
        found[title] += ["   :exclude-members: model_config, model_post_init", ""]
    lines: list[str] = []
    for title, names in found.items():
        lines += [f"## {title}", "", "```{eval-rst}", *names, "```", ""]
    return "\n".join(lines)


def without_fields(
    app: object, what: str, name: str, value: object, *rest: object
) -> tuple[str, str] | None:
    """The signature of a class of settings is left out: ``**data`` says nothing of its fields."""
    from pydantic import BaseModel

    settings = inspect.isclass(value) and issubclass(value, BaseModel)
    return ("", "") if settings else None
