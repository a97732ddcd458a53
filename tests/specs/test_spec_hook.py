"""The pre-commit hook: its definition, and a run in a repository of its own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HOOK = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))[0]
HERE = Path(__file__).parent


def test_the_hook_looks_at_specs() -> None:
    assert HOOK["id"] == "rebasin-spec"
    assert HOOK["entry"] == "rebasin-hub spec validate"
    pattern = re.compile(HOOK["files"])
    for path in ("specs/llama.yaml", "a/specs/b.yml", "rebasin_specs/own.yaml"):
        assert pattern.search(path)
    for path in ("specs/schema.json", "specs/README.md", "config.yaml", "myspecs/a.yaml"):
        assert not pattern.search(path)


@pytest.mark.slow
def test_try_repo(tmp_path: Path, monkeypatch) -> None:
    """Needs the network: pre-commit installs the package and what it depends on."""
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path / "cache"))
    beside = str(Path(sys.executable).parent)
    git, pre_commit = shutil.which("git"), shutil.which("pre-commit", path=beside)
    if git is None or pre_commit is None:
        pytest.skip("needs git and pre-commit")

    def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)

    def repository(folder: Path) -> Path:
        identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
        for arguments in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "all"]):
            result = run(git, *identity, *arguments, cwd=folder)
            assert result.returncode == 0, result.stderr
        return folder

    # The files as they are, committed or not.
    hooks = tmp_path / "hooks"
    kept = run(git, "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    for name in kept:
        if (ROOT / name).is_file():
            (hooks / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, hooks / name)
    repository(hooks)
    user = tmp_path / "user"
    (user / "specs").mkdir(parents=True)
    shutil.copyfile(HERE / "valid" / "chain.yaml", user / "specs" / "good.yaml")
    repository(user)
    command = (pre_commit, "try-repo", str(hooks), "rebasin-spec", "--all-files", "--verbose")
    good = run(*command, cwd=user)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "1 spec valid" in good.stdout
    shutil.copyfile(HERE / "invalid" / "undeclared-word.yaml", user / "specs" / "bad.yaml")
    run(git, "add", "-A", cwd=user)
    bad = run(*command, cwd=user)
    assert bad.returncode == 1
    assert "specs/bad.yaml:7 tensors.first.weight: 'hiden' is not declared" in bad.stdout
