"""Answers about the Hub as text for people."""

from __future__ import annotations

from rich.console import Console

from rebasin_hub.hub.push import Pushed, PushPlan
from rebasin_hub.pipeline.hub import Audit, Pulled
from rebasin_hub.report.figures import plain
from rebasin_hub.report.text import render

__all__: list[str] = []

SIGNS = {"confirmed": "yes", "refuted": "NO", "not checked": "?"}


def _print(console: Console, text: str) -> None:
    console.print(plain(text), markup=False)


def _line(console: Console, key: str, value: object) -> None:
    console.print(f"[bold]{key:<13}[/bold]", end="")
    _print(console, str(value))


def _notes(console: Console, notes: tuple[str, ...]) -> None:
    for note in dict.fromkeys(notes):
        console.print("[yellow]note[/yellow]         ", end="")
        _print(console, note)


@render.register
def _(plan: PushPlan, console: Console) -> None:
    where = plan.destination
    onto = "a new repository" if plan.parent is None else f"onto {plan.parent[:12]}"
    how = "as a pull request " if where.pull_request else ""
    private = ", private" if where.private and plan.parent is None else ""
    _line(console, "would publish", f"{where.repo} {how}to {where.branch} ({onto}{private})")
    _line(console, "message", plan.message)
    for file in plan.files:
        there = "  (is there already)" if file.name in plan.unchanged else ""
        _line(console, "file", f"{file.name:<36} {file.nbytes:>16,} bytes{there}")
    for name in plan.removed:
        _line(console, "would remove", name)
    _notes(console, plan.notes)
    console.print()
    _print(console, plan.card)


@render.register
def _(done: Pushed, console: Console) -> None:
    plan = done.plan
    if done.commit == plan.parent:
        _line(console, "published", f"{plan.destination.repo}@{done.commit} has all of it already")
        return
    new = " (a new repository)" if done.created else ""
    _line(console, "published", f"{plan.destination.repo}@{done.commit}{new}")
    count = len(plan.files) - len(plan.unchanged)
    _line(console, "files", f"{count} new or changed, {len(plan.unchanged)} as before")
    _line(console, "weights", f"{done.sent:,} bytes were sent, {done.kept:,} were there already")
    for name in plan.removed:
        _line(console, "removed", name)
    _line(console, "page", done.pull_request or done.url)
    _notes(console, plan.notes)


@render.register
def _(done: Pulled, console: Console) -> None:
    _line(console, "model", str(done.reference))
    if done.base is not None:
        _line(console, "renumbered", str(done.base))
    _line(console, "checked", f"{done.checked} files, and the weights: {done.digest}")
    _line(console, "wrote", f"{done.output} ({done.nbytes:,} bytes)")
    _notes(console, done.notes)


@render.register
def _(found: Audit, console: Console) -> None:
    _line(console, "model", str(found.reference))
    width = max((len(check.claim) for check in found.checks), default=0)
    for check in found.checks:
        _line(
            console,
            check.outcome,
            f"{SIGNS[check.outcome]:<4}{check.claim:<{width}}  {check.detail}",
        )
    done = sum(check.outcome != "not checked" for check in found.checks)
    wrong = sum(check.outcome == "refuted" for check in found.checks)
    verdict = f"{wrong} of {done} claims do not hold" if wrong else f"all {done} claims hold"
    _line(console, "verdict", verdict)
