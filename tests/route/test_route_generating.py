"""Generation: each row is what transformers gives for it alone with the dense delta."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hansa.base.errors import ConfigError
from hansa.route.answering import BASE, Mixture, Query
from hansa.route.decoding import Decoding, RowDecoder
from hansa.route.generating import GeneratingModel
from hansa.route.prefix_cache import PrefixCache
from hansa.route.row_mixing import RowMixing
from hansa.route.slab import AdapterSlab

from .mixture_models import (
    random_factors,
    tiny_gpt2,
    tiny_llama,
    tiny_mistral,
    tiny_tokenizer,
    with_dense,
)

TEXTS = ["w5 w6 w7", "w9", "w4 w8 w12 w31 w22 w11 w7", "w5 w6 w40 w41"]
MIXTURES = [Mixture((0, 1), (0.6, 0.4)), BASE, Mixture((2,), (1.0,)), Mixture((0, 2), (0.9, 0.1))]


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_llama()


@pytest.fixture
def slab(llama: Any) -> AdapterSlab:
    pool = AdapterSlab.over(llama)
    for k, rank in enumerate((2, 4, 8)):
        pool.add(f"a{k}", random_factors(llama, k, rank))
    return pool


@pytest.fixture
def model(llama: Any, slab: AdapterSlab) -> GeneratingModel:
    return GeneratingModel(llama, tiny_tokenizer(), slab, 8)


def reference(model: GeneratingModel, text: str, mixture: Mixture, tokens: int = 8) -> list[int]:
    """What transformers' own greedy decoding gives, without padding, adapters in the weights."""
    ids = torch.tensor([model.prompt(text)])
    dense: Any = with_dense(model.module, model.slab, mixture)
    out = dense.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
    )
    return [t for t in out[0, ids.shape[1] :].tolist() if t != 2]


def test_a_batch_is_transformers_row_by_row(model: GeneratingModel) -> None:
    answers = model.generate(TEXTS, MIXTURES)
    expected = [reference(model, *pair) for pair in zip(TEXTS, MIXTURES, strict=True)]
    assert [answer.tokens for answer in answers] == expected
    assert len({tuple(tokens) for tokens in expected}) == 4  # adapters make a difference
    alone = [model.generate([t], [m])[0] for t, m in zip(TEXTS, MIXTURES, strict=True)]
    assert alone == answers
    assert model.answers([Query(t) for t in TEXTS], MIXTURES) == [a.text.strip() for a in answers]
    assert [a.prompt_tokens for a in answers] == [3, 1, 7, 4]


@pytest.mark.parametrize("make", [tiny_gpt2, tiny_mistral])
def test_learned_positions_and_windows_of_attention(make: Any) -> None:
    module = make()
    pool = AdapterSlab.over(module)
    for k, rank in enumerate((2, 4, 8)):
        pool.add(f"a{k}", random_factors(module, k, rank, ("c_attn", "c_fc", "proj"), 0.5))
    model = GeneratingModel(module, tiny_tokenizer(), pool, 8, PrefixCache(500))
    expected = [reference(model, *pair) for pair in zip(TEXTS, MIXTURES, strict=True)]
    for _ in range(2):  # the second time with what was kept of the first
        assert [a.tokens for a in model.generate(TEXTS, MIXTURES)] == expected
    longer = [f"{text} w17 w18 w19 w20 w21" for text in TEXTS]
    expected = [reference(model, *pair) for pair in zip(longer, MIXTURES, strict=True)]
    assert [a.tokens for a in model.generate(longer, MIXTURES)] == expected
    assert (model.prefixes.hits > 0) == (make is tiny_gpt2)  # a window has no gaps


def test_rows_end_on_their_own(model: GeneratingModel) -> None:
    whole = model.generate(TEXTS, MIXTURES)
    limits = [Decoding(1), Decoding(8), Decoding(3), Decoding(5)]
    cut = model.generate(TEXTS, MIXTURES, limits)
    for answer, full, limit in zip(cut, whole, limits, strict=True):
        assert answer.tokens == full.tokens[: limit.max_tokens]
        assert answer.finish == ("length" if len(answer.tokens) == limit.max_tokens else "stop")
    model.ends = frozenset({whole[0].tokens[2]})
    ended = model.generate(TEXTS[:1], MIXTURES[:1])[0]
    assert (ended.tokens, ended.finish) == (whole[0].tokens[:2], "stop")


