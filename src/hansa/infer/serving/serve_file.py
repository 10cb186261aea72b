"""The file of ``hansa infer serve``: which members, what makes one of them, how long to wait."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from hansa.base.errors import ConfigError
from hansa.engine.settings import Settings
from hansa.ensemble import Aggregator, TrimmedMean
from hansa.experiment.settings_file import SettingsFile
from hansa.infer.serving.http_client import split_url
from hansa.infer.serving.v2_tensors import DATATYPES, TensorForm
from hansa.serving.listening import is_loopback


class Member(Settings):
    """Where a member answers."""

    url: str = Field(description="of its server, such as http://127.0.0.1:8001")
    model: str = Field("member", description="its name there")
    name: str = Field("", description="how answers and figures call it; none = by its place")
    token: str | None = Field(
        None, description="environment variable with the bearer token that it wants"
    )
    clear: bool = Field(
        False, description="send the token although the address is http and not this machine"
    )
    ca: Path | None = Field(
        None, description="PEM file of the certificates that are trusted for https"
    )
    timeout_ms: float | None = Field(
        None, gt=0, description="its own deadline; none = member_deadline_ms"
    )
    output: str | None = Field(
        None, description="its output; none = probabilities, predict_proba, or the only one"
    )
    gives: Literal["probabilities", "logits"] = Field(
        "probabilities", description="what the output is"
    )


class Input(Settings):
    """A tensor that members take."""

    name: str = Field(description="of the tensor")
    datatype: str = Field("FP32", description="such as FP32 or INT64")
    shape: tuple[int, ...] = Field(description="-1 for any size; the first is the batch's")


class BreakerSettings(Settings):
    """When a member that fails is left alone."""

    failures: int = Field(5, ge=1, description="calls that fail in a row")
    wait_ms: float = Field(
        2000, gt=0, description="until it is tried again; doubles with every trial that fails"
    )


class ServeFile(SettingsFile):
    """Members that answer as one. ``--set deadline_ms=200`` reaches every field."""

    command: ClassVar[str] = "infer serve"
    sketch: ClassVar[str | Mapping[str, Any]] = "digits_serve"
    needs: ClassVar[str] = "needs models that answer at addresses, and reads no examples"
    needs_fix: ClassVar[str] = (
        "hansa combine ensemble, then hansa infer member RUN for each of its models, and their "
        "addresses as endpoints"
    )
    says_verb: ClassVar[bool] = True

    verb: Literal["serve"] = Field("serve", description="whose file this is")
    model: str = Field("hansa", min_length=1, description="name of the aggregate")
    endpoints: tuple[Member, ...] = Field((), description="where the members answer")
    classes: tuple[str, ...] = Field(
        (), description="names of the classes, in the order of the members' numbers"
    )
    aggregator: Aggregator | None = Field(
        None, description="makes one of the members' probabilities; none = trimmed_mean with f"
    )
    run: Path | None = Field(
        None, description="instead, a run of hansa infer robust whose aggregator answers"
    )
    pick: str | None = Field(None, description="which of the run's aggregators; none = its best")
    ensemble: Path | None = Field(
        None, description="instead, a run of hansa combine ensemble whose rule answers"
    )
    f: int | None = Field(
        None, ge=0, description="members that may lie in any one answer; none = the run's, or 1"
    )
    quorum: int | None = Field(
        None, ge=1, description="valid rows that an answer needs; none = 2 f + 1"
    )
    deadline_ms: float = Field(1000, gt=0, description="for a request in all")
    member_deadline_ms: float = Field(500, gt=0, description="for a call to a member")
    early: bool = Field(
        True, description="answer as soon as no member that is still out can change the class"
    )
    margin: float = Field(
        0.0, ge=0, description="abstain where the first class leads the second by less"
    )
    certified_only: bool = Field(False, description="abstain from what is not certified at f")
    breaker: BreakerSettings = Field(BreakerSettings(), description="leaving a member alone")
    inputs: tuple[Input, ...] = Field(
        (), description="what members take; none = whatever comes is passed on"
    )
    batch: int = Field(1024, ge=1, description="examples in a request at most")
    body_mb: float = Field(8, gt=0, description="megabytes of a request at most")

    @field_validator("classes", mode="before")
    @classmethod
    def _named(cls, classes: Any) -> Any:
        if not isinstance(classes, list | tuple):
            return classes
        if any(isinstance(name, bool) for name in classes):
            fix = "quotes around words such as 'yes' and 'no', which YAML takes for truths"
            raise ConfigError("classes", list(classes), "holds what is no name", fix)
        return [str(name) if isinstance(name, int) else name for name in classes]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self._one_rule()
        n = len(self.endpoints)
        if not n:
            return self
        if 2 * self.liars >= n:
            problem = f"of {n} members cannot be outvoted: f is below half of them"
            raise ConfigError("f", self.liars, problem, f"at most {(n - 1) // 2}, or more members")
        if self.rule is not None and self.rule.least > n:
            name = self.rule.name
            problem = f"{name} needs {self.rule.least} members, and there are {n}"
            raise ConfigError("aggregator", name, problem, "a smaller f, or more members")
        names = self.names()
        if len(set(names)) < n:
            twice = next(name for name in names if names.count(name) > 1)
            raise ConfigError("endpoints", twice, "names two members", "names of their own")
        for k, member in enumerate(self.endpoints):
            try:
                _check(member)
            except ConfigError as error:
                raise error.under(f"endpoints.{k}") from None
        for k, tensor in enumerate(self.inputs):
            if tensor.datatype not in DATATYPES:
                fix = ", ".join(sorted(DATATYPES))
                field = f"inputs.{k}.datatype"
                raise ConfigError(field, tensor.datatype, "is no datatype", fix)
        return self

    def _one_rule(self) -> None:
        said = [name for name in ("aggregator", "run", "ensemble") if getattr(self, name)]
        if len(said) > 1:
            problem = f"and {said[0]}: one of them makes one answer of the members'"
            raise ConfigError(said[1], None, problem, f"leave {said[0]} or {said[1]} out")
        if self.pick is not None and self.run is None:
            raise ConfigError("pick", self.pick, "there is no run to pick from", "run: FOLDER")
        if self.run is None and self.ensemble is None and len(self.classes) < 2:
            problem = "there are two at least, and members' numbers have no names of their own"
            raise ConfigError("classes", list(self.classes), problem, "classes: [ill, well]")

    @property
    def liars(self) -> int:
        """How many members may lie."""
        return 1 if self.f is None else self.f

    @property
    def rule(self) -> Aggregator | None:
        """The aggregator of the members' probabilities, where no run or ensemble brings another."""
        if self.run is not None or self.ensemble is not None:
            return None
        return TrimmedMean(f=self.liars) if self.aggregator is None else self.aggregator

    def names(self) -> list[str]:
        """What each member is called."""
        return [member.name or f"m{k}" for k, member in enumerate(self.endpoints)]

    def forms(self) -> tuple[TensorForm, ...]:
        """What members take."""
        return tuple(TensorForm(one.name, one.datatype, one.shape) for one in self.inputs)


def _check(member: Member) -> None:
    host, _, secure, _ = split_url(member.url)
    if member.ca is not None and not secure:
        raise ConfigError("ca", str(member.ca), "is for https, and the address is http", "https://")
    if member.token is not None and not secure and not member.clear and not is_loopback(host):
        problem = "would travel where others can read it"
        raise ConfigError("token", member.token, problem, "an address of https, or clear: true")
