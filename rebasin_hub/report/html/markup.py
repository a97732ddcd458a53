"""HTML from Python in which nothing but tags written here is markup."""

from __future__ import annotations

import html

from rebasin_hub.report.figures import plain

__all__ = ["Html", "joined", "tag"]


class Html(str):
    """Text that is HTML already; any other text is escaped where it is put into a tag."""

    __slots__ = ()


def joined(*parts: str) -> Html:
    """Return parts one after another, those escaped that are no HTML."""
    return Html("".join(part if isinstance(part, Html) else _escaped(part) for part in parts))


def tag(name: str, /, *children: str, **attributes: str | float | bool) -> Html:
    """Return an element; `class_` is `class`, and `aria_label` is `aria-label`.

    An attribute that is True stands without a value, one that is False is left out.
    """
    words = [name]
    for key, value in attributes.items():
        spelled = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(spelled)
        elif value is not False:
            words.append(f'{spelled}="{_escaped(str(value))}"')
    if name in {"input", "meta", "line", "rect"}:
        return Html(
            f"<{' '.join(words)}>" if name in {"input", "meta"} else f"<{' '.join(words)}/>"
        )
    return Html(f"<{' '.join(words)}>{joined(*children)}</{name}>")


def _escaped(text: str) -> str:
    return html.escape(plain(text), quote=True)
