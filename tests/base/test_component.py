"""Components are found by name, check their settings and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field

from hansa.base.component import Component, Reference, catalogue, find, register
from hansa.base.errors import ConfigError
from hansa.base.homes import ROOMS
from hansa.base.modules import load_module


class Fruit(Component, kind="fruit"):
    """Anything that grows on trees."""


@register("apple")
class Apple(Fruit):
    """Grows in
    the north.

    And more.
    """

    weight: float = Field(0.2, gt=0, description="in kg")
    friend: Fruit | None = Field(None, description="what hangs beside it")


@register("pear", paper="Linnaeus", year=1753, url="https://example.org/pear")
class Pear(Fruit):
    """Grows beside apples."""


@register("basket")
class Basket(Fruit):
    """Holds a fruit, and is counted as one here."""

    content: Fruit = Field(Apple(), description="what is in it")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ROOMS, "fruit", ())


@pytest.mark.parametrize("value", ["apple", {"name": "apple"}, Apple()])
def test_a_name_a_mapping_and_an_instance_are_the_same(value: object) -> None:
    assert Fruit.resolve(value) == Apple()
    assert Basket.parse({"content": value}) == Basket()


def test_a_reference_is_its_own_and_whole() -> None:
    class Quince(Pear):
        """Looks like one."""

    assert Pear.reference == Reference("Linnaeus", 1753, "https://example.org/pear")
    assert str(Pear.reference) == "Linnaeus 1753"
    assert Apple.reference is Quince.reference is Component.reference is None
    for wrong in (("Linnaeus", 0, ""), ("", 1753, ""), ("", 0, "https://example.org")):
        with pytest.raises(TypeError, match="a paper and a year"):
            register("quince", paper=wrong[0], year=wrong[1], url=wrong[2])
    with pytest.raises(TypeError, match="not 'example"):
        register("quince", paper="Linnaeus", year=1753, url="example.org")


def test_dump_and_resolve_are_inverse() -> None:
    apple = Apple(weight=0.5)
    assert apple.dump() == {"name": "apple", "weight": 0.5, "friend": None}
    assert Fruit.resolve(apple.dump()) == apple


def test_a_component_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Apple().weight = 1.0  # type: ignore[misc]


def test_summary_is_the_first_paragraph_on_one_line() -> None:
    assert Apple.summary() == "Grows in the north."


def test_settings_are_rows_for_people() -> None:
    assert Apple.settings()[0] == ("weight", "float", 0.2, "in kg")


@pytest.mark.parametrize(
    ("value", "field", "words"),
    [
        ("aple", "name", "did you mean 'apple'"),
        (7, "", "no fruit"),
        ({"weight": 1}, "name", "needs a name"),
        ({"name": "apple", "weigth": 1}, "weigth", "did you mean 'weight'"),
        ({"name": "apple", "weight": -1}, "weight", "in kg"),
        ({"name": "apple", "weight": "much"}, "weight", "number"),
    ],
)
def test_errors_name_the_field_and_the_way_out(value: object, field: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Fruit.resolve(value)
    assert caught.value.field == field
    assert words in str(caught.value)


def test_errors_of_inner_parts_have_dotted_names() -> None:
    with pytest.raises(ConfigError) as caught:
        Basket.parse({"content": {"name": "apple", "weight": 0}})
    assert caught.value.field == "content.weight"


def test_a_taken_name_is_refused() -> None:
    class Other(Fruit):
        """Not an apple."""

    with pytest.raises(TypeError, match="taken"):
        register("apple")(Other)


def test_only_a_kind_can_be_registered() -> None:
    class Nothing(Component):
        """Of no kind."""

    with pytest.raises(TypeError, match="kind"):
        register("nothing")(Nothing)


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(ConfigError, match="one of data"):
        catalogue("furniture")


@pytest.mark.parametrize("kind", [k for k in ROOMS if k != "fruit"])
def test_every_built_in_says_what_it_is(kind: str) -> None:
    for name, part in catalogue(kind).items():
        assert part.summary(), name
        assert part.kind == kind
        for field, _, _, text in part.settings():
            assert text, f"{kind} {name}: {field} has no help"


def test_a_class_is_found_by_import_path_of_a_module_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from hansa.topology import Ring\nclass Loop(Ring):\n    '''A ring.'''\nx = 1\n"
    )
    found = find("topology", f"{file}:Loop")
    assert found.summary() == "A ring."
    assert find("topology", f"{file}:Loop") is found
    assert find("topology", "hansa.topology:Ring").name == "ring"
    for name, problem in {f"{file}:x": "is no topology", f"{file}:y": "has no 'y'"}.items():
        with pytest.raises(ConfigError, match=problem):
            find("topology", name)


def test_a_subclass_of_a_built_in_is_not_taken_for_it(tmp_path: Path) -> None:
    file = tmp_path / "theirs.py"
    file.write_text("from hansa.topology import Ring\nclass Loop(Ring):\n    '''A ring.'''\n")
    loop = find("topology", f"{file}:Loop").parse({})
    assert loop.dump() == {"name": f"{file}:Loop"}


def test_a_module_that_is_missing_is_told_from_one_that_fails(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be imported"):
        load_module("no_such_module_anywhere")
    with pytest.raises(ConfigError, match="no such file"):
        load_module(str(tmp_path / "absent.py"))
    broken = tmp_path / "broken.py"
    broken.write_text("import no_such_module_anywhere\n")
    with pytest.raises(ConfigError, match=r"fails when it is imported: .*broken\.py, line 1"):
        load_module(str(broken))


def test_a_file_is_loaded_once(tmp_path: Path) -> None:
    file = tmp_path / "once.py"
    file.write_text("value = object()\n")
    assert load_module(str(file)).value is load_module(str(file)).value


def test_a_component_that_lacks_a_method_says_which(tmp_path: Path) -> None:
    (tmp_path / "halves.py").write_text(
        "from hansa import Partition\nclass Halves(Partition):\n    '''No deal.'''\n"
    )
    with pytest.raises(ConfigError, match="Halves does not define deal"):
        find("partition", f"{tmp_path / 'halves.py'}:Halves").parse({})
