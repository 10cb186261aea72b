"""The models that the nodes of a run of ``hansa learn`` came to, or what each makes its own of one.

Personalised by local steps from the common model: Yu, Bagdasaryan and Shmatikov (2020), "Salvaging
Federated Learning by Local Adaptation", section 3, fine-tuning.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from hansa.base.bundle import write_tensors
from hansa.base.component import register
from hansa.base.errors import CheckpointError, ConfigError
from hansa.combine.merge.merge_tasks import MergeTasks, Say, TaskSuite
from hansa.combine.merge.tasks.site_judge import SiteJudge
from hansa.data.signature import Signature
from hansa.engine.training.schedules import Constant
from hansa.experiment.trained import TrainedRun, open_trained, settings_of
from hansa.models import ParameterLayout
from hansa.report import RunFolder

if TYPE_CHECKING:
    from torch import Tensor, nn

_PERSONAL = 2**20  # names the batches of personal steps: no round of a run has its number


@register("sites")
class Sites(MergeTasks):
    """The nodes' models of a finished run of hansa learn, such as one of isolated.

    A run whose nodes came to one model, or to nearly one (fedavg, dpsgd), is personalised first:
    from the average of its models each client takes steps on its own examples, with the run's
    optimizer, and the average is the base.
    """

    run: Path = Field(description="its folder")
    judged_on: Literal["own", "all"] = Field(
        "own",
        description="test examples: the owner's that the site has, where examples are dealt by "
        "owners (natural); else each class as often as the site has it; or as they are",
    )
    personalise: int = Field(
        0, ge=0, description="local steps from the average of the run's models; 0: as they are"
    )
    lr: float | None = Field(None, gt=0, description="of these steps; none: the run's optimizer's")

    @property
    def has_module(self) -> bool:
        """The run's network."""
        return True

    def check(self) -> None:
        """It must be a run of learn with several models, or with clients that make some."""
        folder = self._folder()
        chosen = settings_of(folder, "tasks.run")
        dealt = folder.read_json("partition.json")
        if dealt is not None and "histogram" not in dealt:
            raise self._no_classes()
        if self.lr is not None and not self.personalise:
            problem = "is of steps that nobody takes"
            raise ConfigError("tasks.lr", self.lr, problem, "tasks.personalise: 100")
        if self.personalise and chosen.privacy is not None:
            problem = "is differentially private, and steps on its examples would be uncounted"
            fix = "tasks.personalise: 0, where nodes keep models; or a run without privacy"
            raise ConfigError("tasks.run", str(self.run), problem, fix)
        if not self.personalise and (servers := chosen.algorithm.servers(chosen.nodes)):
            problem = f"has {'a server' if servers == 1 else 'servers'}, and its clients no models"
            fix = "tasks.personalise: 100, local steps that make it each client's own"
            raise ConfigError("tasks.run", str(self.run), problem, fix)
        if chosen.nodes < 2:
            problem = "has 1 node"
            raise ConfigError("tasks.run", str(self.run), problem, "a run of two nodes or more")

    def _no_classes(self) -> ConfigError:
        problem = "is a regression, and merges are judged by accuracy"
        return ConfigError("tasks.run", str(self.run), problem, "a run on data with classes")

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
        if not trained.job.dataset.spec.classes:
            raise self._no_classes()
        rows = trained.block.models()[1]
        nodes = trained.job.network.clients if self.personalise else len(rows)
        if nodes < 2:
            problem = f"came to {nodes} model"
            fix = "tasks.personalise: 100, or a run whose nodes keep models, such as isolated"
            raise ConfigError("tasks.run", str(self.run), problem, fix)
        names = [f"site_{node}" for node in range(nodes)]
        files = {name: place / name / "model.safetensors" for name in ["base", *names]}
        if not all(file.exists() for file in files.values()):
            module = trained.job.module
            layout = ParameterLayout.of(module)
            base = layout.flatten(module)
            if self.personalise:
                say(f"{self.personalise} steps of each of {nodes} clients")
                base = rows.double().mean(0).float()
                rows = self._personal(trained, base)
            for name, row in zip(files, [base, *rows], strict=True):
                filled = copy.deepcopy(module)
                layout.load_(filled, row.cpu())
                write_tensors(files[name], filled.state_dict())
        models = {name: files[name].parent for name in names}
        judge = SiteJudge(trained, self.judged_on)

        def make() -> nn.Module:
            return copy.deepcopy(trained.job.module).eval()

        return TaskSuite(
            files["base"].parent, models, judge, make, {name: judge.held(name) for name in names},
            judge.notes(names), judge.inputs if judge.owners else None,
            network=lambda task: make(),
            signature=Signature.of(trained.job.dataset, trained.settings.data),
        )  # fmt: skip

    def _personal(self, trained: TrainedRun, base: Tensor) -> Tensor:
        """float32 [n, D]: what clients make of a model [D] by steps on their own examples."""
        job = trained.job
        block = job.bench(job.network.clients)
        block.rows.copy_(base.to(block.rows.device))
        settings = job.train.model_copy(update={"schedule": Constant()})
        if self.lr is not None:
            optimizer = settings.optimizer.model_copy(update={"lr": self.lr})
            settings = settings.model_copy(update={"optimizer": optimizer})
        trainer = job.trainer().like(settings, job.rounds)
        trainer.train(block, trained.done, steps=self.personalise, draw=_PERSONAL)
        if not bool(block.rows.isfinite().all()):
            problem = "make models that are not finite"
            raise ConfigError("tasks.personalise", self.personalise, problem, "tasks.lr: less")
        return block.rows