def test_pieces_make_the_text_and_nothing_beyond_a_stop_is_said(model: GeneratingModel) -> None:
    plain = model.generate(TEXTS, MIXTURES)
    heard: dict[int, list[str]] = {row: [] for row in range(4)}
    answers = model.generate(TEXTS, MIXTURES, heard=lambda row, piece: heard[row].append(piece))
    assert answers == plain
    assert ["".join(pieces) for pieces in heard.values()] == [answer.text for answer in plain]
    assert len(heard[0]) > 3
    words = plain[0].text.split()
    stop = f"{words[3]} {words[4][:2]}"  # ends in the middle of a word
    said: list[str] = []
    stopped = model.generate(
        TEXTS[:1], MIXTURES[:1], [Decoding(8, (stop,))], lambda row, piece: said.append(piece)
    )[0]
    assert stopped.text == plain[0].text.partition(stop)[0] == "".join(said)
    assert stopped.finish == "stop"


def test_prefixes_are_reused_under_their_own_mixture_only(llama: Any, slab: AdapterSlab) -> None:
    plain = GeneratingModel(llama, tiny_tokenizer(), slab, 6)
    caching = GeneratingModel(llama, tiny_tokenizer(), slab, 6, PrefixCache(200))
    system = "w10 w11 w12 w13 w14"
    first = [f"{system} w20", f"{system} w21 w22", "w3"]
    mixtures = [Mixture((0,), (1.0,)), BASE, Mixture((1,), (1.0,))]
    for texts in (
        first,
        first,
        [f"{system} w30 w31 w32", f"{system}", "w3 w4"],
        ["w9", *first[:2]],
    ):
        assert caching.generate(texts, mixtures) == plain.generate(texts, mixtures)
    assert caching.prefixes.hits == 6
    other = [mixtures[1], mixtures[2], mixtures[0]]
    assert caching.generate(first, other) == plain.generate(first, other)
    slab.replace("a0", random_factors(llama, 50, 4))  # the old one's keys are not the new one's
    assert caching.generate(first, mixtures) == plain.generate(first, mixtures)
    assert caching.prefixes.tokens <= 200


def test_the_cache_keeps_what_was_used_last(llama: Any, slab: AdapterSlab) -> None:
    caching = GeneratingModel(llama, tiny_tokenizer(), slab, 2, PrefixCache(8))
    for text in ("w3 w4 w5", "w6 w7 w8", "w3 w4 w5", "w9 w10 w11", "w3 w4 w5"):
        caching.generate([text], [BASE])
    assert caching.prefixes.hits == 2
    assert caching.prefixes.tokens == 6
    caching.generate([" ".join(["w7"] * 20)], [BASE])
    assert caching.prefixes.tokens == 6


def test_a_decode_step_multiplies_live_rows_only(
    model: GeneratingModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    select = RowMixing.select_mixtures

    def counted(self: RowMixing, mixtures: Any) -> None:
        sizes.append(len(mixtures))
        select(self, mixtures)

    monkeypatch.setattr(RowMixing, "select_mixtures", counted)
    model.generate(TEXTS, MIXTURES, [Decoding(1), Decoding(2), Decoding(2), Decoding(4)])
    assert sizes == [4, 3, 1]


def test_what_cannot_be_generated_is_refused(model: GeneratingModel) -> None:
    assert model.generate([], []) == []
    with pytest.raises(ConfigError, match="one mixture for each"):
        model.generate(TEXTS, MIXTURES[:2])
    with pytest.raises(ConfigError, match="no adapter of the pool"):
        model.generate(["w3"], [Mixture((7,), (1.0,))])
    with pytest.raises(ConfigError, match="more than the model's 128"):
        model.generate(["w3"], [BASE], [Decoding(128)])
    with pytest.raises(ConfigError, match="no token"):
        model.generate([""], [BASE])
    with pytest.raises(ConfigError, match="max_tokens"):
        Decoding(0)
    with pytest.raises(ConfigError, match="stop"):
        Decoding(1, ("",))
    with pytest.raises(ConfigError, match="embeddings"):
        model.embeddings(["w3"], [BASE])


def test_half_a_letter_is_not_said() -> None:
    class Bytes:
        """A tokenizer whose tokens are bytes."""

        def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
            return bytes(tokens).decode(errors="replace")

    said: list[str] = []
    row = RowDecoder(Bytes(), [1], Decoding(20), frozenset({0}), said.append)
    for byte in "aé中!".encode():
        assert not row.take(byte)
    assert row.take(0)
    assert said == ["a", "é", "中", "!"]
