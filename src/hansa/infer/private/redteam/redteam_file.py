"""The file of the red team: which attacks, in which modes, on which layers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from hansa.experiment.settings_file import SettingsFile
from hansa.infer.private.redteam.attacks.extraction import ExtractionAttack

Mode = Literal["unprotected", "shuffle", "budget", "shares"]
USUAL: tuple[Any, ...] = (
    "mask_leak",
    "residual_leak",
    "false_key",
    "one_query",
    "unit_vectors",
    "session_alignment",
    {"name": "hidden_query", "flooding_bits": 56},
    {"name": "hidden_query", "flooding_bits": 62},
    {"name": "hidden_query", "flooding_bits": 64},
    "hidden_query",
    {"name": "hidden_query", "queries": 64},
    "last_layer",
    {"name": "last_layer", "logits": True},
)


class RedTeamFile(SettingsFile):
    """Attacks on a server's weights, each in every mode that it concerns."""

    command: ClassVar[str] = "infer redteam"
    needs: ClassVar[str] = "attacks models that it makes itself, and reads no examples"
    needs_fix: ClassVar[str] = "hansa init redteam, without --data"
    sketch: ClassVar[str | Mapping[str, Any]] = {"seed": 1, "modes": ["shuffle", "shares"]}
    begins: ClassVar[str] = "hansa.infer.private.redteam.run:redteam"
    checks: ClassVar[str] = "hansa.infer.private.redteam.run:checked"
    says_verb: ClassVar[bool] = True
    resumable: ClassVar[tuple[str, ...]] = ()

    verb: Literal["redteam"] = Field("redteam", description="whose file this is")
    seed: int = Field(
        1, ge=-(2**63), lt=2**63, description="of layers, keys and guesses; same seed, same figure"
    )
    attacks: tuple[ExtractionAttack, ...] = Field(
        USUAL, min_length=1, validate_default=True, description="of hansa list extraction"
    )
    modes: tuple[Mode, ...] = Field(
        ("unprotected", "shuffle", "budget", "shares"),
        min_length=1,
        description="what protects weights; unprotected is there to show that attacks work, and is "
        "never served",
    )
    program: Path | None = Field(
        None, description="a compiled program whose layers are attacked; none = made layers"
    )
    profile: Literal["n4096", "n2048", "n8192"] = Field("n4096", description="the lattice")

    def label(self) -> str:
        """What its folder is called."""
        return "redteam"
