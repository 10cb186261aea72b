"""The file of an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.experiment.settings_file import SettingsFile


class EnsembleFile(EnsembleSettings, SettingsFile):
    """An ensemble of models that clients train alone. ``--set`` reaches every field."""

    command: ClassVar[str] = "combine ensemble"
    begins: ClassVar[str] = "hansa.combine.ensemble.run:ensemble"
    checks: ClassVar[str] = "hansa.combine.ensemble.run:check"
    sketch: ClassVar[str | Mapping[str, Any]] = "digits_ensemble"
    own_data: ClassVar[tuple[str, str] | tuple[()]] = ("data", "file")
    fits: ClassVar[str] = "hansa.experiment.own_data:fit_ensemble"
    shortcuts: ClassVar[Mapping[str, str]] = {"nodes": "clients", "rounds": "aggregate.rounds"}
    resumable: ClassVar[tuple[str, ...]] = ("runtime", "device")

    verb: Literal["combine"] = Field("combine", description="whose file this is")

    def label(self) -> str:
        return f"ensemble-{self.data.name.rpartition(':')[2]}"
