"""What people see: whole sessions beside their expected output, as in `snapshots/*.txt`.

A line that starts with `$ ` is a command; what follows is its output, standard error last. After
a wanted change, run pytest with REWRITE_SNAPSHOTS=1 and read the difference.
"""

import os
import shlex
from pathlib import Path

import pytest
from cli_models import gpt2, mlp, renumber_mlp
from safetensors.numpy import save_file

SESSIONS = sorted((Path(__file__).parent / "snapshots").glob("*.txt"))


@pytest.mark.parametrize("session", SESSIONS, ids=lambda path: path.stem)
def test_session(session, run, models, gpt2_folder):
    save_file(renumber_mlp(mlp(0), seed=5), models / "copy.safetensors", {"format": "pt"})
    save_file(gpt2(0), models / "loose.safetensors")
    gpt2_folder("gpt2")
    text = session.read_text(encoding="utf-8")
    seen = "".join(_output(command, run) for command in _commands(text))
    if os.environ.get("REWRITE_SNAPSHOTS"):
        session.write_text(seen, encoding="utf-8")
    assert seen == text


def _commands(text):
    return [line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ ")]


def _output(command, run):
    program, *arguments = shlex.split(command)
    assert program == "rebasin-hub"
    done = run(*arguments, code=None)
    here = f"{Path.cwd()}/"
    lines = [line.rstrip().replace(here, "") for line in (done.out + done.err).splitlines()]
    code = [f"[exit {done.code}]"] if done.code else []
    return "\n".join([f"$ {command}", *lines, *code]) + "\n"
