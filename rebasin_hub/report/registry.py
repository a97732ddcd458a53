"""Answers of the registry as text for people."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
from rebasin_hub.report.figures import plain
from rebasin_hub.report.text import render

__all__: list[str] = []


def _print(console: Console, text: str) -> None:
    console.print(plain(text), markup=False)


def _line(console: Console, key: str, value: object) -> None:
    console.print(f"[bold]{key:<18}[/bold]", end="")
    _print(console, str(value))


def _notes(console: Console, notes: tuple[str, ...]) -> None:
    for note in dict.fromkeys(notes):
        console.print("[yellow]note[/yellow]              ", end="")
        _print(console, note)


def _size(nbytes: int) -> str:
    value, unit = float(nbytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:  # noqa: PLR2004
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def _aliases(aliases: Mapping[str, int]) -> str:
    return "".join(f"  @{alias}→{number}" for alias, number in aliases.items())


@render.register
def _(model: ModelSummary, console: Console) -> None:
    count = f"{model.versions} version{'s' * (model.versions != 1)}"
    _print(
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
    _print(
        console,
        f"{version.reference:<32} {version.created}  {version.digest[:12]}  {version.kept:<8} "
        f"{_size(version.nbytes):>8}{marks}{tags}{removed}",
    )


@render.register
def _(added: Added, console: Console) -> None:
    version = added.version
    _line(console, "registered", f"{version.reference} ({version.kept}, {_size(version.nbytes)})")
    _identity(console, version)
    for parent in added.parents:
        _line(console, parent.kind, parent.model)
    if added.same_as:
        _line(console, "same model as", ", ".join(added.same_as))
    if added.stored_bytes or added.shared_bytes:
        shared = f", {_size(added.shared_bytes)} were there" if added.shared_bytes else ""
        _line(console, "store grew by", f"{_size(added.stored_bytes)}{shared}")
    _notes(console, added.notes)


def _identity(console: Console, version: Version) -> None:
    _line(console, "digest", version.digest)
    _line(console, "canonical", version.canonical or "unknown: no spec fits")
    spec = version.spec or "none fits"
    _line(console, "spec", f"{spec}; {version.parameters:,} parameters")


@render.register
def _(found: VersionDetails, console: Console) -> None:
    version = found.version
    removed = f", removed {version.removed}" if version.removed else ""
    _line(console, "version", f"{version.reference} ({version.kept}{removed})")
    _identity(console, version)
    _line(console, "types", ", ".join(f"{t} {n:,}" for t, n in found.dtypes.items()))
    _line(console, "created", f"{version.created} from {version.source}")
    if version.aliases:
        _line(console, "aliases", ", ".join(version.aliases))
    for key, value in version.tags.items():
        _line(console, "tag", f"{key}: {value}" if value else key)
    if found.reference_of:
        _line(console, "reference", f"of {version.spec} at these sizes")
    for file in found.files:
        place = file.path if version.kept == "in place" else file.name
        _line(console, "file", f"{file.digest[:12]} {_size(file.nbytes):>8}  {place}")
    if found.compact is not None:
        taken = f"{_size(found.compact.nbytes)} as a difference to {found.compact.base}"
        _line(console, "compact", taken)
    for artefact in found.artefacts:
        _line(console, artefact.role, f"{artefact.digest[:12]} {artefact.name}")
    for parent in found.parents:
        _line(console, parent.kind, parent.model)
    for child in found.children:
        _line(console, "child", f"{child.model} ({child.kind})")
    for metric in found.metrics:
        render(metric, console)


@render.register
def _(metric: Metric, console: Console) -> None:
    value = "not a number" if metric.value is None else f"{metric.value:.6g}"
    task = f" on {metric.task}" if metric.task else ""
    proof = f"; record {metric.record[:12]}" if metric.record else ""
    _line(console, "metric", f"{metric.name} = {value}{task} ({metric.created}{proof})")


@render.register
def _(alias: Alias, console: Console) -> None:
    _print(console, f"{alias.name}@{alias.alias} → {alias.name}:{alias.number}")


@render.register
def _(event: AliasEvent, console: Console) -> None:
    target = "nothing" if event.number is None else f"{event.name}:{event.number}"
    _print(console, f"{event.created}  {event.name}@{event.alias} → {target}  ({event.action})")


@render.register
def _(reference: ReferenceModel, console: Console) -> None:
    _print(
        console,
        f"{reference.version}: reference of {reference.spec} (spec {reference.spec_digest[:12]}, "
        f"sizes {reference.signature[:12]}), since {reference.created}",
    )


@render.register
def _(found: Which, console: Console) -> None:
    for match in found.matches:
        marks = "".join(f"  @{alias}" for alias in match.version.aliases)
        _print(console, f"{match.version.reference}  {match.how}{marks}")
    if not found.matches:
        _print(console, f"{found.path}: is none of the registered versions")
        if found.digest is not None:
            _line(console, "digest", found.digest)
        if found.canonical is not None:
            _line(console, "canonical", found.canonical)
    _notes(console, found.notes)


@render.register
def _(group: Duplicates, console: Console) -> None:
    how = "equal" if group.identical else "equal up to renumbering"
    _print(console, f"{', '.join(group.versions)}: {how} ({group.digest[:12]})")


@render.register
def _(found: Verified, console: Console) -> None:
    for finding in found.findings:
        console.print("[red]wrong[/red]             ", end="")
        _print(console, str(finding))
    checked = (
        f"{found.versions:,} versions, {found.files_in_place:,} files in place, "
        f"{found.objects:,} objects ({_size(found.nbytes)})"
    )
    _line(console, "checked", checked)
    if found.objects_unused:
        _line(console, "unused", f"{found.objects_unused:,} objects, which gc takes away")
    if found.sound:
        console.print("[green]the registry is sound[/green]")


@render.register
def _(done: Collected, console: Console) -> None:
    verb = "would free" if done.dry_run else "freed"
    _line(
        console,
        verb,
        f"{_size(done.nbytes)}: {done.objects:,} objects, {done.temporary:,} temporary files, "
        f"{done.restored:,} restored copies",
    )
    for version in done.versions:
        _line(console, "version", f"{version} (removed before)")


@render.register
def _(done: Transferred, console: Console) -> None:
    _line(console, "exported", ", ".join(done.versions))
    _line(console, "wrote", f"{done.path} ({done.objects:,} objects, {_size(done.nbytes)})")


@render.register
def _(done: Imported, console: Console) -> None:
    _line(console, "imported", ", ".join(done.versions) or "nothing new")
    if done.known:
        _line(console, "here already", ", ".join(done.known))


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
