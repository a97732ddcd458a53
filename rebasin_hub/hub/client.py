"""The client of the Hub: one endpoint, retries where it has none, and errors in our words.

huggingface_hub is imported when the Hub is first needed: it takes longer than the rest of the
program. It retries what goes through its own backoff (uploads, the batch, downloads that break
off) and nothing else: not what it asks of the API, and not the commit.
"""

from __future__ import annotations

import errno
import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rebasin_hub import __version__
from rebasin_hub.errors import InputError, OutputError, RebasinError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = [
    "LONGEST_WAIT",
    "WAITS",
    "connect",
    "explained",
    "is_transient",
    "patiently",
    "retry_after",
    "without_secrets",
]

Result = TypeVar("Result")

WAITS = (1.0, 2.0, 4.0)
"""Seconds before each further try."""
LONGEST_WAIT = 60.0
"""A Hub that wants to be left alone for longer is not waited for."""
_SECRETS = re.compile(
    r"hf_[A-Za-z0-9_]+|(?<=Bearer )\S+|(?<=://)[^/\s@]+(?=@)|(?<=\?)[^\s'\")]*=[^\s'\")]*"
)
"""Tokens, user names in URLs, and the signatures that URLs of storage carry."""
_UNAUTHORIZED, _FORBIDDEN, _MANY, _SERVER = 401, 403, 429, 500


def connect() -> HfApi:
    """Return a client of the Hub that `HF_ENDPOINT` names.

    The token is the client's own affair: it takes it from the environment or its file.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    _keep_secrets_out_of_logs()
    if not sys.stderr.isatty():
        disable_progress_bars()
    return HfApi(
        endpoint=constants.ENDPOINT, library_name="rebasin-hub", library_version=__version__
    )


class _Redact(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Take tokens and signed URLs out of a message."""
        record.msg, record.args = without_secrets(record.getMessage()), ()
        return True


def _keep_secrets_out_of_logs() -> None:
    for handler in logging.getLogger("huggingface_hub").handlers:
        if not any(isinstance(one, _Redact) for one in handler.filters):
            handler.addFilter(_Redact())


def without_secrets(text: str) -> str:
    """Return a text without tokens, signatures of URLs, and the token that is in use."""
    from huggingface_hub import get_token

    token = get_token()
    return _SECRETS.sub("…", text.replace(token, "…") if token else text)


def is_transient(error: BaseException) -> bool:
    """Whether a further try may succeed: the network, a time-out, the Hub's own failure."""
    import httpx2  # what huggingface_hub 2 speaks HTTP with
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in {408, _MANY} or error.response.status_code >= _SERVER
    return isinstance(
        error, httpx2.TimeoutException | httpx2.NetworkError | httpx2.RemoteProtocolError
    )


def retry_after(error: BaseException) -> float | None:
    """Return how many seconds the Hub wants to be left alone, if it says so."""
    response = getattr(error, "response", None)
    text = "" if response is None else response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def patiently(
    call: Callable[[], Result], *, sleep: Callable[[float], None] | None = None
) -> Result:
    """Return what a call returns, and try again a few times where that may help.

    For calls that the client does not repeat itself, and that may be repeated.

    Args:
        call: what is asked of the Hub.
        sleep: waits some seconds; `time.sleep` by default.

    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    for wait in WAITS:
        try:
            return call()
        except Exception as error:
            cause = _cause(error)
            asked = retry_after(cause)
            if (
                isinstance(error, LocalEntryNotFoundError)  # the client has tried often enough
                or not is_transient(cause)
                or (asked or 0) > LONGEST_WAIT
            ):
                raise
            (sleep or time.sleep)(wait if asked is None else asked)
    return call()


@contextmanager
def explained(
    what: str, kind: type[InputError | OutputError] = InputError, fix: str = ""
) -> Iterator[None]:
    """Turn errors of the client, the network and the disk into one sentence about `what`.

    Args:
        what: the repository or revision that is dealt with.
        kind: the error to raise.
        fix: what to know or to do besides.

    """
    try:
        yield
    except RebasinError:
        raise
    except Exception as error:
        if not _is_of_client(error):
            raise
        reason = without_secrets(_reason(_cause(error)))
        raise kind(f"{what}: {reason}{f'; {fix}' if fix else ''}") from None


def _is_of_client(error: BaseException) -> bool:
    """Whether an error tells of the Hub, the network or the disk, and not of a mistake here."""
    import httpx2
    from huggingface_hub.errors import RevisionResolutionError

    known = (OSError, ValueError, RuntimeError, KeyError, httpx2.HTTPError, httpx2.InvalidURL)
    return isinstance(error, (*known, RevisionResolutionError))


def _cause(error: BaseException) -> BaseException:
    """Return what went wrong first: the client wraps errors of its threads and of its cache."""
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionResolutionError,
    )

    wrapper = isinstance(error, LocalEntryNotFoundError | RevisionResolutionError)
    cause = error.__cause__
    if (wrapper or type(error) is RuntimeError) and cause is not None:
        return cause if isinstance(cause, OfflineModeIsEnabled) else _cause(cause)
    return error


def _reason(error: BaseException) -> str:  # noqa: PLR0911 - one for each kind of failure
    from huggingface_hub import errors

    match error:
        case errors.LocalTokenNotFoundError():
            return "needs a token, and there is none; log in with `hf auth login`, or set HF_TOKEN"
        case (
            errors.OfflineModeIsEnabled()
            | errors.LocalEntryNotFoundError()
            | errors.RevisionResolutionError()
        ):
            return (
                "is not in the cache, or not all of it, and HF_HUB_OFFLINE forbids to ask the Hub; "
                "fetch it once online"
            )
        case errors.GatedRepoError():
            return "is gated; ask for access on its page, and log in with `hf auth login`"
        case errors.RepositoryNotFoundError():
            return (
                "there is no such repository, or it is private and your token may not see it; "
                "check the name, and log in with `hf auth login`"
            )
        case errors.RevisionNotFoundError():
            return "the repository has no such branch, tag or commit; check the revision"
        case errors.EntryNotFoundError():
            return "the repository has no such file; check the name"
        case errors.HfHubHTTPError():
            return _status(error)
        case OSError() if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            return (
                "the disk is full; free some space, or set HF_HOME to a place that has it: what "
                "has been fetched is kept"
            )
        case OSError() if "Consistency check failed" in str(error):
            return "the Hub sent a file of another size than it promised; try again"
        case _ if is_transient(error):
            return (
                f"the Hub cannot be reached ({type(error).__name__}); check the network and "
                "HF_ENDPOINT, and try again"
            )
        case KeyError():
            return f"the Hub's answer could not be understood ({type(error).__name__})"
        case _:
            return str(error).strip() or type(error).__name__


def _status(error: BaseException) -> str:
    response = getattr(error, "response", None)
    status = response.status_code if response is not None else 0
    said = str(getattr(error, "server_message", None) or "").strip().splitlines()
    words = f" ({said[0]})" if said else ""
    if status == _UNAUTHORIZED:
        return (
            f"the Hub does not accept the token{words}: it is wrong, or has expired; log in again "
            "with `hf auth login`"
        )
    if status == _FORBIDDEN:
        return f"the token does not allow this{words}; use one that may write here"
    if status == _MANY:
        seconds = retry_after(error)
        later = "later" if seconds is None else f"in {seconds:.0f} seconds"
        return f"the Hub takes no more requests now; try again {later}"
    if status >= _SERVER:
        return f"the Hub failed ({status}) each time; try again later"
    return f"the Hub refuses ({status}){words}"
