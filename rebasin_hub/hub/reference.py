"""Names of models on the Hub: `org/name[@revision]` and `hf://org/name[@revision][/file]`."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from rebasin_hub.errors import InputError

__all__ = ["SCHEME", "HubReference", "name_of"]

SCHEME = "hf://"
FORMS = "org/name[@revision] or hf://org/name[@revision][/file]"

_PART = r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?"
_REPO = re.compile(rf"{_PART}/{_PART}", re.ASCII)
_LONGEST = 96
_COMMIT = re.compile(r"[0-9a-f]{40}")
_OTHER_TYPES = ("datasets", "spaces", "buckets", "kernels")
# A revision of several parts that is written without %2F.
_REFS = re.compile(r"refs/(?:pr|convert|heads|tags)/[^/]+")
_FILES = (
    *(".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".onnx", ".npz", ".json"),
    *(".yaml", ".yml"),
)


@dataclass(frozen=True)
class HubReference:
    """A model on the Hub: its repository, a revision, and a file where one was named.

    The law: `parse(str(reference)) == reference`.
    """

    repo: str
    revision: str | None = None
    """A branch, a tag or a commit; None is the main branch."""
    file: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a name.

        Raises:
            InputError: it is of neither form.

        """
        if text.startswith(SCHEME):
            return cls._of_uri(text)
        repo, at, revision = text.partition("@")
        return cls._checked(text, repo, revision if at else None, None)

    @classmethod
    def _of_uri(cls, text: str) -> Self:
        whole = text.removeprefix(SCHEME).removeprefix("models/")
        if whole.split("/")[0] in _OTHER_TYPES:
            raise InputError(f"'{text}': is not a model; name one as {FORMS}")
        found = re.fullmatch(rf"([^/@]*/[^/@]*)(?:@({_REFS.pattern}|[^/]*))?(?:/(.*))?", whole)
        if found is None:
            raise InputError(f"'{text}': is not the name of a model on the Hub: {FORMS}")
        repo, revision, file = found.groups()
        return cls._checked(text, repo, None if revision is None else unquote(revision), file)

    @classmethod
    def _checked(cls, text: str, repo: str, revision: str | None, file: str | None) -> Self:
        if not _is_repo(repo):
            raise InputError(
                f"'{text}': '{repo}' is not the name of a repository: two words of letters, "
                "digits, '-', '_' and '.' with a slash between them, such as org/name"
            )
        if revision is not None and not _is_revision(revision):
            raise InputError(f"'{text}': '{revision}' is not a branch, a tag or a commit")
        if file is not None and (
            not file.isprintable() or {"", ".", ".."} & set(file.split("/")) or "\\" in file
        ):
            raise InputError(f"'{text}': '{file}' is not the path of a file in a repository")
        return cls(repo, revision, file)

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, which nobody can move."""
        return self.revision is not None and _COMMIT.fullmatch(self.revision) is not None

    def at(self, commit: str) -> Self:
        """Return the same model at a commit."""
        return replace(self, revision=commit)

    def __str__(self) -> str:
        revision = "" if self.revision is None else f"@{self.revision}"
        if self.file is None:
            return f"{self.repo}{revision}"
        quoted = "" if self.revision is None else f"@{quote(self.revision, safe='')}"
        return f"{SCHEME}{self.repo}{quoted}/{self.file}"

    @classmethod
    def looks_like(cls, text: str) -> bool:
        """Whether a text that is no path may name a model on the Hub.

        A path that begins with a dot, a slash or `~`, and a name that ends as a file of weights
        does, is meant to be on this machine.
        """
        if text.startswith(SCHEME):
            return True
        repo, _, _ = text.partition("@")
        return _is_repo(repo) and not text.lower().endswith(_FILES)


def _is_repo(text: str) -> bool:
    return (
        _REPO.fullmatch(text) is not None
        and len(text) <= _LONGEST
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def _is_revision(text: str) -> bool:
    """Whether git would take a text as a revision's name."""
    return (
        bool(text)
        and text.isprintable()
        and not set(text) & set(" ~^:?*[\\@%")
        and ".." not in text
        and not text.startswith(("-", "/", "."))
        and not text.endswith(("/", ".", ".lock"))
        and "//" not in text
    )


_CACHED = re.compile(r"models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})(?:/.*)?\Z")


def name_of(path: Path) -> str:
    """Return what a record calls a checkpoint: `org/name@commit` if it came from the Hub.

    What lies in the client's cache came from there; others are called by their file's name.
    """
    whole = path.absolute().as_posix()
    if (found := _CACHED.search(whole)) is not None:
        return f"{found[1]}/{found[2]}@{found[3]}"
    return path.name or path.resolve().name
