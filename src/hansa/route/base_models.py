"""A base on disk as a model that answers, with an empty slab for adapters."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from hansa.base.errors import ConfigError
from hansa.base.pretrained import OWN_CODE_ONLY
from hansa.models.without_bars import without_bars
from hansa.route.answering import AnsweringModel
from hansa.route.slab import AdapterSlab


def generates(folder: Path) -> bool:
    """Whether the base is a causal language model; else it is an encoder.

    Raises:
        ConfigError: it is no folder of transformers' form with safetensors, or transformers is
            missing.
    """
    if importlib.util.find_spec("transformers") is None:
        raise ConfigError(
            "base", str(folder), "needs transformers", "pip install 'hansa[transformers]'"
        )
    try:
        config = json.loads((folder / "config.json").read_bytes())
        kinds = [str(kind) for kind in config.get("architectures") or ()]
    except (OSError, ValueError, AttributeError):
        problem = "holds no config.json of transformers"
        raise ConfigError("base", str(folder), problem, "a folder of save_pretrained") from None
    if not list(folder.glob("*.safetensors")):
        problem = "holds no safetensors: nothing is unpickled here"
        raise ConfigError("base", str(folder), problem, "save it with safetensors")
    return any(kind.endswith(("ForCausalLM", "LMHeadModel")) for kind in kinds)


def fingerprint(folder: Path) -> str:
    """SHA-256 of the base's tensors."""
    from hansa.weights.model_folder import ModelFolder

    return ModelFolder.open(folder).sha256()


def open_model(folder: Path, max_tokens: int = 32, dtype: str = "float32") -> AnsweringModel:
    """The base, ready to answer.

    Args:
        max_tokens: of an answer, where the base generates.
        dtype: of the adapters in the slab.

    Raises:
        ConfigError: as :func:`generates`.
    """
    causal = generates(folder)
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, **OWN_CODE_ONLY)
    kind = AutoModelForCausalLM if causal else AutoModel
    with without_bars():
        module = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, **OWN_CODE_ONLY
        ).eval()
    slab = AdapterSlab.over(module, dtype)
    if causal:
        from hansa.route.generating import GeneratingModel

        return GeneratingModel(module, tokenizer, slab, max_tokens)
    from hansa.route.label_text import LabelTextModel

    return LabelTextModel(module, tokenizer, slab)
