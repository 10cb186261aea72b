"""The answers of an encoder with adapters: each row as if it were alone, labels never mixed."""

import json
from pathlib import Path

import peft
import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.models.label_text import SentenceEncoder
from hansa.route.adapter_training import AdapterTraining, train_adapter
from hansa.route.answering import BASE, Mixture, Query
from hansa.route.label_text import LabelTextModel
from hansa.route.sets import Example
from hansa.route.slab import AdapterSlab
from hansa.weights.lora_folder import LoraFolder, match_modules

from ..models.tiny_encoders import write_encoder

CANDIDATES = ("yes", "no")


def examples(first: str, second: str) -> list[Example]:
    words = [f"w{k} {(first, second)[k % 2]} w{(7 * k) % 40}" for k in range(40)]
    return [Example(Query(text, CANDIDATES), CANDIDATES[k % 2]) for k, text in enumerate(words)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A base; one adapter for colours, one for tempers that calls bad yes, of another rank."""
    place = tmp_path_factory.mktemp("pool")
    encoder = SentenceEncoder.open(write_encoder(place / "base"))
    settings = AdapterTraining(steps=60, batch_size=16, lr=1e-2)
    tasks = {"colour": examples("red", "blue"), "temper": examples("bad", "good")}
    ranks = {"colour": 8, "temper": 2}
    return place / "base", [
        train_adapter(
            encoder.module,
            encoder.tokenizer,
            given,
            settings.model_copy(update={"rank": ranks[name], "rslora": name == "temper"}),
            place / name,
        )
        for name, given in tasks.items()
    ]


@pytest.fixture
def model(folders: tuple[Path, list[Path]]) -> LabelTextModel:
    base, adapters = folders
    encoder = SentenceEncoder.open(base)
    slab = AdapterSlab.over(encoder.module)
    for path in adapters:
        lora = LoraFolder.open(path)
        names = match_modules(lora, slab.linears)
        held = {own: lora.factors(module) for module, own in names.items()}
        slab.add(lora.name, {own: (factors.a, factors.b) for own, factors in held.items()})
    return LabelTextModel(encoder.module, encoder.tokenizer, slab)


def test_every_adapter_answers_its_own_task_in_one_batch(model: LabelTextModel) -> None:
    given = [*examples("red", "blue"), *examples("bad", "good")]
    mixtures = [Mixture((0,), (1.0,))] * 40 + [Mixture((1,), (1.0,))] * 40
    answers = model.answers([e.query for e in given], mixtures)
    assert sum(a == e.answer for a, e in zip(answers, given, strict=True)) > 76
    # Without adapters, or with the other's, they do not.
    for others in ([BASE] * 80, mixtures[::-1]):
        answers = model.answers([e.query for e in given], others)
        assert sum(a == e.answer for a, e in zip(answers, given, strict=True)) < 64


def test_a_row_of_a_batch_is_the_row_alone_and_peft_s_own(
    model: LabelTextModel, folders: tuple[Path, list[Path]]
) -> None:
    texts = ["w1 red", "w2 w3 w4 good blue w5", "bad"]
    mixtures = [Mixture((0,), (1.0,)), Mixture((0, 1), (0.3, 0.7)), BASE]
    together = model.embeddings(texts, mixtures)
    for k, (text, mixture) in enumerate(zip(texts, mixtures, strict=True)):
        assert torch.allclose(model.embeddings([text], [mixture])[0], together[k], atol=1e-6)
    plain = SentenceEncoder.open(folders[0])
    assert torch.allclose(plain.embed(texts[2:])[0], together[2], atol=1e-6)
    peft.PeftModel.from_pretrained(plain.module, folders[1][0])
    assert torch.allclose(plain.embed(texts[:1])[0], together[0], atol=1e-5)


def test_labels_are_the_base_s_whatever_is_mixed_in(
    model: LabelTextModel, folders: tuple[Path, list[Path]]
) -> None:
    model.answers([Query("w1 red", CANDIDATES)], [Mixture((0, 1), (2.0, 1.0))])
    labels = SentenceEncoder.open(folders[0]).embed(CANDIDATES)
    assert torch.allclose(model.labels.vectors(CANDIDATES), labels, atol=1e-6)
    assert list(model.labels.known()) == list(CANDIDATES)


def test_queries_may_have_candidates_of_their_own(model: LabelTextModel) -> None:
    queries = [Query("w1 red", ("yes",)), Query("w1 red", ("w3", "w4", "w5")), Query("w5", ("w5",))]
    answers = model.answers(queries, [BASE] * 3)
    assert [a in q.candidates for a, q in zip(answers, queries, strict=True)] == [True] * 3
    assert model.answers([], []) == []
    with pytest.raises(ConfigError, match="no candidates"):
        model.answers([Query("w1")], [BASE])
    with pytest.raises(ConfigError, match="no adapter of the pool"):
        model.answers(queries[:1], [Mixture((7,), (1.0,))])


def test_the_folders_say_what_they_are(folders: tuple[Path, list[Path]]) -> None:
    config = json.loads((folders[1][1] / "adapter_config.json").read_text())
    assert (config["r"], config["use_rslora"], config["peft_type"]) == (2, True, "LORA")
    lora = LoraFolder.open(folders[1][1])
    assert lora.scale(next(iter(lora.modules))) == pytest.approx(16 / 2**0.5)
