"""What a run of ``hansa combine merge`` came to: of each task a model, at any size."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.experiment.deliverable import Deliverable
from hansa.experiment.network_product import NetworkProduct
from hansa.report import RunFolder
from hansa.report.predictions import Predictions
from hansa.report.which import Which


@register("merge")
class MergedModel(NetworkProduct):
    """A task's model out of a cut of the run, whose size and algorithm may be chosen."""

    command: ClassVar[str] = "combine merge"

    def model(self, run: RunFolder, which: Which) -> Any:
        """A task's network; without a task all of them, by task, which share what they share."""
        if which.task is not None:
            return super().model(run, which)
        suite, models, _ = self._cut(run, which)
        assert suite.network is not None
        return {task: self._filled(suite, models, task) for task in suite.tasks}

    def answers(self, run: RunFolder, data: Any, which: Which) -> Predictions:
        """A task's answers; of a task that sees examples in a way of its own, with that said."""
        from hansa.combine.merge.merge_file import MergeFile

        said = super().answers(run, data, which)
        seen = MergeFile.parse(run.config).tasks.seen_as(str(which.task))
        if not seen:
            return said
        remark = f"task {which.task} learned {seen}, and examples are asked as they were brought: "
        return replace(said, remarks=(*said.remarks, remark + "bring them in that view"))

    def delivered(self, run: RunFolder, which: Which) -> Deliverable:
        """A task's network."""
        suite, models, cut = self._cut(run, which)
        if which.task is None or which.task not in suite.tasks:
            problem = "has a model of each task" if which.task is None else "is no task of the run"
            fix = f"one of {', '.join(suite.tasks)}"
            raise ConfigError("task", which.task, problem, fix)
        if suite.signature is None:
            problem = "has tasks whose inputs only their own code knows"
            fix = f"hansa combine cut {run.path} --task {which.task} --size 2 --out DIR"
            raise ConfigError("run", str(run.path), problem, fix)
        facts = {"run": run.path.resolve().name, "task": which.task, "node": None, **cut,
                 **run.marks}  # fmt: skip
        signature = suite.signature
        if own := suite.classes.get(which.task):
            spec = replace(signature.spec, outputs=len(own))
            signature = replace(signature, spec=spec, class_names=own)
        return Deliverable(self._filled(suite, models, which.task), signature, facts)

    def _cut(self, run: RunFolder, which: Which) -> tuple[Any, Any, dict[str, Any]]:
        """(the tasks, the models at the size that is asked for, what was cut)."""
        from hansa.combine.merge.cutting import cut
        from hansa.combine.merge.merge_file import MergeFile
        from hansa.combine.merge.merged_models import MergedModels

        which.only("a merge", "task", "size", "rule")
        settings = MergeFile.parse(run.config)
        if (run.summary or {}).get("status") != "finished":
            fix = f"hansa combine merge --resume {run.path}"
            raise ConfigError("run", str(run.path), "has not finished merging", fix)
        size = which.size
        if size is None:
            size = settings.sizes[0] if settings.sizes else 1.0
        suite = settings.tasks.suite(settings.seed, run.path / "models", lambda text: None)
        if suite.network is None:
            problem = "has tasks of whose networks hansa knows nothing"
            fix = f"tasks.module in its file; or hansa combine cut {run.path} --task TASK --out DIR"
            raise ConfigError("run", str(run.path), problem, fix)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "cut.safetensors"
            done = cut(run.path, file, size=size, algorithm=which.rule)
            models = MergedModels.open(file)
            states = {task: models.state_dict(task) for task in suite.tasks}
        facts = {"algorithm": done["algorithm"], "size_in_models": round(done["size"], 4)}
        return suite, states, facts

    def _filled(self, suite: Any, states: dict[str, Any], task: str) -> Any:
        from hansa.combine.merge.opening import open_models

        network = suite.network(task)
        state = open_models(suite.base, suite.models).as_stored(task, states[task])
        has = network.state_dict().keys()
        strange = network.load_state_dict({k: v for k, v in state.items() if k in has}, False)
        own = {name for name in strange.missing_keys if name in state}
        assert not own, own
        return network.eval().requires_grad_(False)
