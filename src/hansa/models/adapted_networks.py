"""Transformers with adapters as networks over rows of token ids; loaded when one is built."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from hansa.base.errors import ConfigError
from hansa.base.pretrained import OWN_CODE_ONLY, why_unopened
from hansa.base.spec import DataSpec
from hansa.models.adapted_layers import named_modules, targeted
from hansa.models.label_text import SentenceEncoder
from hansa.models.low_rank import LowRank, Wanted
from hansa.models.without_bars import without_bars

_DROPOUTS = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout",
    "classifier_dropout", "seq_classif_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop",
    "activation_dropout", "embedding_dropout", "mlp_dropout",
)  # fmt: skip
"""What the configurations of transformers call the chance that a number is dropped."""


class TextClassifier(nn.Module):
    """int64 [B, T] token ids, padded on the right -> scores [B, C].

    A batch is cut to its longest text. What is padding tells its place, not its id alone: some
    tokenizers fill up with the mark that ends a text.

    Args:
        network: of transformers, perhaps in a PEFT model around it.
        padding: the id that fills up.
    """

    def __init__(self, network: nn.Module, padding: int) -> None:
        super().__init__()
        self.network, self.padding = network, padding

    def forward(self, x: Tensor) -> Tensor:
        """The scores of the network's head."""
        ids, mask = self.cut(x)
        scores: Tensor = self.network(input_ids=ids, attention_mask=mask).logits
        return scores.float()

    def cut(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Ids and mask [B, t], int64, t the longest length; every text has a token."""
        there = x.ne(self.padding)
        there = there.flip(1).cumsum(1).flip(1).gt(0)  # up to the last that is no padding
        there[:, 0] = True
        if torch.compiler.is_exporting():  # a graph has one length for all
            return x, there.long()
        longest = int(there.sum(1).max()) if len(x) else 1
        return x[:, :longest], there[:, :longest].long()


class LabelTextClassifier(TextClassifier):
    """Scores are cosines to the labels' vectors over a temperature (see ``label_text``).

    Args:
        labels: float32 [C, h], unit vectors of the labels' words by the base as it was.
    """

    labels: Tensor

    def __init__(
        self, network: nn.Module, padding: int, labels: Tensor, temperature: float
    ) -> None:
        super().__init__(network, padding)
        self.register_buffer("labels", labels, persistent=False)
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        """Cosines [B, C], divided by the temperature."""
        ids, mask = self.cut(x)
        hidden = self.network(input_ids=ids, attention_mask=mask).last_hidden_state
        pooled = (hidden * mask.unsqueeze(-1).to(hidden.dtype)).sum(1).float()
        return functional.normalize(pooled, dim=-1) @ self.labels.T / self.temperature


def build(form: Wanted, spec: DataSpec, place: str | None) -> nn.Module:
    """The network of a form.

    Args:
        place: the base's folder, or its name on the hub; None: a small one of random numbers.

    Raises:
        ConfigError: the base cannot be opened, or does not fit the data or the adapters.
    """
    assert spec.padding is not None
    with _quiet():
        if form.head == "label_text":
            assert place is not None
            return _by_label_text(form, spec, place)
        network, fresh = _classifier(form, spec, place)
        config: Any = network.config
        config.pad_token_id = spec.padding  # where decoders look for a text's end
        if form.peft is not None:
            network = _adapted(network, form.peft, [*_heads(network), *fresh], "SEQ_CLS")
    return TextClassifier(network, spec.padding)


def write(form: Wanted, network: nn.Module, base: str | None, place: Path, merged: bool) -> None:
    """Write the network of a form as its libraries do.

    Args:
        base: as ``place`` of :func:`build`.
        place: a folder that does not exist yet.
    """
    inner: Any = network.get_submodule("network")
    with _quiet():
        if form.peft is None or merged:
            whole = inner
            if form.peft is not None:
                whole = copy.deepcopy(inner).merge_and_unload()
            whole.save_pretrained(place)
            if base is not None:
                _tokenizer(base).save_pretrained(place)
            return
        inner.save_pretrained(place, safe_serialization=True, save_embedding_layers=False)
        (place / "README.md").unlink(missing_ok=True)  # a model card of blanks
        if base is None:  # nobody else has it
            copy.deepcopy(inner).unload().save_pretrained(place / "base")


def _classifier(form: Wanted, spec: DataSpec, place: str | None) -> tuple[nn.Module, list[str]]:
    """A network with a head for the classes, and the modules that were not pretrained."""
    from transformers import AutoModelForSequenceClassification, BertConfig

    if place is None:
        make: Any = BertConfig
        config = make(
            vocab_size=spec.vocabulary[0], hidden_size=form.hidden, num_hidden_layers=form.layers,
            num_attention_heads=4, intermediate_size=2 * form.hidden, num_labels=spec.outputs,
            max_position_embeddings=max(16, spec.shape[0]), pad_token_id=spec.padding,
            hidden_dropout_prob=form.dropout or 0.0,
            attention_probs_dropout_prob=form.dropout or 0.0,
        )  # fmt: skip
        return AutoModelForSequenceClassification.from_config(config), []
    config = _config(place, form)
    config.num_labels = spec.outputs
    if spec.labels:
        config.id2label = dict(enumerate(spec.labels))
        config.label2id = {label: k for k, label in enumerate(spec.labels)}
    network, told = _opened(AutoModelForSequenceClassification, place, config)
    _refuse_words(network, spec, place)
    fresh = {name.rpartition(".")[0] for name in told["missing_keys"]}
    return network, sorted(fresh)


def _by_label_text(form: Wanted, spec: DataSpec, place: str) -> nn.Module:
    from transformers import AutoModel

    config = _config(place, form)
    if any(str(kind).endswith("ForCausalLM") for kind in config.architectures or ()):
        problem = "pools the states of an encoder, and this base is a causal language model"
        raise ConfigError("head", form.head, problem, "head: linear, or an encoder")
    network, _ = _opened(AutoModel, place, config)
    _refuse_words(network, spec, place)
    encoder = SentenceEncoder(network.eval(), _tokenizer(place), spec.shape[0])
    labels = encoder.embed(list(spec.labels))
    if form.peft is not None:
        network = _adapted(network, form.peft, [], None)
    assert spec.padding is not None
    return LabelTextClassifier(network.train(), spec.padding, labels, form.temperature)


def _adapted(network: nn.Module, wanted: LowRank, whole: list[str], task: str | None) -> nn.Module:
    """The network frozen, with fresh adapters.

    Args:
        whole: modules that are trained whole besides those that are asked for.
    """
    import peft

    targets = targeted(network, wanted.target_modules, "peft.target_modules")
    asked = named_modules(network, wanted.modules_to_save, "peft.modules_to_save")
    kind: Any = peft.LoraConfig  # alpha is a fraction too
    config = kind(
        r=wanted.r,
        lora_alpha=wanted.alpha,
        lora_dropout=wanted.dropout,
        use_rslora=wanted.rslora,
        target_modules=targets,
        modules_to_save=sorted({*whole, *asked}) or None,
        task_type=task,
    )
    adapted: nn.Module = peft.get_peft_model(network, config)
    if wanted.freeze_a:
        for name, parameter in adapted.named_parameters():
            if ".lora_A." in name:
                parameter.requires_grad_(False)
    return adapted


def _heads(network: nn.Module) -> list[str]:
    """The modules of a network's head: what does not belong to the model that it stands on."""
    inner = getattr(network, str(network.base_model_prefix), None)
    return [name for name, part in network.named_children() if part is not inner
            and any(True for _ in part.parameters())]  # fmt: skip


def _config(place: str, form: Wanted) -> Any:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(
            place, local_files_only=Path(place).is_dir(), **OWN_CODE_ONLY
        )
    except (OSError, ValueError, KeyError) as error:
        raise _unopened(place, error) from error
    for name, value in _dropout(config, form.dropout).items():
        setattr(config, name, value)
    return config


def _dropout(config: Any, chance: float | None) -> dict[str, float]:
    """The settings of a configuration that set dropout, at this chance."""
    if chance is None:
        return {}
    return {name: chance for name in _DROPOUTS if isinstance(getattr(config, name, None), float)}


def _opened(kind: Any, place: str, config: Any) -> tuple[nn.Module, dict[str, Any]]:
    """A network in float32, and what its files lacked."""
    try:
        network, told = kind.from_pretrained(
            place, config=config, local_files_only=Path(place).is_dir(), use_safetensors=True,
            **OWN_CODE_ONLY,
            dtype=torch.float32, output_loading_info=True, attn_implementation="sdpa",
        )  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise _unopened(place, error) from error
    return network, told


def _unopened(place: str, error: Exception) -> ConfigError:
    problem, fix = why_unopened(error)
    return ConfigError("base", place, problem, fix or "a model of transformers with safetensors")


def _refuse_words(network: nn.Module, spec: DataSpec, place: str) -> None:
    """Refuse a base that knows fewer ids, or shorter texts, than the data have."""
    config: Any = network.config
    known = config.get_text_config().vocab_size
    if spec.vocabulary[0] > known:
        problem = f"knows {known} tokens, and the texts have ids up to {spec.vocabulary[0] - 1}"
        raise ConfigError("base", place, problem, "data.tokenizer: that of this base")
    longest = getattr(config.get_text_config(), "max_position_embeddings", None)
    if longest and spec.shape[0] > longest:
        problem = f"takes {longest} tokens at most, and the texts have {spec.shape[0]}"
        raise ConfigError("base", place, problem, f"data.max_length: {longest} or less")


def _tokenizer(place: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(
        place, local_files_only=Path(place).is_dir(), **OWN_CODE_ONLY
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What is said of fresh heads and between libraries is no user's concern."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with without_bars(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logging.set_verbosity(before)
