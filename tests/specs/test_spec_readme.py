"""The examples of specs/README.md are specs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rebasin_hub.specfile import parse_spec

README = Path(__file__).parents[2] / "specs" / "README.md"
EXAMPLES = [
    text
    for text in re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    if "tensors:" in text
]


def test_there_are_examples() -> None:
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("text", EXAMPLES)
def test_example(text: str) -> None:
    head = "" if "spec: 1" in text else "spec: 1\nname: example\n"
    parse_spec(head + text, "README.md")
