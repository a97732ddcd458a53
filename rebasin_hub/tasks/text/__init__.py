"""Tasks on text: the perplexity of language models, and the classification of sentences.

Networks are built from a checkpoint's config.json by transformers and tokenized by the tokenizer
that lies beside it. Importing this package imports neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rebasin_hub.errors import InputError
from rebasin_hub.spec.check import nearest

if TYPE_CHECKING:
    from rebasin_hub.tasks.task import Options, Task

__all__ = ["NAMES", "text_task"]

NAMES = ("text", "text-classification", "glue")
"""`glue` is another name of `text-classification`."""


def text_task(name: str, options: Options) -> Task:
    """Read the data of a text task.

    Args:
        name: one of `NAMES`.
        options: `data` is a file, or a folder with one file for each split. Settings of `text`:
            `context`, `stride`, `tokenizer`, `split`; of `text-classification`: `columns`,
            `label`, `labels`, `context`, `tokenizer`, `split`. See the two tasks' classes.

    Raises:
        InputError: the data is missing, damaged or empty, or a setting is wrong.
        MissingExtraError: a package that reads the data is not installed.

    """
    if name not in NAMES:
        raise InputError(f"there is no text task '{name}'{nearest(name, NAMES)}")
    if name == "text":
        from rebasin_hub.tasks.text.language import LanguageTask

        return LanguageTask(options)
    from rebasin_hub.tasks.text.classification import ClassificationTask

    return ClassificationTask(options)
