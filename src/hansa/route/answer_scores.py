"""How right an answer is, between 0 and 1.

* ``exact_match``: lower case, no full stops, outer space gone, the reference up to its first blank
  line.
* ``contains``: the reference stands in the answer and no other candidate does.
* ``bleu``: of one sentence, on words between spaces, not smoothed: 0 where a 4-gram is missing
  (Papineni et al. 2002, with one reference).
* ``rouge``: the mean of the F-scores of ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004), on lower-case
  words, without stemming.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from hansa.base.errors import ConfigError

Words = Sequence[str]
YES_OR_NO = ("exact_match", "contains")
"""Metrics whose scores are 0 or 1: their means have Wilson's interval."""


def exact_match(answer: str, reference: str, candidates: Sequence[str] = ()) -> float:
    """1 where the answer is the reference, as the module's text says."""
    return float(_normal(answer) == _normal(reference))


def contains(answer: str, reference: str, candidates: Sequence[str] = ()) -> float:
    """1 where the answer holds the reference, as whole words, and no other candidate."""

    def held(what: str) -> bool:
        return bool(what) and re.search(rf"(?<!\w){re.escape(what)}(?!\w)", said) is not None

    said, wanted = _normal(answer), _normal(reference)
    others = [_normal(one) for one in candidates if _normal(one) != wanted]
    # "not good" holds "good": what stands within the reference is no other answer.
    return float(held(wanted) and not any(held(o) and o not in wanted for o in others))


def bleu(answer: str, reference: str, candidates: Sequence[str] = ()) -> float:
    """Sentence BLEU of up to four words with the brevity penalty."""
    said, wanted = answer.split(), reference.split()
    if not said or not wanted:
        return 0.0
    logs = 0.0
    for n in range(1, 5):
        ours, theirs = _grams(said, n), _grams(wanted, n)
        shared = (ours & theirs).total()
        if not shared:
            return 0.0
        logs += math.log(shared / ours.total()) / 4
    short = min(0.0, 1 - len(wanted) / len(said))
    return math.exp(logs + short)


def rouge(answer: str, reference: str, candidates: Sequence[str] = ()) -> float:
    """The mean F of ROUGE-1, ROUGE-2 and ROUGE-L."""
    return sum(rouges(answer, reference)) / 3


def rouges(answer: str, reference: str) -> tuple[float, float, float]:
    """F of ROUGE-1, ROUGE-2 and ROUGE-L."""
    said, wanted = _words(answer), _words(reference)
    one, two = (
        _f((_grams(said, n) & _grams(wanted, n)).total(), len(said) - n + 1, len(wanted) - n + 1)
        for n in (1, 2)
    )
    return one, two, _f(_longest(said, wanted), len(said), len(wanted))


ANSWER_SCORES: dict[str, Callable[[str, str, Sequence[str]], float]] = {
    "exact_match": exact_match,
    "contains": contains,
    "bleu": bleu,
    "rouge": rouge,
}


def check_metric(metric: str, field: str = "metric") -> None:
    """Refuse a metric that there is not.

    Raises:
        ConfigError: names those that there are.
    """
    if metric not in ANSWER_SCORES:
        raise ConfigError(field, metric, "is no metric", f"one of {', '.join(ANSWER_SCORES)}")


def _normal(text: str) -> str:
    first = re.split(r"\n\s*\n", text.strip())[0]
    return " ".join(first.lower().replace(".", "").split())


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def _grams(words: Words, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def _f(shared: int, ours: int, theirs: int) -> float:
    return 2 * shared / (ours + theirs) if shared else 0.0


def _longest(one: Words, other: Words) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for j, against in enumerate(other, 1):
            before, row[j] = row[j], before + 1 if word == against else max(row[j], row[j - 1])
    return row[-1]
