"""Publish files in one commit: planned first, then done, and compared with the plan afterwards."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import OutputError
from rebasin_hub.formats.folder import is_weights
from rebasin_hub.hub.client import (
    LONGEST_WAIT,
    WAITS,
    explained,
    is_transient,
    patiently,
    retry_after,
)
from rebasin_hub.hub.fetch import Remote, RemoteFile, ask, file_digest
from rebasin_hub.hub.reference import HubReference

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

__all__ = ["Content", "Destination", "PushPlan", "Pushed", "carry_out", "plan_push"]

MAIN = "main"
_STALE, _CONFLICT = 412, 409
_SHOWN = 5
# What a loader takes for the model of a repository.
_LOADED = re.compile(
    r"(?:model|pytorch_model)(?:-\d+-of-\d+)?\.(?:safetensors|bin)(?:\.index\.json)?"
)


@dataclass(frozen=True)
class Content:
    """A file to publish: its name there, and a file here or its text."""

    name: str
    source: Path | bytes
    nbytes: int
    sha256: str

    def oid(self, *, large: bool) -> str:
        """Return what the Hub calls this content."""
        if large:
            return self.sha256
        if isinstance(self.source, Path):
            return file_digest(self.source, large=False)
        data = self.source
        return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()


@dataclass(frozen=True)
class Destination:
    """Where to publish: a branch, or with `pull_request` a proposal onto it."""

    repo: str
    branch: str = MAIN
    pull_request: bool = False
    private: bool = False


@dataclass(frozen=True)
class PushPlan:
    """What publishing will do: known before anything is sent.

    parent: the commit that it is made onto; None where the repository has yet to be made.
    unchanged: files that are there already with the same content.
    removed: weights that are there now and would contradict the new ones.
    card: the text of README.md.
    """

    destination: Destination
    parent: str | None
    files: tuple[Content, ...]
    unchanged: tuple[str, ...]
    removed: tuple[str, ...]
    message: str
    card: str
    notes: tuple[str, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of all files."""
        return sum(file.nbytes for file in self.files)


@dataclass(frozen=True)
class Pushed:
    """What was published: the commit, and how many bytes of large files had to be sent for it."""

    plan: PushPlan
    commit: str
    url: str
    pull_request: str | None
    created: bool
    """Whether the repository is new."""
    sent: int
    kept: int
    """Bytes of large files that the Hub had already."""


def plan_push(
    api: HfApi,
    destination: Destination,
    files: Sequence[Content],
    *,
    message: str,
    card: str,
    notes: Sequence[str] = (),
) -> PushPlan:
    """Compare files with what is published already; nothing is changed.

    Args:
        api: the client.
        destination: where to publish.
        files: what is to be there, the card among them.
        message: of the commit.
        card: the text of the card.
        notes: for the user.

    Raises:
        OutputError: the branch does not exist, or the Hub cannot be asked.

    """
    there = _published(api, destination)
    found: Mapping[str, RemoteFile] = {} if there is None else there.files
    unchanged = tuple(
        file.name
        for file in files
        if file.name in found and file.oid(large=found[file.name].large) == found[file.name].digest
    )
    names = {file.name for file in files}
    loaded = {name for name in (*found, *names) if _LOADED.fullmatch(name) is not None}
    removed = tuple(sorted(loaded - names)) if loaded & names else ()
    parent = None if there is None else there.reference.revision
    return PushPlan(
        destination, parent, tuple(files), unchanged, removed, message, card, tuple(notes)
    )


def _published(api: HfApi, destination: Destination) -> Remote | None:
    from huggingface_hub import constants
    from huggingface_hub.errors import RepositoryNotFoundError

    repo, branch = destination.repo, destination.branch
    if constants.is_offline_mode():
        raise OutputError(f"{repo}: HF_HUB_OFFLINE is set, and publishing needs the Hub; unset it")
    with explained(repo, OutputError):
        try:
            return ask(api, HubReference(repo, branch))
        except RepositoryNotFoundError:
            if branch != MAIN:
                raise OutputError(
                    f"{repo}: there is no such repository, so it has no branch '{branch}'; "
                    "publish to main first"
                ) from None
            return None


