"""What a run of ``hansa recommend`` came to: stars for pairs, and items for users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from hansa.base.component import register
from hansa.base.errors import DataError
from hansa.experiment.deliverable import Deliverable
from hansa.experiment.network_product import NetworkProduct
from hansa.report import RunFolder
from hansa.report.which import Which

if TYPE_CHECKING:
    import polars

    from hansa.experiment.trained import TrainedRun
    from hansa.report.predictions import Predictions


@register("recommend")
class RecommenderModel(NetworkProduct):
    """A node's model of stars; by default that of the node that has the user."""

    command: ClassVar[str] = "recommend"

    def delivered(self, run: RunFolder, which: Which) -> Deliverable:
        """A node's network, or the one that there is."""
        from hansa.experiment.run_model import open_models
        from hansa.recommend.recommend_file import RecommendFile

        which.only("a recommender", "node", "average", "top")
        models = open_models(run, kind=RecommendFile)
        chosen = "average" if which.average else which.node
        facts = {"run": run.path.resolve().name, "round": models.done, "node": chosen, **run.marks}
        module = models.module(which.node, which.average)
        return Deliverable(module, models.signature, facts, models.settings.model)

    def trained(self, run: RunFolder) -> Any:
        """With its ratings and its block."""
        from hansa.recommend.recommending import open_recommender

        return open_recommender(run)

    def answers(self, run: RunFolder, data: Any, which: Which) -> Predictions:
        """Of pairs the stars; of users alone, the items that each is recommended."""
        which.only("a recommender", "node", "average", "top")
        frame, where = _frame(data)
        trained = self.trained(run)
        signature = _signature(trained)
        if frame is not None:
            from hansa.data import tablefile
            from hansa.data.brought_words import ids_of, named_column

            user = named_column("user", frame.columns, signature, where)
            if user and named_column("item", frame.columns, signature, where) is None:
                column, about = tablefile.arrays(frame)[user], f"{where}: column {user!r}"
                names = signature.user_names
                ids = ids_of(column, "user", names, len(names), about)
                if not len(ids):
                    raise DataError(f"{about} has no rows")
                return _lists(trained, [names[k] for k in dict.fromkeys(ids.tolist())], which)
        if which.average or which.node is not None or trained.job.servers:
            return super().answers(run, data, which)
        return _at_home(trained, data, signature)


def _frame(data: Any) -> tuple[polars.DataFrame | None, str]:
    """(what is brought as a table, what it is called); None of arrays."""
    from pathlib import Path

    from hansa.base.errors import ConfigError
    from hansa.base.lazy import polars as pl
    from hansa.data import tablefile

    if isinstance(data, str | Path):
        path = Path(data).expanduser()
        if not path.is_file():
            raise ConfigError("input", str(path), "there is no such file", "check the path")
        if path.suffix.lower() in (*tablefile.TEXT, *tablefile.BINARY):
            return tablefile.cleaned(tablefile.read_frame(path)), str(path)
        return None, str(path)
    if type(data).__module__.startswith("pandas"):
        data = pl.from_pandas(data)
    if isinstance(data, pl.DataFrame):
        return tablefile.cleaned(data), "the table"
    return None, "the array"


def _signature(trained: TrainedRun) -> Any:
    from hansa.data.signature import Signature

    return Signature.of(trained.job.dataset, trained.settings.data)


def _lists(trained: TrainedRun, users: list[str], which: Which) -> Predictions:
    """The items of each user, best first."""
    from hansa.recommend.recommending import recommended
    from hansa.report.predictions import Predictions

    if trained.job.servers:
        trained.module(which.node, which.average)  # refuses one that there is not
    rows: list[dict[str, Any]] = []
    remarks: dict[str, None] = {}
    for user in users:
        said = recommended(trained, user, which.top, which.node, which.average)
        remarks |= dict.fromkeys(said["remarks"])
        rows += [
            {"user": user, "rank": one["rank"], "item": one["item"], "title": one["title"],
             "value": one["stars"]}
            for one in said["items"]
        ]  # fmt: skip
    return Predictions(rows, {}, tuple(remarks))


def _at_home(trained: TrainedRun, data: Any, signature: Any) -> Predictions:
    """Stars of pairs, each by the model of the node that has the user."""
    import torch

    from hansa.data.brought import Brought, read
    from hansa.experiment.predicting import told
    from hansa.recommend.recommending import home_of

    brought = read(data, signature)
    if not len(brought.names):
        raise DataError("there is no pair")
    users = brought.stored[:, 0].numpy()
    values = torch.zeros(len(users), 1)
    homes = {int(user): home_of(trained, int(user)) for user in np.unique(users)}
    at = np.array([homes[int(user)] for user in users])
    for node in np.unique(at):
        some = torch.from_numpy(np.flatnonzero(at == node))
        with torch.no_grad():
            stars = trained.module(int(node))(brought.stored[some])
        values[some] = stars.reshape(-1, 1).float()

    def scores(_: Brought) -> torch.Tensor:
        return values

    return told(brought, signature, scores)
