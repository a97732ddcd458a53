"""Many pushes with failures drawn by chance: each is either whole or not there."""

import random
from collections import Counter

import pytest
from hub_models import mlp_bytes

from rebasin_hub.errors import RebasinError
from rebasin_hub.pipeline.hub import Publication, push

TRIALS = 150
WHAT = ("500", "503", "429 1", "lose", "cut 30", "corrupt", "slow 0.01", "stale", "expire")
ROUTES = (
    "whoami",
    "create",
    "info",
    "validate",
    "preupload",
    "batch",
    "upload",
    "verify",
    "commit",
)
TIMES = ("", " x2", " x4", " x*")


def drawn(chance):
    route, what = chance.choice(ROUTES), chance.choice(WHAT)
    if what == "stale" and route != "commit":
        what = "500"
    return f"{route} {what}{chance.choice(TIMES) if what != 'stale' else ''}"


@pytest.mark.slow
def test_every_push_is_whole_or_not_there(hub, machine, tmp_path, capsys):
    chance = random.Random(0)
    outcomes = Counter()
    for trial in range(TRIALS):
        content = mlp_bytes(trial, tmp_path)
        path = tmp_path / f"mlp-{trial}-8.safetensors"
        name = f"ada/m{trial}"
        if trial % 3:
            hub.put(name, {"model.safetensors": b"\0old", "notes.md": b"x"})
        hub.forget()
        hub.tokens["hf_good"] = "ada"
        lines = [drawn(chance) for _ in range(chance.choice((1, 1, 2, 3)))]
        hub.failures.plan("\n".join(lines))
        try:
            push(Publication(path, name, license="mit"))
            outcome = "published"
        except RebasinError:
            outcome = "refused"
        main = hub.files(name) if name in hub.repos else {}
        there = main.get("model.safetensors")
        if outcome == "published":
            assert there == content, lines
            assert {"README.md", "rebasin-hub.json"} <= main.keys()
        else:
            assert there in {None, b"\0old"}, lines
            assert not {"README.md", "rebasin-hub.json"} & main.keys(), lines
        for route, what in set(hub.failures.happened) or {("none", "")}:
            outcomes[f"{route} {what}".strip(), outcome] += 1
    assert hub.leaks == []
    with capsys.disabled():
        print(f"\n{TRIALS} pushes\n{'failure':<20}{'published':>10}{'refused':>10}")
        for failure in sorted({key for key, _ in outcomes}):
            row = [outcomes[failure, how] for how in ("published", "refused")]
            print(f"{failure:<20}{row[0]:>10}{row[1]:>10}")
