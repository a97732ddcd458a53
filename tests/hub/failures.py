"""A small language for what goes wrong between a client and the local Hub.

One failure a line: `ROUTE WHAT [NUMBER] [xTIMES]`. ROUTE is a key of `server.ROUTES`; WHAT is

- `cut N`: the connection ends after N bytes of the answer's body, or of an upload's;
- `lose`: the server does what it is asked, and the connection ends before the answer;
- `429 N`: too many requests, try again after N seconds;
- `500`, `503`: a failure of the server;
- `slow N`: the answer comes N seconds late;
- `corrupt`: one byte of the answer's body, or of what is stored, is another one;
- `stale`: somebody else commits just before;
- `expire`: the token is no longer good from here on.

It happens once; `x3` is three times, `x*` always. `commit 500 x2` fails two commits.
"""

import re
import threading
from dataclasses import dataclass, field

WHAT = ("cut", "lose", "429", "500", "503", "slow", "corrupt", "stale", "expire")
LINE = re.compile(
    rf"(?P<route>[a-z]+) (?P<what>{'|'.join(WHAT)})"
    r"(?: (?P<number>[0-9.]+))?(?: x(?P<times>\d+|\*))?"
)


@dataclass
class Failure:
    route: str
    what: str
    number: float
    left: float
    """How often it still happens."""


@dataclass
class Failures:
    """Failures that wait for their routes; `happened` lists those that came."""

    waiting: list[Failure] = field(default_factory=list)
    happened: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, text):
        """Add the failures of a text; a line that is none of the language is an error."""
        for line in filter(None, map(str.strip, text.splitlines())):
            found = LINE.fullmatch(line)
            if found is None:
                raise ValueError(f"not a failure: {line!r}")
            times = found["times"] or "1"
            left = float("inf") if times == "*" else int(times)
            self.waiting.append(
                Failure(found["route"], found["what"], float(found["number"] or 0), left)
            )

    def take(self, route):
        """Return what goes wrong with a request now, or None."""
        with self.lock:
            for failure in self.waiting:
                if failure.route == route and failure.left > 0:
                    failure.left -= 1
                    self.happened.append((route, failure.what))
                    return failure
        return None

    def clear(self):
        self.waiting.clear()
        self.happened.clear()


class FullDisk:
    """A file on a disk that has room for `room` bytes more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)
