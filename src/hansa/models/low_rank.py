"""What is asked of a pretrained network: how it is adapted, and how its classes are told."""

from __future__ import annotations

from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

Head = Literal["linear", "label_text"]


class LowRank(BaseModel):
    """Low-rank adapters, as PEFT has them (``peft.LoraConfig``)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    r: int = Field(8, ge=1, description="rank of the factors")
    alpha: float = Field(16.0, gt=0, description="the product is scaled by alpha / r")
    rslora: bool = Field(False, description="scale by alpha / sqrt(r) instead (Kalajdzievski 2023)")
    dropout: float = Field(0.0, ge=0, lt=1, description="on what goes into an adapter")
    target_modules: tuple[str, ...] = Field(
        (), description="ends of the names of layers to adapt; none = all linear ones of the stack"
    )
    modules_to_save: tuple[str, ...] = Field(
        (), description="ends of the names of modules to train whole besides; the head always is"
    )
    freeze_a: bool = Field(
        False, description="train B alone (FFA-LoRA, Sun et al. 2024): then means are exact"
    )


class Wanted(Protocol):
    """The settings of :class:`hansa.models.pretrained.Transformers`, which says what they mean."""

    @property
    def base(self) -> str | None: ...
    @property
    def peft(self) -> LowRank | None: ...
    @property
    def head(self) -> Head: ...
    @property
    def temperature(self) -> float: ...
    @property
    def dropout(self) -> float | None: ...
    @property
    def hidden(self) -> int: ...
    @property
    def layers(self) -> int: ...
