"""What a file lists as aggregators: fixed ones and learned ones in one list, and their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import core_schema

from hansa.base.component import Component, find, names
from hansa.base.errors import ConfigError
from hansa.base.paths import short
from hansa.ensemble.aggregators import Aggregator
from hansa.infer.robust.learned import LearnedAggregator

Entry = Aggregator | LearnedAggregator


@dataclass(frozen=True)
class AnyAggregator:
    """Marks a field that takes a component of the kind ``aggregator`` or ``learned_aggregator``."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        def parse(value: Any, info: core_schema.ValidationInfo) -> Entry:
            try:
                return resolve(value)
            except ConfigError as error:
                raise error.under(info.field_name) from None

        return core_schema.with_info_plain_validator_function(
            parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda c: c.dump()),
        )


def resolve(value: Any) -> Entry:
    """A component of one of the two kinds, by name.

    Raises:
        ConfigError: there is none, or a setting is wrong.
    """
    if isinstance(value, Aggregator | LearnedAggregator):
        return value
    name = value.get("name") if isinstance(value, Mapping) else value
    kind = _kind(name) if isinstance(name, str) else "aggregator"
    if kind == "learned_aggregator":
        return LearnedAggregator.resolve(value)
    try:
        return Aggregator.resolve(value)
    except ConfigError as error:
        if error.problem != "there is no such aggregator":
            raise
        learned = ", ".join(names("learned_aggregator"))
        raise ConfigError(
            error.field, error.value, error.problem, f"{error.fix}, {learned}"
        ) from None


def _kind(name: str) -> str:
    if ":" in name:
        from hansa.base.modules import load_object

        loaded = load_object(name)
        return str(getattr(loaded, "kind", "aggregator"))
    return "learned_aggregator" if name in names("learned_aggregator") else "aggregator"


def with_budget(value: Any, f: int) -> Any:
    """Plain settings in which parts that have an ``f`` and do not say it get the file's.

    Also those within others, such as the pooling of a set network.
    """
    name = value.get("name") if isinstance(value, Mapping) else value
    if not isinstance(name, str) or ":" in name:
        return value
    kind = _kind(name)
    if name not in names(kind):
        return value
    part = find(kind, name)
    settings = dict(value) if isinstance(value, Mapping) else {"name": name}
    for field, info in part.model_fields.items():
        if field == "f":
            settings.setdefault("f", f)
        elif isinstance(info.default, Aggregator):
            usual = {k: v for k, v in info.default.dump().items() if k != "f"}
            settings[field] = with_budget(settings.get(field, usual), f)
    return settings


def label_of(entry: Entry) -> str:
    """What tables call an entry: its name and those of the parts that make it what it is."""
    words = [short(type(entry).name)]
    for field in type(entry).model_fields:
        inner = getattr(entry, field)
        if isinstance(inner, Component):
            words += [label_of(inner)] if type(inner).name != "mean" else []  # type: ignore[arg-type]
        elif field == "training" and inner != "none":
            words[0] += f" {inner}"
        elif field == "chosen_by" and inner != "attacked":
            words[0] += f" by {inner}"
    return " + ".join(words)


def labels_of(entries: Sequence[Entry]) -> dict[str, Entry]:
    """Entries by name; where two would be called the same, their settings tell them apart.

    Raises:
        ConfigError: two are the same.
    """
    plain = [label_of(entry) for entry in entries]
    named: dict[str, Entry] = {}
    for label, entry in zip(plain, entries, strict=True):
        same = [other for name, other in zip(plain, entries, strict=True) if name == label]
        if len(same) > 1:
            mine = {k: v for k, v in entry.dump().items() if not _alike(same, k)}
            label += f" ({', '.join(f'{k}={_shown(v)}' for k, v in mine.items())})" if mine else ""
        if label in named:
            problem, fix = f"has {label} twice", "each once"
            raise ConfigError("aggregators", None, problem, fix)
        named[label] = entry
    return named


def _alike(entries: Sequence[Entry], field: str) -> bool:
    return all(entry.dump().get(field) == entries[0].dump().get(field) for entry in entries)


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {v}" for k, v in value.items() if k != "name")
    return str(value)