def carry_out(api: HfApi, plan: PushPlan) -> Pushed:
    """Publish: large files are sent first, and one commit makes all of it visible.

    A second try sends nothing that the Hub has already.

    Raises:
        OutputError: the Hub refuses, cannot be reached, or somebody committed in between; nothing
            was published.

    """
    destination = plan.destination
    with explained(destination.repo, OutputError, "nothing was published"):
        user = str(patiently(api.whoami)["name"])
    parent, created = plan.parent, plan.parent is None
    if parent is None:
        parent = _create(api, destination)
    fix = "nothing was published" + (
        f", but the empty repository {destination.repo} was made" if created else ""
    )
    if len(plan.unchanged) == len(plan.files) and not plan.removed:
        url = f"{api.endpoint}/{destination.repo}/commit/{parent}"
        return Pushed(plan, parent, url, None, created=False, sent=0, kept=0)
    with explained(destination.repo, OutputError, fix):
        operations = _additions(plan)
        sent, kept = _upload(api, destination, operations)
        changes: list[CommitOperationAdd | CommitOperationDelete] = [*operations, *_removals(plan)]
        commit, url, pull_request = _commit(api, plan, parent, changes, user)
    return Pushed(plan, commit, url, pull_request, created=created, sent=sent, kept=kept)


def _create(api: HfApi, destination: Destination) -> str:
    """Make the repository, and return its first commit."""
    repo = destination.repo
    fix = "nothing was published; check that your token may make repositories there"
    with explained(repo, OutputError, fix):
        patiently(lambda: api.create_repo(repo, private=destination.private, exist_ok=True))
        found = patiently(lambda: api.model_info(repo))
    return str(found.sha)


def _additions(plan: PushPlan) -> list[CommitOperationAdd]:
    from huggingface_hub import CommitOperationAdd

    operations = []
    for file in plan.files:
        operation = CommitOperationAdd(file.name, file.source)
        operation.upload_info.sha256 = bytes.fromhex(file.sha256)  # need not be hashed again
        operations.append(operation)
    return operations


def _removals(plan: PushPlan) -> list[CommitOperationDelete]:
    from huggingface_hub import CommitOperationDelete

    return [CommitOperationDelete(name, is_folder=False) for name in plan.removed]


def _upload(
    api: HfApi, destination: Destination, operations: Sequence[CommitOperationAdd]
) -> tuple[int, int]:
    """Send the large files that the Hub lacks; return the bytes that it lacked and that it had."""
    from huggingface_hub.lfs import post_lfs_batch_info

    infos = {
        one.upload_info.sha256.hex(): one.upload_info
        for one in operations
        if is_weights(one.path_in_repo) and not one.path_in_repo.endswith(".json")
    }
    branch = None if destination.pull_request else destination.branch
    objects, _, _ = post_lfs_batch_info(
        list(infos.values()),
        token=api.token if isinstance(api.token, str) else None,
        repo_type="model",
        repo_id=destination.repo,
        revision=branch,
        endpoint=api.endpoint,
    )
    sent = sum(one["size"] for one in objects if one.get("actions") is not None)
    api.preupload_lfs_files(
        destination.repo,
        additions=operations,
        revision=branch,
        create_pr=destination.pull_request,
        free_memory=False,
    )
    return sent, sum(info.size for info in infos.values()) - sent


def _commit(
    api: HfApi,
    plan: PushPlan,
    parent: str,
    operations: Sequence[CommitOperationAdd | CommitOperationDelete],
    user: str,
) -> tuple[str, str, str | None]:
    """Commit, and return the commit, its page and that of the pull request.

    The client does not repeat a commit: its answer may be lost after it was made. So what is
    published is looked at before a further try.
    """
    destination, known = plan.destination, _proposals(api, plan.destination)
    for wait in (*WAITS, None):
        try:
            done = api.create_commit(
                destination.repo,
                operations,
                commit_message=plan.message,
                parent_commit=parent,
                create_pr=destination.pull_request,
                revision=None if destination.pull_request else destination.branch,
            )
        except Exception as error:
            if _status_of(error) in {_STALE, _CONFLICT}:
                raise _stale(api, plan, parent) from None
            asked = retry_after(error)
            if not _may_be_made(error) or (asked or 0) > LONGEST_WAIT:
                raise
            failure = error
        else:
            return done.oid, str(done.commit_url), done.pr_url
        if wait is not None:
            time.sleep(wait if asked is None else asked)
        if (made := _made_unseen(api, plan, parent, known, user=user)) is not None:
            return made
    raise failure


