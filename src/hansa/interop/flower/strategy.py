"""The server's side: a run file as a Flower strategy and as a whole ServerApp."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from logging import getLogger
from pathlib import Path
from typing import Any, NoReturn

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import Result, Strategy

from hansa.base.errors import ConfigError
from hansa.engine import Block, Job
from hansa.experiment import RunFile, run
from hansa.interop.flower.runtime import FlowerRuntime, Line
from hansa.interop.flower.settings import for_flower, overrides, to_text
from hansa.models import frozen_tensors
from hansa.report import RunFolder
from hansa.report.scores import says_how_good

Evaluate = Callable[[int, ArrayRecord], MetricRecord | None]
log = getLogger("flwr")


def server_app(
    run_file: str | Path, out: str | Path | None = None, wait: float = 60.0
) -> ServerApp:
    """A Flower ServerApp that does the run of a run file.

    Flower's run config may change settings (``set.rounds = 5``) and say where the run folder goes
    (``out``).

    Args:
        out: the run folder; by default a new one under ``runs/``.
        wait: seconds in which all clients must be there.
    """
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config: dict[str, Any] = dict(context.run_config)
        chosen = RunFile.load(Path(run_file), overrides(config))
        HansaStrategy(chosen, out or config.get("out") or None, wait).start(grid)

    return app


class HansaStrategy(Strategy):
    """A run of hansa with Flower's nodes as clients.

    The algorithm's own script says who is asked for what and when, so :meth:`start` is the one
    method that does anything.

    Args:
        run_file: the run, or a file with it; as many nodes as there are Flower nodes.
        out: the run folder; by default a new one under ``runs/``.
        wait: seconds in which all clients must be there.

    Attributes:
        folder: the run folder, once there is one.
    """

    def __init__(
        self, run_file: RunFile | str | Path, out: str | Path | None = None, wait: float = 60.0
    ) -> None:
        chosen = run_file if isinstance(run_file, RunFile) else RunFile.load(Path(run_file))
        self.chosen, self.out, self.wait = for_flower(chosen), out, wait
        self.folder: RunFolder | None = None

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int | None = None,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Evaluate | None = None,
    ) -> Result:
        """Do the run, and leave its folder.

        Args:
            num_rounds: instead of the run file's.
            timeout: seconds in which a client must answer.
            evaluate_fn: is given the number of rounds done and the global model.

        Raises:
            ConfigError: a setting cannot work, or clients are missing.
            RunError: a client failed; says which, and why.
        """
        for name, value in (
            ("initial_arrays", initial_arrays),
            ("train_config", train_config),
            ("evaluate_config", evaluate_config),
        ):
            if value is not None:
                raise ConfigError(name, None, "the run file says all of this", "leave it out")
        chosen = self.chosen
        if num_rounds is not None:
            chosen = RunFile.parse({**chosen.dump(), "rounds": num_rounds})
        result = Result()

        def after(job: Job, block: Block, done: int) -> None:
            result.arrays = arrays(job, block)
            metrics = evaluate_fn(done, result.arrays) if evaluate_fn else None
            if metrics is not None:
                result.evaluate_metrics_serverapp.setdefault(done, MetricRecord()).update(metrics)

        def progress(done: int, figures: dict[str, float]) -> None:
            test, rest = MetricRecord(), MetricRecord()
            for name, value in figures.items():
                (test if says_how_good(name) else rest)[name] = float(value)
            if done:
                result.train_metrics_clientapp[done] = rest
            if test:
                result.evaluate_metrics_serverapp[done] = test
            log.info("[ROUND %s/%s] %s", done, chosen.rounds, test or rest)

        self.summary()
        line = Line(grid, self.wait, timeout, to_text(chosen), after)
        placed = chosen.model_copy(update={"runtime": FlowerRuntime.over(line)})
        self.folder = run(placed, self.out, progress)
        log.info("hansa: the run folder is %s", self.folder.path.resolve())
        return result

    def summary(self) -> None:
        """Say what will be run."""
        name, chosen = type(self.chosen.algorithm).name, self.chosen
        log.info("hansa: %s, %d clients, seed %d", name, chosen.nodes, chosen.seed)

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Not used, as the three below."""
        self._refuse()

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        self._refuse()

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        self._refuse()

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise NotImplementedError("a script of hansa's drives the rounds: call start")


def arrays(job: Job, block: Block) -> ArrayRecord:
    """The global model by PyTorch's names; of several, each name begins with its server's id."""
    at, rows = block.models()
    layout, named = block.trainer.layout, {}
    for name, still in frozen_tensors(block.trainer.module).items():
        named[name] = Array(still.detach().float().cpu().numpy())
    for k, row in zip(at, rows, strict=True):
        before = "" if len(rows) == 1 else f"{int(block.ids[k])}."
        for name, value in layout.views(row.detach().cpu()).items():
            named[before + name] = Array(value.numpy())
    return ArrayRecord(named)
