"""The index of parts and files says what there is, and what it lacks is found all the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hansa.base import component, index
from hansa.base.component import catalogue, find, names, setting_names
from hansa.base.errors import ConfigError
from hansa.base.homes import ROOMS
from hansa.engine.training.optimizers import Optimizer
from hansa.experiment.settings_file import commands, file_of, files
from hansa.experiment.vocabulary import index_text


def test_it_is_what_there_is() -> None:
    text = Path(index.__file__).with_name("index.json").read_text(encoding="utf-8")
    # Others' parts, as of the tests, are in no index.
    assert text == index_text(), "python docs/make_index.py"


def test_names_and_their_settings_are_those_of_the_catalogue() -> None:
    for kind in ROOMS:
        parts = catalogue(kind)
        assert sorted(parts) == names(kind)
        for name, part in parts.items():
            assert setting_names(kind, name) == [*part.model_fields]


def test_a_file_of_a_verb_is_found_alone_as_among_all() -> None:
    for verb, kind in files().items():
        assert file_of(verb) is kind
        assert commands()[verb] == (kind.command, bool(kind.sketch))
    assert file_of("nothing") is None


def test_a_part_that_the_index_lacks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    short = {name: one for name, one in index.parts("optimizer").items() if name != "adam"}
    monkeypatch.setitem(index._index()["parts"], "optimizer", short)
    monkeypatch.setattr(component, "_plugged_in", set())
    registry = dict(component._registry["optimizer"])
    whole = registry.pop("adam", None) or catalogue("optimizer")["adam"]
    monkeypatch.setitem(component._registry, "optimizer", registry)
    monkeypatch.setattr(component, "_load", lambda kind: registry.setdefault("adam", whole))
    assert find("optimizer", "adam") is whole


class _Entry:
    """Another package's, under a name that its class does not bear."""

    name = "theirs"

    @staticmethod
    def load() -> type[component.Component]:
        @component.register("mild")
        class Mild(Optimizer):
            """Does little."""

        return Mild


def test_a_part_of_another_package_is_found_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(component, "_plugged_in", set())
    monkeypatch.setattr(component, "_entries", lambda kind: [_Entry])
    assert find("optimizer", "mild").name == "mild"
    monkeypatch.setattr(component, "_plugged_in", set())
    assert {"adam", "mild"} <= {*names("optimizer")}
    assert "theirs" not in names("optimizer")


def test_a_name_that_nobody_has_is_refused_with_all_that_there_are() -> None:
    with pytest.raises(ConfigError, match="there is no such optimizer") as told:
        find("optimizer", "adamm")
    assert "did you mean 'adam'" in told.value.fix
    known = re.search(r"known: (.*)", told.value.fix)
    assert known is not None
    assert known[1].split(", ") == sorted(catalogue("optimizer"))
