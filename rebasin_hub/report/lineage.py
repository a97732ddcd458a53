"""A lineage as a Graphviz graph, and as a page with a drawing that needs no other file."""

from __future__ import annotations

import html
import json
from pathlib import Path

from rebasin_hub.formats import new_file
from rebasin_hub.registry.results import Lineage
from rebasin_hub.report.figures import plain

__all__ = ["dot_text", "html_text", "save_html"]

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 240, 48, 40, 72, 20
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Lineage of {title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; --line: #8a8f98; --fill: #f4f5f7; --root: #dbe8ff; }}
@media (prefers-color-scheme: dark) {{ :root {{ --fill: #23262b; --root: #1f3a66; }} }}
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2rem; }}
figure {{ margin: 0; overflow-x: auto; }}
rect {{ fill: var(--fill); stroke: var(--line); }} rect.root {{ fill: var(--root); }}
path {{ fill: none; stroke: var(--line); }}
text {{ fill: currentColor; text-anchor: middle; }}
.small {{ font-size: 11px; opacity: 0.75; }}
</style></head><body><h1>Lineage of {title}</h1>
<figure><svg width="{width}" height="{height}" role="img" aria-label="Lineage of {title}">
{drawing}
</svg></figure>
<ul>
{edges}
</ul></body></html>
"""


def dot_text(found: Lineage) -> str:
    """Return a lineage in the language of Graphviz; edges point from parents to children."""
    lines = ["digraph lineage {", "  node [shape=box];"]
    for name in _layers(found):
        version = found.versions.get(name)
        label = name if version is None else f"{name}\n{version.digest[:12]}"
        bold = ", style=bold" if name == found.root else ""
        lines.append(f"  {_quoted(name)} [label={_quoted(label)}{bold}];")
    lines += [
        f"  {_quoted(e.parent)} -> {_quoted(e.child)} [label={_quoted(e.kind)}];"
        for e in found.edges
    ]
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    # JSON escapes quotes, backslashes and line ends as DOT does.
    return json.dumps(plain(text), ensure_ascii=False)


def save_html(found: Lineage, path: Path, *, force: bool = False) -> None:
    """Write the page.

    Raises:
        OutputError: it exists and `force` is not given, or cannot be written.

    """
    with new_file(path.absolute(), force=force) as file:
        file.put(html_text(found).encode())


def html_text(found: Lineage) -> str:
    """Return a page with a drawing of a lineage, oldest versions on top."""
    places = _places(_layers(found))
    width = max(x for x, _ in places.values()) + _WIDTH + _MARGIN
    height = max(y for _, y in places.values()) + _HEIGHT + _MARGIN
    drawing = [_arrow(places[edge.parent], places[edge.child], edge.kind) for edge in found.edges]
    drawing += [_box(found, name, *place) for name, place in places.items()]
    edges = [
        f"<li>{_escaped(e.child)}: {_escaped(e.kind)} {_escaped(e.parent)}</li>"
        for e in found.edges
    ]
    return _PAGE.format(
        title=_escaped(found.root),
        width=width,
        height=height,
        drawing="\n".join(drawing),
        edges="\n".join(edges),
    )


def _layers(found: Lineage) -> dict[str, int]:
    """Return for each version, in order, how many generations lie above it at most."""
    parents: dict[str, list[str]] = {name: [] for name in found.versions}
    for edge in found.edges:
        parents.setdefault(edge.parent, [])
        parents.setdefault(edge.child, []).append(edge.parent)
    layers: dict[str, int] = {}
    waiting = list(parents)
    while waiting:  # there is no circle, so that every round places at least one
        later = []
        for name in waiting:
            if all(parent in layers for parent in parents[name]):
                layers[name] = 1 + max((layers[parent] for parent in parents[name]), default=-1)
            else:
                later.append(name)
        waiting = later
    return layers


def _places(layers: dict[str, int]) -> dict[str, tuple[int, int]]:
    used: dict[int, int] = {}
    places = {}
    for name, layer in layers.items():
        column = used.get(layer, 0)
        used[layer] = column + 1
        places[name] = (
            _MARGIN + column * (_WIDTH + _GAP_X),
            _MARGIN + layer * (_HEIGHT + _GAP_Y),
        )
    return places


def _arrow(parent: tuple[int, int], child: tuple[int, int], kind: str) -> str:
    x1, y1 = parent[0] + _WIDTH // 2, parent[1] + _HEIGHT
    x2, y2 = child[0] + _WIDTH // 2, child[1]
    middle = (y1 + y2) // 2
    return (
        f'<path d="M{x1},{y1} C{x1},{middle} {x2},{middle} {x2},{y2}"/>'
        f'<text class="small" x="{(x1 + x2) // 2}" y="{middle}">{_escaped(kind)}</text>'
    )


def _box(found: Lineage, name: str, x: int, y: int) -> str:
    version = found.versions.get(name)
    facts = "elsewhere" if version is None else f"{version.digest[:12]} · {version.created[:10]}"
    kind = ' class="root"' if name == found.root else ""
    middle = x + _WIDTH // 2
    return (
        f'<g><title>{_escaped(name)}</title><rect{kind} x="{x}" y="{y}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="6"/><text x="{middle}" y="{y + 20}">{_escaped(name)}</text>'
        f'<text class="small" x="{middle}" y="{y + 38}">{_escaped(facts)}</text></g>'
    )


def _escaped(text: str) -> str:
    return html.escape(plain(text), quote=True)
