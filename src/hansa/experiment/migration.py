"""A run's folder or a run file of an earlier form, written anew in today's."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.files import atomic_write, writing
from hansa.base.forms import FORMAT, brought_up, move_files, number_of
from hansa.base.paths import written as beside
from hansa.base.yamltext import dump_yaml
from hansa.experiment.settings_file import kind_of, read_yaml
from hansa.report import RunFolder
from hansa.report.folder import CONFIG, held


@dataclass
class Migrated:
    """What became of a folder or a file.

    Attributes:
        before: its form; where it did not say, the first.
        changes: in sentences; none where it had today's form.
        kept: where a file lies as it was.
    """

    path: Path
    before: int
    now: int = FORMAT
    changes: list[str] = field(default_factory=list)
    kept: Path | None = None


def migrate(path: Path) -> Migrated:
    """Write a run's folder, or a run file, in today's form. Measurements stay as they are.

    Raises:
        CheckpointError: a folder that is no run, is damaged or of a newer form, or whose run goes
            on.
        ConfigError: a file that cannot be read, is of a newer form, or would not be understood.
        DiskError: it cannot be written.
    """
    return _folder(path) if path.is_dir() else _file(path)


def _folder(path: Path) -> Migrated:
    RunFolder.open(path)  # so that no lock is left in a folder that is no run
    with held(path):
        folder = RunFolder.open(path)  # its config is today's already
        written = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
        result = Migrated(path, number_of(written, 1))
        try:
            kind_of(folder.config).parse(folder.config)
        except ConfigError as error:
            problem = f"{path}: cannot be brought to form {FORMAT}: {error}"
            raise CheckpointError(problem) from error
        result.changes = differences(written, folder.config)
        result.changes += move_files(path, result.before)
        if result.changes:  # the settings last: with them the folder says that it is done
            folder.event("migrated", before=result.before, now=FORMAT, changes=result.changes)
            folder.reconfigure(folder.config)
    return result


def _file(path: Path) -> Migrated:
    path = path.expanduser()
    written = read_yaml(path)
    number = number_of(written, 1)
    today = brought_up(written, number)
    result = Migrated(path, number, changes=differences(written, today))
    kind_of(today).parse(beside(today, path.parent.absolute()))
    if not [change for change in result.changes if not change.startswith("format")]:
        if "format" not in written:  # it did not say, and is as it has to be
            result.before, result.changes = FORMAT, []
            return result
        if number == FORMAT:
            return result
    result.kept = path.with_name(f"{path.name}.old")
    if result.kept.exists():
        problem, fix = f"{result.kept} is there already", "move it away"
        raise ConfigError("file", str(path), problem, fix)
    with writing(result.kept):
        shutil.copyfile(path, result.kept)
    with atomic_write(path, "w") as handle:
        dump_yaml(today, handle, sort_keys=False)
    return result


def differences(before: Mapping[str, Any], now: Mapping[str, Any], under: str = "") -> list[str]:
    """What one mapping of settings has that another has not, or has otherwise, in sentences."""
    sentences = []
    for key in dict.fromkeys([*before, *now]):
        name, old, new = f"{under}{key}", before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            sentences += differences(old, new, f"{name}.")
        elif key not in now:
            sentences.append(f"{name} is gone")
        elif isinstance(new, Mapping) and not isinstance(old, Mapping):
            sentences += differences({}, new, f"{name}.")
        else:
            sentences.append(f"{name} is {new}" if not isinstance(new, list) else f"{name} is new")
    return sentences
