"""Rules on disk: one bundle each, from which they answer; loading one runs no code of others.

::

    aggregators/card.json              their names by file, and which is kept
    aggregators/rule_00.safetensors    settings, classes and members, and what was learned
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hansa.base.bundle import read_bundle, read_facts, write_bundle
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import write_json
from hansa.infer.robust.entries import Entry, resolve
from hansa.infer.robust.learned import LearnedAggregator
from hansa.infer.robust.score_aggregator import ScoreAggregator, Static

if TYPE_CHECKING:
    from torch import Tensor

FOLDER, CARD = "aggregators", "card.json"
_NEW = "begin a new run of hansa infer robust"


def built(
    entry: Entry, name: str, classes: int, learned: Mapping[str, Tensor] | None = None
) -> ScoreAggregator:
    """An entry of a file as what answers."""
    if isinstance(entry, LearnedAggregator):
        return entry.build(name, classes, learned or {})
    return Static(entry, name)


def save_aggregators(
    path: Path,
    entries: Mapping[str, Entry],
    learned: Mapping[str, Mapping[str, Tensor]],
    kept: str,
    facts: Mapping[str, Any],
) -> None:
    """Write the rules of a run.

    Args:
        path: the run folder.
        learned: what rules have learned, by name.
        kept: the name of the one that answers if nobody says which.
        facts: ``classes``, ``members``, ``f`` and ``class_names``.
    """
    files = {}
    for k, (name, entry) in enumerate(entries.items()):
        files[name] = f"rule_{k:02d}"
        about = {"name": name, "entry": entry.dump(), **facts}
        write_bundle(path / FOLDER / files[name], about, dict(learned.get(name, {})))
    write_json(path / FOLDER / CARD, {"format": 1, "kept": kept, "files": files, **facts})


def card_of(path: str | Path) -> dict[str, Any]:
    """What is known of a run's rules: ``kept``, ``files``, ``classes``, ``members``, ``f`` …

    Raises:
        CheckpointError: there are none, or the card is damaged.
    """
    card = read_facts(Path(path).expanduser() / FOLDER / CARD, _NEW)
    if card.get("format") != 1:
        raise CheckpointError(f"{path}: its rules are of another format; {_NEW}")
    return card


def load_aggregator(
    path: str | Path, name: str | None = None, trust: bool = False
) -> ScoreAggregator:
    """A rule of a run of ``hansa infer robust``.

    Args:
        name: what the run's table calls it; None: the one that is kept.
        trust: also build what is named by import path, which runs code.

    Raises:
        CheckpointError: the run has no rules, or a file is damaged.
        ConfigError: there is no rule of that name, or code would have to be trusted.
    """
    card = card_of(path)
    chosen = card["kept"] if name is None else name
    if chosen not in card["files"]:
        fix = f"one of {', '.join(card['files'])}"
        raise ConfigError("aggregator", chosen, "is not a rule of this run", fix)
    place = Path(path).expanduser() / FOLDER / card["files"][chosen]
    facts, learned = read_bundle(place, _NEW)
    if not trust and (code := _code(facts["entry"])):
        problem = "is named by import path, and loading it runs its code"
        raise ConfigError("trust", code, problem, "--trust, if you trust it")
    return built(resolve(facts["entry"]), chosen, int(facts["classes"]), learned)


def _code(settings: Any) -> str:
    """The first name in settings that is an import path; empty if there is none."""
    if not isinstance(settings, Mapping):
        return ""
    name = str(settings.get("name", ""))
    if ":" in name:
        return name
    return next((code for inner in settings.values() if (code := _code(inner))), "")
