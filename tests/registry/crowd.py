"""Many processes that add to one registry at once; run as a program by the tests.

crowd.py add ROOT COUNT MODEL…   COUNT processes, each adds one of the models under its own name
                                 and under a common one
crowd.py churn ROOT NAME MODEL…  adds, aliases, removes and collects until it is killed
"""

import os
import sys
import traceback
from pathlib import Path

from registry_facts import made_up

from rebasin_hub.registry import Kept, Registry


def add_one(root, number, paths):
    path = paths[number % len(paths)]
    facts = made_up(path.name, path)
    with Registry(root) as registry:
        for name in (f"own-{number}", "common"):
            registry.add(name, facts, keep=Kept.STORED, source=str(number))


def crowd(root, count, paths):
    """Fork, so that all of them start within milliseconds."""
    children = []
    for number in range(count):
        child = os.fork()
        if not child:
            code = 1
            try:
                add_one(root, number, paths)
                code = 0
            except Exception:  # noqa: BLE001 - the child must not go on as its parent
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


def churn(root, name, paths):
    with Registry(root) as registry:
        print("started", flush=True)
        number = 0
        while True:
            path = paths[number % len(paths)]
            done = registry.add(name, made_up(path.name, path), keep=Kept.STORED)
            # Whoever reads this line may rely on the version, whatever happens next.
            print(done.version.number, flush=True)
            registry.alias(done.version.reference, "best")
            if number % 3 == 2 and done.version.number > 2:
                registry.rm(f"{name}:{done.version.number - 1}")
                registry.gc(grace=0)
            number += 1


if __name__ == "__main__":
    command, root, *rest = sys.argv[1:]
    if command == "add":
        sys.exit(crowd(Path(root), int(rest[0]), [Path(p) for p in rest[1:]]))
    churn(Path(root), rest[0], [Path(p) for p in rest[1:]])
