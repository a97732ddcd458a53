"""The local Hub, homes on several machines, and the program's commands."""

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

os.environ["HF_HUB_DISABLE_XET"] = "1"  # before the client is imported
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import close_session
from server import LocalHub

from rebasin_hub.app import main

TOKEN = "hf_good"


def pytest_collection_modifyitems(items):
    # The client uploads files in a way that its HTTP library would rather not have.
    mark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
    for item in items:
        item.add_marker(mark)


@dataclass
class Machine:
    """A home directory of its own, from which the client talks to one Hub."""

    home: Path
    monkeypatch: pytest.MonkeyPatch
    hub: LocalHub
    slept: list[float] = field(default_factory=list)

    def move(self, name):
        """Go to another machine, where nothing is cached."""
        self.use(self.home.parent / name)

    def use(self, home):
        home.mkdir(exist_ok=True)
        self.home = home
        for key, value in {
            "ENDPOINT": self.hub.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.hub.endpoint
            + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HOME": str(home),
            "HF_HUB_CACHE": str(home / "hub"),
            "HF_TOKEN_PATH": str(home / "token"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
        }.items():
            self.monkeypatch.setattr(constants, key, value)

    def offline(self, value=True):
        self.monkeypatch.setattr(constants, "HF_HUB_OFFLINE", value)

    def token(self, token):
        if token is None:
            self.monkeypatch.delenv("HF_TOKEN", raising=False)
        else:
            self.monkeypatch.setenv("HF_TOKEN", token)

    @property
    def cached(self):
        """The content of all files in the client's cache."""
        blobs = self.home.glob("hub/models--*/blobs/*")
        return {path.name: path.read_bytes() for path in blobs}


@pytest.fixture
def hub():
    with LocalHub() as running:
        yield running


@pytest.fixture
def machine(hub, tmp_path, monkeypatch):
    """A first machine, on which nobody waits, with a token that is good."""
    found = Machine(tmp_path / "home", monkeypatch, hub)
    found.use(found.home)
    found.token(TOKEN)
    monkeypatch.setattr(time, "sleep", found.slept.append)
    yield found
    close_session()


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


@pytest.fixture
def run(machine, monkeypatch, capsys, tmp_path):
    """Run the program, and return its exit code and what it printed."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)

    def call(*arguments, code=0):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["rebasin-hub", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        done = Done(stop.value.code or 0, *capsys.readouterr())
        assert done.code == code, done
        return done

    return call
