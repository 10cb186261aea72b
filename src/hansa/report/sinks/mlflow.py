"""MLflow: a run in an experiment of a tracking server, a database or a folder."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field, PrivateAttr

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.report.sink import Begun, Sink, flat

_LONG, _MANY = 500, 100  # characters of a parameter, parameters in one call: MLflow's own limits
_STATUS = {"finished": "FINISHED", "interrupted": "KILLED", "diverged": "FAILED"}


@register("mlflow")
class MLflow(Sink):
    """A run in MLflow: settings as parameters, figures as metrics by round."""

    library: ClassVar[str] = "mlflow"
    uri: str | None = Field(
        None,
        description="of the tracking server, or a folder, or a database's (needs the whole mlflow "
        "instead of mlflow-skinny); without one $MLFLOW_TRACKING_URI, else the folder mlruns",
    )
    experiment: str = Field("hansa", min_length=1, description="made where there is none")
    _client: Any = PrivateAttr(None)
    _run: str = PrivateAttr("")

    def check(self) -> None:
        super().check()
        if self.uri and urlsplit(self.uri).password:
            fix = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment"
            raise ConfigError("uri", None, "holds a password, which run folders would keep", fix)

    def begin(self, run: Begun) -> Mapping[str, Any]:
        from mlflow.tracking import MlflowClient

        uri = run.kept.get("uri") or self._place()
        if uri.startswith("file:"):  # a folder that was asked for
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = MlflowClient(tracking_uri=uri)
        if "run" in run.kept:
            self._run = str(run.kept["run"])
            self._client.update_run(self._run, status="RUNNING")
            self._client.set_tag(self._run, "hansa.resumed_after_round", str(run.round))
            return run.kept
        known = self._client.get_experiment_by_name(self.experiment)
        number = known.experiment_id if known else self._client.create_experiment(self.experiment)
        made = self._client.create_run(number, run_name=run.folder.name)
        self._run = made.info.run_id
        self._describe(run)
        return {"uri": uri, "run": self._run}

    def record(self, round: int, figures: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        named = {re.sub(r"[^\w./ -]", "_", name): value for name, value in figures.items()}
        metrics = [Metric(name, value, now, round) for name, value in named.items()]
        self._client.log_batch(self._run, metrics=[m for m in metrics if math.isfinite(m.value)])

    def end(self, status: str) -> None:
        self._client.set_terminated(self._run, status=_STATUS.get(status, "FAILED"))

    def _place(self) -> str:
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or "mlruns"
        return uri if urlsplit(uri).scheme else Path(uri).expanduser().absolute().as_uri()

    def _describe(self, run: Begun) -> None:
        from mlflow.entities import Param

        settings = [Param(name, str(value)[:_LONG]) for name, value in flat(run.config).items()]
        for start in range(0, len(settings), _MANY):
            self._client.log_batch(self._run, params=settings[start : start + _MANY])
        for name in ("hansa", "commit", "platform"):
            self._client.set_tag(self._run, f"hansa.{name}", str(run.environment.get(name, "")))
        if run.group:
            self._client.set_tag(self._run, "hansa.sweep", run.group)
        for name, value in run.tags.items():
            self._client.set_tag(self._run, f"hansa.sweep.{name}", value[:_LONG])
        self._client.set_tag(self._run, "hansa.folder", str(run.folder.absolute()))
