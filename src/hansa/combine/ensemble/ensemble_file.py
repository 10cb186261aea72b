"""The file of an ensemble."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from hansa.combine.ensemble.ensemble_settings import EnsembleSettings
from hansa.experiment.settings_file import SettingsFile


class EnsembleFile(EnsembleSettings, SettingsFile):
    """An ensemble of models that clients train alone. ``--set`` reaches every field."""

    command: ClassVar[str] = "combine ensemble"
    begins: ClassVar[str] = "hansa.combine.ensemble.run:ensemble"
    checks: ClassVar[str] = "hansa.combine.ensemble.run:check"
    resumable: ClassVar[tuple[str, ...]] = ("runtime", "device")

    verb: Literal["combine"] = Field("combine", description="whose file this is")

    def label(self) -> str:
        return f"ensemble-{self.data.name.rpartition(':')[2]}"
