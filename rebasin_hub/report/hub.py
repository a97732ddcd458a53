"""Answers about the Hub as text for people."""

from __future__ import annotations

from rich.console import Console

from rebasin_hub.hub.push import Pushed, PushPlan
from rebasin_hub.pipeline.hub import Audit, Pulled
from rebasin_hub.report.lines import line, notes, write
from rebasin_hub.report.render import render

__all__: list[str] = []

SIGNS = {"confirmed": "yes", "refuted": "NO", "not checked": "?"}


@render.register
def _(plan: PushPlan, console: Console) -> None:
    where = plan.destination
    onto = "a new repository" if plan.parent is None else f"onto {plan.parent[:12]}"
    how = "as a pull request " if where.pull_request else ""
    private = ", private" if where.private and plan.parent is None else ""
    line(console, "would push", f"{where.repo} {how}to {where.branch} ({onto}{private})")
    line(console, "message", plan.message)
    for file in plan.files:
        there = "  (is there already)" if file.name in plan.unchanged else ""
        line(console, "file", f"{file.name:<36} {file.nbytes:>16,} bytes{there}")
    for name in plan.removed:
        line(console, "would remove", name)
    notes(console, plan.notes)
    console.print()
    write(console, plan.card)


@render.register
def _(done: Pushed, console: Console) -> None:
    plan = done.plan
    if done.commit == plan.parent:
        line(console, "published", f"{plan.destination.repo}@{done.commit} has all of it already")
        return
    new = " (a new repository)" if done.created else ""
    line(console, "published", f"{plan.destination.repo}@{done.commit}{new}")
    count = len(plan.files) - len(plan.unchanged)
    line(console, "files", f"{count} new or changed, {len(plan.unchanged)} as before")
    line(console, "weights", f"{done.sent:,} bytes were sent, {done.kept:,} were there already")
    for name in plan.removed:
        line(console, "removed", name)
    line(console, "page", done.pull_request or done.url)
    notes(console, plan.notes)


@render.register
def _(done: Pulled, console: Console) -> None:
    line(console, "model", str(done.reference))
    if done.base is not None:
        line(console, "renumbered", str(done.base))
    files = f"{done.checked} file{'s' * (done.checked != 1)}"
    line(console, "checked", f"{files}, and the weights: {done.digest}")
    line(console, "wrote", f"{done.output} ({done.nbytes:,} bytes)")
    notes(console, done.notes)


@render.register
def _(found: Audit, console: Console) -> None:
    line(console, "model", str(found.reference))
    width = max((len(check.claim) for check in found.checks), default=0)
    for check in found.checks:
        line(
            console,
            check.outcome,
            f"{SIGNS[check.outcome]:<4}{check.claim:<{width}}  {check.detail}",
        )
    done = sum(check.outcome != "not checked" for check in found.checks)
    wrong = sum(check.outcome == "refuted" for check in found.checks)
    verdict = f"{wrong} of {done} claims do not hold" if wrong else f"all {done} claims hold"
    line(console, "verdict", verdict)
