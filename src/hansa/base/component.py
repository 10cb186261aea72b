"""Components: parts of a run that are found by name and check their own settings.

A component is a frozen pydantic model. Its fields are its settings, so one class gives the
registry entry, the schema of the run file, the command's help and the documentation row::

    @register("dpsgd", paper="Lian et al.", year=2017, url="https://arxiv.org/abs/1705.09056")
    class DPSGD(Algorithm):
        weights: WeightRule = Field("uniform", description="how much a node trusts each neighbour")

A *kind* (``Topology``) is declared by ``class Topology(Component, kind="topology")``. A field
annotated with a kind takes a name, a mapping with a ``name``, or a ready instance.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import core_schema

from hansa.base import index
from hansa.base.checks import explain, refuse_booleans
from hansa.base.errors import ConfigError
from hansa.base.homes import RENAMED, ROOMS
from hansa.base.lazy import load_all
from hansa.base.modules import import_path, load_object
from hansa.base.paths import locate, located_object

_registry: dict[str, dict[str, type[Component]]] = {}
_plugged_in: set[str] = set()
C = TypeVar("C", bound="Component")


@dataclass(frozen=True)
class Reference:
    """Where a component was published.

    Attributes:
        paper: its authors, or its title.
        year: of publication.
        url: where it can be read; empty if that is not known.
    """

    paper: str
    year: int
    url: str = ""

    def __post_init__(self) -> None:
        if not self.paper or not self.year:
            raise TypeError("a reference needs a paper and a year")
        if self.url and not self.url.startswith(("https://", "http://")):
            raise TypeError(f"the URL of a reference has to begin with https://, not {self.url!r}")

    def __str__(self) -> str:
        return f"{self.paper} {self.year}"


class Component(BaseModel):
    """A named part of a run with validated settings (see the module's text)."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
        defer_build=True,
        allow_inf_nan=False,
    )
    kind: ClassVar[str] = ""
    name: ClassVar[str] = ""
    reference: ClassVar[Reference | None] = None

    @classmethod
    def __pydantic_init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)

    def __init_subclass__(cls, kind: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = ""  # a name is a class's own, not its base's
        if "reference" not in cls.__dict__:
            cls.reference = None
        if kind:
            cls.kind = kind
            _registry.setdefault(kind, {})

    @model_validator(mode="before")
    @classmethod
    def _locate(cls, settings: Any) -> Any:
        refuse_booleans(cls, settings)
        return locate(cls, settings)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        if "kind" not in cls.__dict__ or not cls.kind:
            return handler(source)

        def parse(value: Any, info: core_schema.ValidationInfo) -> Any:
            try:
                return cls.resolve(value)
            except ConfigError as error:
                raise error.under(info.field_name) from None

        return core_schema.with_info_plain_validator_function(
            parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda c: c.dump()),
        )

    @classmethod
    def resolve(cls, value: Any) -> Self:
        """A component of this kind from a name, a mapping with a ``name``, or an instance.

        Raises:
            ConfigError: the name is unknown or a setting is wrong.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping):
            raise ConfigError("", value, f"is no {cls.kind}", f"write a name: {_known(cls.kind)}")
        settings = dict(value)
        name = settings.pop("name", None)
        if not isinstance(name, str):
            raise ConfigError(
                "name", name, f"the {cls.kind} needs a name", f"one of {_known(cls.kind)}"
            )
        chosen = find(cls.kind, located_object(name))
        if not issubclass(chosen, cls):
            raise ConfigError("name", name, f"{chosen.__qualname__} is not a {cls.__name__}")
        return chosen.parse(settings)

    @classmethod
    def parse(cls, settings: Mapping[str, Any]) -> Self:
        """An instance from plain settings, with errors that name the field.

        Raises:
            ConfigError: a setting is unknown or its value is refused.
        """
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            problem = f"{cls.__qualname__} does not define {', '.join(missing)}"
            raise ConfigError("name", cls.name, problem, f"a {cls.kind} has to")
        try:
            return cls.model_validate(dict(settings))
        except ValidationError as error:
            raise explain(error, cls) from None

    def dump(self) -> dict[str, Any]:
        """Plain data from which :meth:`resolve` makes an equal component."""
        return {"name": type(self).name or import_path(type(self)), **self.model_dump(mode="json")}

    @classmethod
    def summary(cls) -> str:
        """The first sentence of the docstring."""
        text = inspect.getdoc(cls) or ""
        return " ".join(text.split("\n\n")[0].split())

    @classmethod
    def settings(cls) -> list[tuple[str, str, Any, str]]:
        """Rows of (field, type, default, help)."""
        rows = []
        for field, info in cls.model_fields.items():
            default = "required"
            if not info.is_required():
                default = info.get_default(call_default_factory=True)
            shown = default.dump() if isinstance(default, Component) else default
            annotation = inspect.formatannotation(info.annotation).replace("typing.", "")
            rows.append((field, annotation, shown, info.description or ""))
        return rows


def register(
    name: str, *, paper: str = "", year: int = 0, url: str = ""
) -> Callable[[type[C]], type[C]]:
    """Class decorator: make a component known under ``name`` within its kind.

    Args:
        name: what run files call it.
        paper: the authors or the title of the paper that it comes from, if it comes from one.
        year: of the paper.
        url: of the paper.

    Raises:
        TypeError: the name is taken, or the reference is not whole.
    """
    reference = Reference(paper, year, url) if paper or year or url else None

    def add(cls: type[C]) -> type[C]:
        if not cls.kind:
            raise TypeError(f"{cls.__qualname__} must subclass a kind of component")
        if not cls.__module__.startswith("hansa."):
            _load(cls.kind)  # whose names are taken
        cls.name, cls.reference = name, reference
        owner = _registry[cls.kind].get(name)
        if owner is not None and owner.__qualname__ != cls.__qualname__:
            raise TypeError(f"the {cls.kind} name {name!r} is taken by {owner.__module__}")
        _registry[cls.kind][name] = cls
        return cls

    return add


def catalogue(kind: str) -> dict[str, type[Component]]:
    """Every component of a kind by name: built in, from entry points, and registered so far."""
    if kind not in ROOMS:
        raise ConfigError("kind", kind, "is unknown", f"one of {', '.join(ROOMS)}")
    if kind not in _plugged_in:
        _plugged_in.add(kind)
        _load(kind)
        for entry in _entries(kind):
            loaded = entry.load()
            if issubclass(loaded, Component) and not loaded.name:
                register(entry.name)(loaded)
    return dict(sorted(_registry[kind].items()))


def _entries(kind: str) -> importlib.metadata.EntryPoints:
    """By which other packages offer components of a kind; a class may have a name of its own."""
    return importlib.metadata.entry_points(group=f"hansa.{kind}")


def _load(kind: str) -> None:
    for room in ROOMS.get(kind, ()):
        if room.endswith(".*"):
            load_all(room.removesuffix(".*"))
        else:
            importlib.import_module(room)


def _alone(kind: str, name: str) -> type[Component] | None:
    """The built-in component of a name, without others of its kind."""
    if name not in _registry.get(kind, {}) and (known := index.parts(kind).get(name)):
        importlib.import_module(known["module"])
    return _registry.get(kind, {}).get(name)


def names(kind: str) -> list[str]:
    """The names of :func:`catalogue`, in its order; where all are hansa's, none is imported."""
    if kind in _plugged_in or not index.parts(kind) or _entries(kind):
        return list(catalogue(kind))
    return sorted({*index.parts(kind), *_registry.get(kind, {})})


