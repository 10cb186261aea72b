"""The file of a merge: which models, by which algorithms, into which sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from hansa.base.byte_size import byte_size
from hansa.base.errors import ConfigError
from hansa.combine.merge.algorithms.merging import MergingAlgorithm
from hansa.combine.merge.dendrogram import Linkage
from hansa.combine.merge.merge_tasks import MergeTasks
from hansa.combine.merge.orders import Order
from hansa.experiment.own_data import OwnData, needs
from hansa.experiment.settings_file import SettingsFile

USUAL = (
    "averaging", "task_arithmetic", "ties", "pcb", "tsv_m", "consensus", "emr", "tall_mask",
)  # fmt: skip
Course = Order | Literal["knapsack"]


class MergeFile(SettingsFile):
    """Models of one origin become one of any size between one model and all of them."""

    command: ClassVar[str] = "combine merge"
    sketch: ClassVar[str | Mapping[str, Any]] = "digits_merge"
    begun_on: ClassVar[str] = "hansa.combine.merge.merge_file:begun_on_run"
    needs: ClassVar[str] = "needs models that came of one, such as those of a run's nodes"
    needs_fix: ClassVar[str] = (
        "hansa init learn --data FILE --label COLUMN --algorithm isolated, run it, then "
        "hansa init merge --data RUN"
    )
    begins: ClassVar[str] = "hansa.combine.merge.run:merge"
    checks: ClassVar[str] = "hansa.combine.merge.run:check"
    says_verb: ClassVar[bool] = True
    resumable: ClassVar[tuple[str, ...]] = ("least_gain",)

    verb: Literal["merge"] = Field("merge", description="whose file this is")
    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="names all random streams; same seed, same result"
    )
    tasks: MergeTasks = Field(
        default_factory=lambda: MergeTasks.resolve("digits_views"),
        description="what is merged and who judges it: made here, own models, or a run's sites",
    )
    algorithms: tuple[MergingAlgorithm, ...] = Field(
        USUAL,
        min_length=1,
        validate_default=True,
        description="how a group of models becomes one, of hansa list merging",
    )
    sizes: tuple[Annotated[float, Field(ge=1)], ...] | None = Field(
        None,
        description="in multiples of one model, at most so much each; none: 1, 2, 3, 5 and all. "
        "What needs masks begins at its own minimum",
    )
    budgets: tuple[int, ...] = Field(
        (), description="more sizes, in bytes, such as 3.2GiB; a file with its header is within"
    )
    order: Course = Field(
        "greedy",
        description="which groups merge first: greedy, by similarity over all blocks; block by "
        "block from the left or the right; random; whole models; kmeans; knapsack, which chooses "
        "for each size the stages with the least loss",
    )
    linkage: Linkage = Field(
        "min", description="of two groups' similarities counts the least, the mean or the largest"
    )
    blocks: Literal["sublayer", "layer", "tensor"] = Field(
        "sublayer", description="what is grouped by itself"
    )
    heads: tuple[str, ...] = Field(
        (), description="how the names of tensors begin that each model keeps for itself"
    )
    tune: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (),
        description="scales (lambda) that are tried on validation examples, the same of every "
        "algorithm that has one, size by size; none: as the algorithms say",
    )
    rebn: Path | None = Field(
        None,
        description="inputs (.npy, .npz or .safetensors) by which batch normalization's statistics "
        "are counted anew in each merged model; without them such models are refused",
    )
    keep: bool | None = Field(
        None, description="keep the file of each size; none: only of models that nobody judges"
    )
    least_gain: float = Field(
        0.05,
        ge=0,
        description="accuracy that fine-tuning has to gain over the base on average: where it "
        "gains less, a curve shows nothing and none is drawn; 0: always",
    )

    @field_validator("budgets", mode="before")
    @classmethod
    def _amounts(cls, budgets: Any) -> Any:
        listed = budgets if isinstance(budgets, list | tuple) else [budgets]
        return [byte_size(amount, "budgets") for amount in listed]

    def label(self) -> str:
        """What its folder is called."""
        return f"merge-{type(self.tasks).name.rpartition(':')[2]}"

    @property
    def keeps(self) -> bool:
        """Whether the files of the sizes stay."""
        return not self.tasks.judged if self.keep is None else self.keep

    def named(self) -> dict[str, MergingAlgorithm]:
        """The algorithms by the names that tables call them: what tells two apart is said.

        Raises:
            ConfigError: two are the same.
        """
        names = [type(algorithm).name for algorithm in self.algorithms]
        named: dict[str, MergingAlgorithm] = {}
        for name, algorithm in zip(names, self.algorithms, strict=True):
            label = _label(algorithm) if names.count(name) > 1 else name
            if label in named:
                raise ConfigError("algorithms", label, "is there twice", "each once")
            named[label] = algorithm
        return named

    def check(self, models: int | None = None) -> None:
        """Refuse what cannot work, before anything is made or read.

        Args:
            models: how many there are, where that is known.

        Raises:
            ConfigError: names the field.
        """
        self.named()
        self.tasks.check()
        for algorithm in self.algorithms if models else ():
            algorithm.check(models or 0)
        for size in self.sizes or ():
            if models and size > models:
                problem = f"is more than all {models} models"
                raise ConfigError("sizes", size, problem, f"{models} or less")
        if self.tune and not self.tasks.validates:
            problem = "are tried on validation examples, and these tasks have none"
            fix = "own tasks with validate_by, or no tune"
            raise ConfigError("tune", list(self.tune), problem, fix)


def _label(algorithm: MergingAlgorithm) -> str:
    """Its name with what is not as usual."""
    usual = {key: info.get_default() for key, info in type(algorithm).model_fields.items()}
    own = {}
    for key in type(algorithm).model_fields:
        value = getattr(algorithm, key)
        if value != usual[key]:
            own[key] = _label(value) if isinstance(value, MergingAlgorithm) else value
    words = ", ".join(f"{key}={value}" for key, value in own.items())
    return f"{type(algorithm).name} ({words})" if words else type(algorithm).name


def of_models(models: Sequence[Path], base: Path) -> dict[str, Any]:
    """Settings that merge models which nobody judges, each named as its folder, by TIES.

    Raises:
        ConfigError: two have the same name.
    """
    named: dict[str, str] = {}
    for path in models:
        name = path.stem if path.is_file() else path.resolve().name
        if name in named:
            problem = f"has the name of {named[name]}"
            fix = "a file with tasks: {name: none, models: {NAME: FOLDER, ...}}"
            raise ConfigError("models", str(path), problem, fix)
        named[name] = str(path)
    tasks = {"name": "none", "base": str(base), "models": named}
    return {"verb": "merge", "tasks": tasks, "algorithms": ["ties"]}


def of_run(run: Path) -> dict[str, Any]:
    """Settings that merge what the nodes of a run of ``hansa learn`` came to, by the usual ways."""
    return {"verb": "merge", "tasks": {"name": "sites", "run": str(run)}}


def begun_on_run(settings: dict[str, Any], own: OwnData) -> dict[str, Any]:
    """Settings of a first file that merges the models of a run.

    Raises:
        ConfigError: it is no run's folder.
    """
    if not own.is_run:
        raise needs(MergeFile, own)
    return {**settings, **of_run(Path(own.written)), "sizes": None}
