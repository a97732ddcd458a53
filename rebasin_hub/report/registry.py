"""Answers of the registry as text for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from rebasin_hub.pipeline.registry import Which
from rebasin_hub.registry.results import (
    Added,
    Alias,
    AliasEvent,
    Collected,
    Duplicates,
    Imported,
    Lineage,
    Metric,
    ModelSummary,
    ReferenceModel,
    Transferred,
    Verified,
    Version,
    VersionDetails,
)
from rebasin_hub.report import lines
from rebasin_hub.report.figures import plain
from rebasin_hub.report.lines import size, write
from rebasin_hub.report.render import render

__all__: list[str] = []

WIDTH = 18
"""Of the column of keys."""
line = partial(lines.line, width=WIDTH)
notes = partial(lines.notes, width=WIDTH)


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _aliases(aliases: Mapping[str, int]) -> str:
    return "".join(f"  @{alias}→{number}" for alias, number in aliases.items())


@render.register
def _(model: ModelSummary, console: Console) -> None:
    count = _counted(model.versions, "version")
    write(
        console,
        f"{model.name:<32} {count:<12} newest {model.latest:<5} {model.spec or '(no spec)':<16} "
        f"{model.parameters:>14,} parameters{_aliases(model.aliases)}",
    )


@render.register
def _(version: Version, console: Console) -> None:
    marks = "".join(f"  @{alias}" for alias in version.aliases)
    tags = "".join(
        f"  {key}={value}" if value else f"  {key}" for key, value in version.tags.items()
    )
    removed = f"  removed {version.removed}" if version.removed else ""
    write(
        console,
        f"{version.reference:<32} {version.created}  {version.digest[:12]}  {version.kept:<8} "
        f"{size(version.nbytes):>8}{marks}{tags}{removed}",
    )


@render.register
def _(added: Added, console: Console) -> None:
    version = added.version
    line(console, "registered", f"{version.reference} ({version.kept}, {size(version.nbytes)})")
    _identity(console, version)
    for parent in added.parents:
        line(console, parent.kind, parent.model)
    if added.same_as:
        line(console, "same model as", ", ".join(added.same_as))
    if added.stored_bytes or added.shared_bytes:
        shared = f", {size(added.shared_bytes)} were there" if added.shared_bytes else ""
        line(console, "store grew by", f"{size(added.stored_bytes)}{shared}")
    notes(console, added.notes)


def _identity(console: Console, version: Version) -> None:
    line(console, "digest", version.digest)
    line(console, "canonical", version.canonical or "unknown: no spec fits")
    spec = version.spec or "none fits"
    line(console, "spec", f"{spec}; {version.parameters:,} parameters")


@render.register
def _(found: VersionDetails, console: Console) -> None:
    version = found.version
    removed = f", removed {version.removed}" if version.removed else ""
    line(console, "version", f"{version.reference} ({version.kept}{removed})")
    _identity(console, version)
    line(console, "types", ", ".join(f"{t} {n:,}" for t, n in found.dtypes.items()))
    line(console, "created", f"{version.created} from {version.source}")
    if version.aliases:
        line(console, "aliases", ", ".join(version.aliases))
    for key, value in version.tags.items():
        line(console, "tag", f"{key}: {value}" if value else key)
    if found.reference_of:
        line(console, "reference", f"of {version.spec} at these sizes")
    for file in found.files:
        place = file.path if version.kept == "in place" else file.name
        line(console, "file", f"{file.digest[:12]} {size(file.nbytes):>8}  {place}")
    if found.compact is not None:
        taken = f"{size(found.compact.nbytes)} as a difference to {found.compact.base}"
        line(console, "compact", taken)
    for artefact in found.artefacts:
        line(console, artefact.role, f"{artefact.digest[:12]} {artefact.name}")
    for parent in found.parents:
        line(console, parent.kind, parent.model)
    for child in found.children:
        line(console, "child", f"{child.model} ({child.kind})")
    for metric in found.metrics:
        render(metric, console)


@render.register
def _(metric: Metric, console: Console) -> None:
    value = "not a number" if metric.value is None else f"{metric.value:.6g}"
    task = f" on {metric.task}" if metric.task else ""
    proof = f"; record {metric.record[:12]}" if metric.record else ""
    line(console, "metric", f"{metric.name} = {value}{task} ({metric.created}{proof})")


@render.register
def _(alias: Alias, console: Console) -> None:
    write(console, f"{alias.name}@{alias.alias} → {alias.name}:{alias.number}")


@render.register
def _(event: AliasEvent, console: Console) -> None:
    target = "nothing" if event.number is None else f"{event.name}:{event.number}"
    write(console, f"{event.created}  {event.name}@{event.alias} → {target}  ({event.action})")


@render.register
def _(reference: ReferenceModel, console: Console) -> None:
    write(
        console,
        f"{reference.version}: reference of {reference.spec} (spec {reference.spec_digest[:12]}, "
        f"sizes {reference.signature[:12]}), since {reference.created}",
    )


@render.register
def _(found: Which, console: Console) -> None:
    for match in found.matches:
        marks = "".join(f"  @{alias}" for alias in match.version.aliases)
        write(console, f"{match.version.reference}  {match.how}{marks}")
    if not found.matches:
        write(console, f"{found.path}: is none of the registered versions")
        if found.digest is not None:
            line(console, "digest", found.digest)
        if found.canonical is not None:
            line(console, "canonical", found.canonical)
    notes(console, found.notes)


@render.register
def _(group: Duplicates, console: Console) -> None:
    how = "equal" if group.identical else "equal up to renumbering"
    write(console, f"{', '.join(group.versions)}: {how} ({group.digest[:12]})")


@render.register
def _(found: Verified, console: Console) -> None:
    for finding in found.findings:
        console.print("[red]wrong[/red]             ", end="")
        write(console, str(finding))
    checked = (
        f"{_counted(found.versions, 'version')}, "
        f"{_counted(found.files_in_place, 'file')} in place, "
        f"{_counted(found.objects, 'object')} ({size(found.nbytes)})"
    )
    line(console, "checked", checked)
    if found.objects_unused:
        line(console, "unused", f"{_counted(found.objects_unused, 'object')}, which gc takes away")
    if found.sound:
        console.print("[green]the registry is sound[/green]")


@render.register
def _(done: Collected, console: Console) -> None:
    verb = "would free" if done.dry_run else "freed"
    line(
        console,
        verb,
        f"{size(done.nbytes)}: {_counted(done.objects, 'object')}, "
        f"{_counted(done.temporary, 'temporary file')}, "
        f"{done.restored:,} restored {'copy' if done.restored == 1 else 'copies'}",
    )
    for version in done.versions:
        line(console, "version", f"{version} (removed before)")


@render.register
def _(done: Transferred, console: Console) -> None:
    line(console, "exported", ", ".join(done.versions))
    line(console, "wrote", f"{done.path} ({_counted(done.objects, 'object')}, {size(done.nbytes)})")


@render.register
def _(done: Imported, console: Console) -> None:
    line(console, "imported", ", ".join(done.versions) or "nothing new")
    if done.known:
        line(console, "here already", ", ".join(done.known))


@render.register
def _(found: Lineage, console: Console) -> None:
    root = Tree(_node(found, found.root, "bold"))
    parents = root.add(Text("comes from", style="dim"))
    children = root.add(Text("led to", style="dim"))
    above: dict[str, list[tuple[str, str]]] = {}
    below: dict[str, list[tuple[str, str]]] = {}
    for edge in found.edges:
        above.setdefault(edge.child, []).append((edge.parent, f"{edge.kind} "))
        below.setdefault(edge.parent, []).append((edge.child, f"{edge.kind} → "))
    _grow(parents, found.root, above, lambda name: _node(found, name), set())
    _grow(children, found.root, below, lambda name: _node(found, name), set())
    root.children = [branch for branch in root.children if branch.children]
    console.print(root)


def _grow(
    tree: Tree,
    name: str,
    edges: Mapping[str, list[tuple[str, str]]],
    node: Callable[[str], Text],
    seen: set[str],
) -> None:
    for other, kind in edges.get(name, ()):
        known = other in seen and other in edges
        again = Text("  (as above)" if known else "", style="dim")
        branch = tree.add(Text(kind, style="dim") + node(other) + again)
        if not known:
            seen.add(other)
            _grow(branch, other, edges, node, seen)


def _node(found: Lineage, name: str, style: str = "") -> Text:
    version = found.versions.get(name)
    facts = "" if version is None else f"  {version.digest[:12]}"
    marks = "" if version is None else "".join(f"  @{alias}" for alias in version.aliases)
    removed = "  (removed)" if version is not None and version.removed else ""
    return Text(plain(name), style=style) + Text(plain(f"{facts}{marks}{removed}"), style="dim")