def setting_names(kind: str, name: str) -> list[str]:
    """The settings of a component; what hansa has itself is not imported."""
    known = index.parts(kind).get(name)
    return known["settings"] if known else [*find(kind, name).model_fields]


def find(kind: str, name: str) -> type[Component]:
    """The class of a component by name or by import path (``package.module:Class``)."""
    if ":" in name:
        loaded = load_object(name)
        if not (inspect.isclass(loaded) and issubclass(loaded, Component) and loaded.kind == kind):
            raise ConfigError("name", name, f"is no {kind}", f"subclass the {kind} base class")
        if not loaded.name:
            loaded.name = name
        return loaded
    if alone := _alone(kind, name):
        return alone
    known = names(kind)
    if name in known or index.written_somewhere(kind, name):
        known = list(components := catalogue(kind))
        if name in components:
            return components[name]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if (kind, name) in RENAMED:
        hint = f"now {RENAMED[kind, name]}; "
    fix = f"{hint}known: {', '.join(known)}"
    raise ConfigError("name", name, f"there is no such {kind}", fix)


def _known(kind: str) -> str:
    return ", ".join(names(kind))


@dataclass(frozen=True)
class OfKind:
    """Marks a field as taking a component of a kind that stands above the field's module.

    ``Annotated[Component, OfKind("baseline")]`` takes what the kind itself would.
    """

    kind: str

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        def parse(value: Any, info: core_schema.ValidationInfo) -> Component:
            known = find(self.kind, names(self.kind)[0])
            base = next(cls for cls in known.__mro__ if vars(cls).get("kind"))
            assert issubclass(base, Component)
            try:
                return base.resolve(value)
            except ConfigError as error:
                raise error.under(info.field_name) from None

        return core_schema.with_info_plain_validator_function(
            parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda c: c.dump()),
        )
