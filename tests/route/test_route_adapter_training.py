"""Adapters trained here: what PEFT reads is what was trained, and the base is as it was."""

import json
from pathlib import Path

import peft
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from hansa.base.errors import ConfigError
from hansa.models.adapted_layers import targeted
from hansa.models.label_text import SentenceEncoder
from hansa.route.adapter_training import AdapterTraining, answered, train_adapter
from hansa.route.answering import Query
from hansa.route.sets import Example

from ..models.tiny_encoders import write_encoder

WORDS = ["<pad>", "<end>", "<unk>", *(f"w{k}" for k in range(20)), "red", "blue", "yes", "no"]


def examples(count: int = 80) -> list[Example]:
    """Red means yes, blue means no."""
    torch.manual_seed(0)
    noise = torch.randint(20, (count, 4)).tolist()
    return [
        Example(
            Query(f"{' '.join(f'w{w}' for w in row)} {('red', 'blue')[k % 2]}", ("yes", "no")),
            ("yes", "no")[k % 2],
        )
        for k, row in enumerate(noise)
    ]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def llama() -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    inner = Tokenizer(models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    )
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=32,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )
    torch.manual_seed(1)
    return LlamaForCausalLM(config).eval(), tokenizer


SETTINGS = AdapterTraining(steps=80, batch_size=16, lr=1e-2, rank=4, alpha=8)


def test_a_causal_model_learns_the_answer_and_peft_reads_the_folder(tmp_path: Path) -> None:
    module, tokenizer = llama()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    heard: list[tuple[int, int, float]] = []
    place = train_adapter(
        module,
        tokenizer,
        examples(),
        SETTINGS,
        tmp_path / "red",
        told=lambda *said: heard.append(said),
    )
    after = module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[k], after[k]) for k in before)
    assert all(p.requires_grad for p in module.parameters())
    assert [step for step, _, _ in heard] == list(range(1, 81))
    assert sorted(p.name for p in place.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((place / "adapter_config.json").read_text())
    assert config["task_type"] == "CAUSAL_LM"
    assert config["r"] == 4
    adapted = peft.PeftModel.from_pretrained(module, place).eval()
    right = 0
    for example in examples():
        ids = torch.tensor([tokenizer(example.query.text)["input_ids"]])
        with torch.no_grad():
            right += tokenizer.decode(adapted(ids).logits[0, -1].argmax()) == example.answer
    assert right >= 76  # of 80
    adapted.unload()


def test_an_encoder_learns_to_lie_near_the_right_label(encoder: Path, tmp_path: Path) -> None:
    opened = SentenceEncoder.open(encoder)
    labels = opened.embed(["yes", "no"])
    settings = SETTINGS.model_copy(update={"rslora": True, "dropout": 0.1})
    places = [
        train_adapter(opened.module, opened.tokenizer, examples(), settings, tmp_path / name)
        for name in ("one", "two")
    ]
    contents = [(place / "adapter_model.safetensors").read_bytes() for place in places]
    assert contents[0] == contents[1]
    fresh = SentenceEncoder.open(encoder)
    adapted = peft.PeftModel.from_pretrained(fresh.module, places[0]).eval()
    assert isinstance(adapted.base_model.model, BertModel)
    vectors = fresh.embed([e.query.text for e in examples()])
    answers = (vectors @ labels.T).argmax(1)
    assert float((answers == torch.arange(80) % 2).float().mean()) > 0.9
    # The pooler and the embeddings have no part in it.
    names = peft.utils.get_peft_model_state_dict(adapted)
    assert len(names) == 2 * 2 * 6
    assert not [name for name in names if "pooler" in name or "embeddings" in name]


def test_layers_are_chosen_by_the_ends_of_their_names(encoder: Path) -> None:
    module = SentenceEncoder.open(encoder).module
    assert targeted(module, ("query", "value")) == ["query", "value"]
    assert targeted(module, ()) == [
        "attention.output.dense",
        "attention.self.key",
        "attention.self.query",
        "attention.self.value",
        "intermediate.dense",
        "output.dense",
    ]
    assert targeted(torch.nn.Sequential(torch.nn.Linear(2, 2)), ()) == ["0"]
    with pytest.raises(ConfigError, match="end of no linear layer"):
        targeted(module, ("q_proj",))
    assert "lm_head" not in targeted(llama()[0], ())


def test_an_answer_is_never_cut_and_a_long_query_loses_its_beginning() -> None:
    tokenizer = llama()[1]
    tokens, asked = answered(tokenizer, "w1 w2 w3 red", "yes no", max_tokens=2)
    assert tokenizer.decode(tokens) == "w3 red yes no <end>"
    assert asked == 2


def test_what_cannot_be_trained_on_is_refused_and_leaves_nothing(
    encoder: Path, tmp_path: Path
) -> None:
    opened = SentenceEncoder.open(encoder)

    def train(given: list[Example], place: str = "a", **changed: object) -> None:
        train_adapter(
            opened.module,
            opened.tokenizer,
            given,
            AdapterTraining.model_validate({"steps": 1, **changed}),
            tmp_path / place,
        )

    with pytest.raises(ConfigError, match="are none"):
        train([])
    with pytest.raises(ConfigError, match="none of the candidates"):
        train([*examples(2), Example(Query("w1", ("yes",)), "no")])
    with pytest.raises(ConfigError, match="target_modules"):
        train(examples(2), target_modules=("nothing",))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ConfigError, match="not empty"):
        train(examples(2), "taken")
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]
    train(examples(2))
    assert (tmp_path / "a" / "adapter_config.json").is_file()
