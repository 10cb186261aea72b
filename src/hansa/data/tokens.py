"""Texts as rows of token ids: by the tokenizer of a pretrained model, or by hashed words.

A row begins with a mark that stands for the whole text, is cut at a length and filled up at its
end, so that rows of all parties have one form that none of them had to tell.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hansa.base.errors import ConfigError, DataError
from hansa.base.pretrained import OWN_CODE_ONLY, pretrained_place, require_transformers

_WORD = re.compile(r"\w+|[^\w\s]")
_PADDING, _BEGIN, _MARKS = 0, 1, 2


class TokenRows(NamedTuple):
    """Rows of ids.

    Attributes:
        ids: int64 [N, T], padded on the right.
        vocabulary: how many ids there are.
        padding: the id that fills up.
    """

    ids: np.ndarray
    vocabulary: int
    padding: int


def hashed(texts: Sequence[str], vocabulary: int, length: int) -> TokenRows:
    """Words and marks by their hash, without a list of words that somebody would have to make.

    Two words share an id by chance (Weinberger et al. 2009): among V ids a word shares that of
    any of k others with a chance of about k / V.
    """
    rows = [
        [_BEGIN, *(_MARKS + zlib.crc32(w.encode()) % (vocabulary - _MARKS) for w in words(text))]
        for text in texts
    ]
    return TokenRows(_filled(rows, _PADDING, length), vocabulary, _PADDING)


def words(text: str) -> list[str]:
    """The words and marks of a text, in small letters."""
    return _WORD.findall(text.lower())


def tokenized(texts: Sequence[str], tokenizer: str, length: int) -> TokenRows:
    """Texts as a pretrained model's tokenizer reads them, with its own marks.

    Args:
        tokenizer: a folder that transformers has written, or a name on its hub.

    Raises:
        ConfigError: transformers is missing, or there is no such tokenizer.
        DataError: it has no id to fill up with.
    """
    require_transformers("tokenizer", tokenizer)
    place = pretrained_place(tokenizer, "tokenizer")
    from transformers import AutoTokenizer

    try:
        reads = AutoTokenizer.from_pretrained(
            place, local_files_only=Path(place).is_dir(), **OWN_CODE_ONLY
        )
    except (OSError, ValueError, KeyError) as error:
        problem = f"holds no tokenizer of transformers ({str(error).splitlines()[0][:120]})"
        fix = "a folder of save_pretrained, as a rule that of model.base"
        raise ConfigError("tokenizer", tokenizer, problem, fix) from error
    padding = reads.pad_token_id if reads.pad_token_id is not None else reads.eos_token_id
    if padding is None:
        raise DataError(f"{tokenizer}: its tokenizer has no token to fill up with (pad or eos)")
    cut = {"truncation": True, "max_length": length, "return_attention_mask": False}
    rows = reads(list(texts), **cut)["input_ids"] if texts else []
    return TokenRows(_filled(rows, padding, length), len(reads), padding)


def _filled(rows: Sequence[Sequence[int]], padding: int, length: int) -> np.ndarray:
    ids = np.full((len(rows), length), padding, dtype=np.int64)
    for k, row in enumerate(rows):
        some = row[:length]
        ids[k, : len(some)] = some
    return ids
