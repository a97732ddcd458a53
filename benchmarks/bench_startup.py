"""`rebasin-hub --help` and `spec validate` answer in under 0.4 s.

Each command runs as a whole process, in turn with `python -c pass`, which is the floor.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from _record import record

ROOT = Path(__file__).parent.parent
PROGRAM = [sys.executable, "-m", "rebasin_hub"]
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "rebasin-hub --help": [*PROGRAM, "--help"],
    "rebasin-hub spec validate specs/llama.yaml": [
        *PROGRAM, "spec", "validate", str(ROOT / "specs/llama.yaml"),
    ],
    "rebasin-hub spec validate specs/*.yaml": [
        *PROGRAM, "spec", "validate", *map(str, sorted((ROOT / "specs").glob("*.yaml"))),
    ],
}  # fmt: skip
REPEATS = 15


def main() -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for repeat in range(REPEATS + 1):
        for name, command in COMMANDS.items():
            start = time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            if repeat:  # the first round warms the file cache
                seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"{statistics.median(values):.3f} s  {name}")
    assert __doc__ is not None
    record("startup", __doc__.splitlines()[0], {"seconds": seconds})


if __name__ == "__main__":
    main()
