"""Weights & Biases: a run of a project, kept in files or sent at once."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, PrivateAttr

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.report.sink import Begun, Sink

_LONG = 64  # characters of a tag: W&B's own limit


@register("wandb")
class WeightsAndBiases(Sink):
    """A run in Weights & Biases: by default files, which wandb sync sends when you like."""

    library: ClassVar[str] = "wandb"
    mode: Literal["offline", "online"] = Field(
        "offline", description="offline: files only, nothing leaves this machine; online: sent"
    )
    project: str = Field("hansa", min_length=1, description="made where there is none")
    entity: str | None = Field(None, description="user or team; by default your own")
    path: Path | None = Field(
        None, description="the folder of its files; without one wandb/ in the run's folder"
    )
    _run: Any = PrivateAttr(None)

    def check(self) -> None:
        super().check()
        if self.mode == "online":
            import wandb

            if not wandb.api.api_key:  # it would ask on the terminal, in the middle of the run
                fix = "wandb login, or mode: offline"
                raise ConfigError("mode", self.mode, "nobody is logged in to W&B here", fix)

    def begin(self, run: Begun) -> Mapping[str, Any]:
        import wandb

        number = str(run.kept.get("id") or uuid.uuid4().hex[:12])
        folder = self.path or run.folder
        folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=number,
            name=run.folder.name,
            group=run.group or None,
            tags=[f"{name}={value}"[:_LONG] for name, value in run.tags.items()] or None,
            dir=str(folder),
            mode=self.mode,
            config=dict(run.config),
            resume="allow" if self.mode == "online" else None,
            reinit="create_new",
            settings=quiet,
        )
        return {"id": number}

    def record(self, round: int, figures: Mapping[str, float]) -> None:
        self._run.log({"round": round, **figures}, step=round)

    def end(self, status: str) -> None:
        self._run.summary["status"] = status
        self._run.finish(exit_code=0 if status == "finished" else 1)
