"""The models that the nodes of a run of ``hansa learn`` came to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hansa.base.bundle import write_tensors
from hansa.base.component import register
from hansa.base.errors import CheckpointError, ConfigError
from hansa.base.lazy import torch, without_gradients
from hansa.combine.merge.merge_tasks import MergeTasks, Say, Split, TaskSuite
from hansa.experiment.trained import TrainedRun, open_trained, settings_of
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor

_EVALUATED = 512  # examples at a time


@register("sites")
class Sites(MergeTasks):
    """The nodes' models of a finished run of hansa learn, such as one of isolated."""

    run: Path = Field(description="its folder")
    judged_on: Literal["own", "all"] = Field(
        "own",
        description="test examples: each class as often as the site has it, or as they are",
    )

    @property
    def has_module(self) -> bool:
        """The run's network."""
        return True

    def check(self) -> None:
        """It must be a run of learn with several models."""
        self._folder()

    def _folder(self) -> RunFolder:
        try:
            folder = RunFolder.open(self.run)
        except CheckpointError as error:
            fix = "the folder of a run of hansa learn"
            raise ConfigError("tasks.run", str(self.run), str(error), fix) from None
        settings_of(folder, "tasks.run")
        return folder

    def suite(self, seed: int, place: Path, say: Say) -> TaskSuite:
        """Each node's model, and the one that all began from, as files."""
        say(f"opening {self.run.name}")
        folder = self._folder()
        trained = open_trained(folder, settings_of(folder, "tasks.run"), "tasks.run")
        nodes = len(trained.block.models()[1])
        if nodes < 2:
            problem = f"came to {nodes} model"
            fix = "a run whose nodes keep models of their own, such as isolated"
            raise ConfigError("tasks.run", str(self.run), problem, fix)
        if not trained.job.dataset.spec.classes:
            problem = "is a regression, and merges are judged by accuracy"
            raise ConfigError("tasks.run", str(self.run), problem, "a run on data with classes")
        modules = {"base": trained.job.module}
        modules |= {f"site_{node}": trained.module(node) for node in range(nodes)}
        files = {name: place / name / "model.safetensors" for name in modules}
        for name, module in modules.items():
            if not files[name].exists():
                write_tensors(files[name], module.state_dict())
        models = {name: file.parent for name, file in files.items() if name != "base"}
        held = len(trained.job.dataset.test)
        judge = _SiteJudge(trained, self.judged_on)
        return TaskSuite(files["base"].parent, models, judge, lambda: trained.module(0),
                         dict.fromkeys(models, held))  # fmt: skip


class _SiteJudge:
    """Accuracy on the test set: of all, or with classes as a site has them."""

    def __init__(self, trained: TrainedRun, judged_on: str) -> None:
        self._data, self._module = trained.job.dataset, trained.module(0)
        self._shares: dict[str, Tensor] = {}
        if judged_on == "own":
            for node, part in enumerate(trained.job.parts):
                labels = self._data.train.targets[torch.from_numpy(part)].long().flatten()
                counts = labels.bincount(minlength=self._data.spec.classes)
                self._shares[f"site_{node}"] = counts.double() / counts.sum()

    @without_gradients
    def __call__(self, task: str, state: Mapping[str, Tensor], split: Split) -> float:
        self._module.load_state_dict(dict(state))
        self._module.eval()
        test = self._data.test
        right = torch.empty(len(test), dtype=torch.double)
        for rows in torch.arange(len(test)).split(_EVALUATED):
            x, y = self._data.gather(test, rows)
            scores = self._module(x)
            named = (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(-1)
            right[rows] = (named == y).double()
        if task not in self._shares:
            return float(right.mean())
        classes = self._data.spec.classes
        labels = test.targets.long().flatten()
        each = torch.zeros(classes, dtype=torch.double).index_add_(0, labels, right)
        each /= labels.bincount(minlength=classes).clamp(min=1)
        present = labels.bincount(minlength=classes) > 0  # of the others nothing can be said
        shares = self._shares[task] * present
        return float((each * shares).sum() / shares.sum())
