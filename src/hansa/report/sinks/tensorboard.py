"""TensorBoard: event files that ``tensorboard --logdir`` shows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, PrivateAttr

from hansa.base.component import register
from hansa.report.sink import Begun, Sink


@register("tensorboard")
class TensorBoard(Sink):
    """Event files for TensorBoard, a folder for each run."""

    library: ClassVar[str] = "tensorboard"
    path: Path | None = Field(
        None,
        description="the folder to give to tensorboard --logdir, in which the run gets one of its "
        "own name, one of a sweep within one of the sweep's; without one it is tensorboard/ in the "
        "run's folder",
    )
    _writer: Any = PrivateAttr(None)

    def begin(self, run: Begun) -> Mapping[str, Any]:
        from torch.utils.tensorboard import SummaryWriter

        name = str(run.kept.get("name") or Path(run.group) / run.folder.absolute().name)
        folder = self.path / name if self.path else run.folder / "tensorboard"
        # What a resumed run measures anew takes the place of what was there.
        again = run.round + 1 if run.kept else None
        self._writer = SummaryWriter(str(folder), purge_step=again)
        if not run.kept:
            text = json.dumps(run.config, indent=1)
            self._writer.add_text("settings", "\n".join(f"    {x}" for x in text.splitlines()))
        return {"name": name}

    def record(self, round: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, round)
        self._writer.flush()

    def end(self, status: str) -> None:
        self._writer.close()
