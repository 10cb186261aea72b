"""The eight sentence classification tasks (see ``sentences``) as one data set, each an owner."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from hansa.base.component import register
from hansa.data.sources.sentences import NAMES, TaskNames, sentence_pool
from hansa.data.sources.text_source import Texts, TextSource


@register("sentences", paper="Kim", year=2014, url="https://arxiv.org/abs/1408.5882")
class Sentences(TextSource):
    """Sentences of eight tasks: films, questions, products, opinions, news; owners are the tasks.

    Labels are words. Where several tasks are taken, labels of the same words are one class. No
    sentence of a training set stands in a test set of another task. AG News (Zhang et al. 2015) is
    its test file of 7,600, split here.
    """

    tasks: TaskNames = Field(("agnews",), description=f"some of {', '.join(NAMES)}")

    def texts(self) -> Texts:
        pool = sentence_pool(self.tasks)
        names = tuple(dict.fromkeys(label for task in pool.tasks for label in task.labels))
        said: list[str] = []
        targets: list[int] = []
        groups: list[int] = []
        first_test = 0
        for testing in (False, True):
            first_test = len(said)
            for group, task in enumerate(pool.tasks):
                some = task.test if testing else (*task.train, *task.validation)
                said += [sentence.text for sentence in some]
                targets += [names.index(task.labels[sentence.label]) for sentence in some]
                groups += [group] * len(some)
        return Texts(
            said, np.array(targets), names, np.array(groups), self.tasks, first_test,
            (pool.story(),) if len(self.tasks) > 1 else (),
        )  # fmt: skip