def _status_of(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else response.status_code


def _may_be_made(error: Exception) -> bool:
    """Whether a commit may have been made though it failed: no answer came, or none to read."""
    return is_transient(error) or isinstance(error, json.JSONDecodeError | UnicodeError | KeyError)


def _made_unseen(
    api: HfApi, plan: PushPlan, parent: str, known: frozenset[str], *, user: str
) -> tuple[str, str, str | None] | None:
    """Return what `_made` does.

    Raises:
        OutputError: besides, if the Hub does not tell.

    """
    try:
        return _made(api, plan, parent, known, user)
    except OutputError:
        raise
    except Exception as error:
        if not is_transient(error):
            raise
        raise OutputError(
            f"{plan.destination.repo}: the answer to the commit was lost, and the Hub does not "
            "tell whether it was made; push again later: what is published is not published twice"
        ) from None


def _proposals(api: HfApi, destination: Destination) -> frozenset[str]:
    """Return the pull requests of a repository, if one more is to be told from them."""
    if not destination.pull_request:
        return frozenset()
    refs = patiently(lambda: api.list_repo_refs(destination.repo, include_pull_requests=True))
    return frozenset(one.ref for one in refs.pull_requests or ())


def _made(
    api: HfApi, plan: PushPlan, parent: str, known: frozenset[str], user: str
) -> tuple[str, str, str | None] | None:
    """Return the commit whose answer was lost, if it was made after all.

    Raises:
        OutputError: somebody else's was made instead.

    """
    destination = plan.destination
    repo = destination.repo
    if destination.pull_request:
        for ref in sorted(_proposals(api, destination) - known):
            there = ask(api, HubReference(repo, ref))
            if _holds(there, plan):
                number = ref.rpartition("/")[2]
                url = f"{api.endpoint}/{repo}/discussions/{number}"
                return str(there.reference.revision), f"{url}/files", url
        return None
    there = ask(api, HubReference(repo, destination.branch))
    if there.reference.revision == parent:
        return None
    if not _holds(there, plan):
        raise _stale(api, plan, parent)
    newest = patiently(lambda: api.list_repo_commits(repo, revision=destination.branch))[0]
    if user not in newest.authors:
        raise _stale(api, plan, parent)
    return newest.commit_id, f"{api.endpoint}/{repo}/commit/{newest.commit_id}", None


def _holds(there: Remote, plan: PushPlan) -> bool:
    """Whether a commit has every file of a plan, and none of those to remove."""
    return not set(plan.removed) & there.files.keys() and all(
        (found := there.files.get(file.name)) is not None
        and file.oid(large=found.large) == found.digest
        for file in plan.files
    )


def _stale(api: HfApi, plan: PushPlan, parent: str) -> OutputError:
    """Tell who committed what since the plan was made."""
    repo, branch = plan.destination.repo, plan.destination.branch
    newer = []
    for one in patiently(lambda: api.list_repo_commits(repo, revision=branch)):
        if one.commit_id == parent:
            break
        who = ", ".join(one.authors) or "unknown"
        newer.append(f"  {one.commit_id[:12]} '{one.title}' by {who}, {one.created_at:%F %T} UTC")
    more = f"\n  … and {len(newer) - _SHOWN} more" if len(newer) > _SHOWN else ""
    return OutputError(
        f"{repo}: '{branch}' has moved on from {parent[:12]} while this was being published; "
        "nothing was published. Look at what is new, and push again:\n"
        + "\n".join(newer[:_SHOWN])
        + more
    )
