"""Every page is found from the first, every link leads somewhere, every block has a language.

What the site itself is made of is checked where it is built: ``make docs`` takes no warning.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from hansa.base.homes import ROOMS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
OUTSIDE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
FENCE = re.compile(r"^( *)```(.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
GENERATED = re.compile(r"^<!-- generated: ", re.MULTILINE)


def without_code(text: str) -> str:
    """A page's text without its blocks of code and what stands between backticks."""
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site name them."""
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#+ (.+?)\s*$", text, re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(f"{slug}-{found[slug]}" if slug in found else slug)
        found[slug] = found.get(slug, 0) + 1
    return names


@pytest.mark.usefixtures("generators")
def test_every_page_is_found_from_the_first() -> None:
    from weave import pages_beneath, patterns_of

    found, ahead = set(), [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page in found:
            continue
        found.add(page)
        text = page.read_text()
        ahead += [(page.parent / f"{name}.md").resolve() for name in pages_beneath(text)]
        for pattern in map(Path, patterns_of(text)):
            ahead += (page.parent / pattern.parent).resolve().glob(pattern.name)
    everywhere = {*PAGES, *(ROOT / "benchmarks" / "results").glob("*.md")}
    lost = sorted(str(page.relative_to(ROOT)) for page in everywhere - found)
    assert not lost, "give these a line in docs/how_to.md, docs/explanations.md or a README there"


@pytest.mark.usefixtures("generators")
def test_marks_become_what_they_stand_for() -> None:
    from weave import weave

    source = ["# A\n\n<!-- toctree -->\n\n- [B](b.md): it\n- [C](../c.md)\n- no [D](d.md)\n"]
    weave(None, "docs/how/a", source)
    assert "```{toctree}\n:hidden:\n\nb\n../c\n```" in source[0]
    assert "- [B](b.md): it" in source[0]
    source = ["[all](../../examples), <!-- toctree: x/*.md -->\n\n<!-- toctree: x/*.md -->\n"]
    weave(None, "docs/how/a", source)
    assert "[all](../gallery.md)" in source[0]
    assert source[0].count(":glob:\n\nx/*\n") == 1, "a mark stands in a line of its own"
    with pytest.raises(ValueError, match="nothing makes 'weather'"):
        weave(None, "docs/how/a", ["<!-- generated: weather -->"])


@pytest.mark.parametrize("page", [*OUTSIDE, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in LINK.findall(without_code(page.read_text())):
        if re.match(r"(https?|mailto):", link):
            continue
        target, _, heading = link.partition("#")
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), link
        assert there.is_relative_to(ROOT), link
        if heading and there.suffix == ".md" and not GENERATED.search(there.read_text()):
            assert heading in anchors(there), f"{link}: {sorted(anchors(there))}"


@pytest.mark.parametrize("page", [*OUTSIDE, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_blocks_of_code_say_their_language(page: Path) -> None:
    opened = ""
    for fence in FENCE.finditer(page.read_text()):
        if opened:
            assert not fence[2].strip(), f"{page}: a block in {opened} is not closed"
            opened = ""
        else:
            opened = fence[2].strip()
            assert opened, "write ```text where it is no language: a page is read, not guessed"
    assert not opened, "the last block is not closed"


def test_the_reference_has_every_kind_of_part_once() -> None:
    text = "\n".join(page.read_text() for page in sorted((DOCS / "reference").glob("*.md")))
    shown = [
        kind for kinds in re.findall(r"generated: parts (.+?) -->", text) for kind in kinds.split()
    ]
    assert sorted(shown) == sorted(ROOMS)


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> None:
    """What makes the reference needs no Sphinx; only ``listings`` does."""
    monkeypatch.syspath_prepend(DOCS / "_ext")
    for name in ("commands", "settings", "public", "tables", "weave"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("generators")
def test_the_reference_says_what_the_code_says() -> None:
    from commands import all_commands
    from settings import parts, run_files
    from tables import cell

    from hansa.base.component import catalogue
    from hansa.cli.listing import settings_of
    from hansa.engine import Algorithm

    told = all_commands()
    assert "## hansa learn\n" in told
    assert "`--resume RUN`" in told
    assert "## hansa combine ensemble\n" in told
    assert "## learn\n" in run_files()
    said = parts("algorithm")
    sections = dict(
        zip(*[iter(re.split(r"^### (\w+)$", said, flags=re.MULTILINE)[1:])] * 2, strict=True)
    )
    common = settings_of(Algorithm)
    assert set(sections) == set(catalogue("algorithm"))
    for name, part in catalogue("algorithm").items():
        assert cell(part.summary()) in sections[name]
        assert part.reference is None or str(part.reference) in sections[name]
        own = [one["setting"] for one in settings_of(part) if one not in common]
        assert re.findall(r"^\| `([\w.]+)` \|", sections[name], re.MULTILINE) == own


@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a | b", "a \\| b"),
        ("``x[0]`` of *two*", "`x[0]` of \\*two\\*"),
        (
            "see :class:`~hansa.base.Part` and :meth:`go <there.go>`",
            "see `hansa.base.Part` and `go`",
        ),
        ("less < more", "less \\< more"),
    ],
)
def test_cells_show_what_they_say(text: str, shown: str) -> None:
    from tables import cell

    assert cell(text) == shown
