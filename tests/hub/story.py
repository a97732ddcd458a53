"""Write docs/publishing.md anew: every command is run against the local Hub, and its output kept.

python tests/hub/story.py docs/publishing.md
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from safetensors.torch import save
from server import LocalHub

from rebasin_hub.demo.digits import load_digits, train

ROOT = Path(__file__).parents[2]
SITE = "https://huggingface.co"
CARD = "---\nlicense: apache-2.0\n---\n# A small network for digits\n"

STORY = """\
# Publishing a merge with its proof

The whole story of one merge of two models on the Hugging Face Hub: look at them, measure, merge,
publish, and check on another machine. `tests/hub/story.py` wrote this page: it ran every command
below, in this order, and kept what was printed. (It talks to the small Hub that the tests bring
along, so the models are two networks of 64-512-512-512-10 units, trained on digits from two seeds;
addresses are written as those of huggingface.co.)

Wherever a command takes a model, it takes `org/name[@revision]` and
`hf://org/name[@revision][/file]` too. A path that exists on this machine always comes first, and
`./org/name` is always a path. Nothing about tokens is ours: log in with `hf auth login` or set
`HF_TOKEN`; `HF_ENDPOINT`, `HF_HOME` and `HF_HUB_OFFLINE` mean what they mean to the client.

## Two models

Headers are read by byte ranges, so this fetches no weights:

$ rebasin-hub inspect ada/digits-0

A model of another shape is refused before anything is fetched:

$! rebasin-hub merge ada/digits-0 ada/narrow -o merged

## Measure

$ rebasin-hub barrier ada/digits-0 ada/digits-1 --task digits -o barrier

Both models were fetched into the client's cache, whole files only, each compared with the SHA-256
that the Hub promises. The record names them by their commits, so that it stays true when somebody
pushes to their branches.

## Merge

$ rebasin-hub merge ada/digits-0 ada/digits-1 -o merged

## Publish

First what would happen: the files, and the card. Nothing is sent.

$ rebasin-hub push merged lab/digits-merged --record barrier --dry-run

The license is that of the base models. Where they name different ones, or none, `push` refuses
until `--license` says what holds. Then the same without `--dry-run`:

$ rebasin-hub push merged lab/digits-merged --record barrier

All of it is one commit onto the one that was seen before: either everything is there, or nothing.
If somebody else commits meanwhile, `push` says who and what, and publishes nothing. After a failure
the same command goes on: what the Hub has already is not sent again.

$ rebasin-hub push merged lab/digits-merged --record barrier

`--create-pr` proposes the same commit to a repository that is not yours, `--revision` commits to
another branch, `--private` makes a new repository a private one, and `card` prints the card alone.

## Check, on another machine

@ elsewhere
$ rebasin-hub pull lab/digits-merged -o merged

Every file was compared with the SHA-256 in `rebasin-hub.json`, and the weights with their plain
digest. `hub audit` goes further: it measures again, on models that it fetches at the commits that
the record names.

$ rebasin-hub hub audit lab/digits-merged --task digits

Offline, what was fetched once is enough:

$ HF_HUB_OFFLINE=1 rebasin-hub hub audit lab/digits-merged

Whoever changes the weights and not the promise is found out:

@ changed
$! rebasin-hub hub audit lab/digits-merged

## Only the permutations

A renumbering can be published without the weights, as a few kilobytes.

@ home
$ rebasin-hub align ada/digits-1 ada/digits-0 -o 1-to-0.safetensors
$ rebasin-hub push 1-to-0.safetensors lab/digits-1-to-0 --permutation-only --base-model ada/digits-1
@ elsewhere
$ rebasin-hub pull lab/digits-1-to-0 -o rebased
$ rebasin-hub hub audit lab/digits-1-to-0

## What is published

| file | what it is |
| --- | --- |
| `README.md` | the card: base models at their commits, license, recipe, barrier, digests |
| `model.safetensors`, … | the weights, or `permutations.safetensors` alone |
| `rebasin-hub.json` | the promise: the SHA-256 of every file, the plain digest of the weights |
| `rebasin.json` | the record of the measurement, whole curves with intervals |
| `b-to-a.safetensors` | the permutations that it was measured with |
| `barrier.png` | the curves |

`base_model` in the card's front matter has no revisions, as the Hub takes none there; they stand
under `rebasin: base_models:`. `model-index` has the barriers as `loss-barrier` and `error-barrier`.
"""


class Machines:
    """Home directories, each with its own work folder and cache."""

    def __init__(self, root, hub):
        self.root, self.hub = root, hub
        self.go("home")

    def go(self, name):
        self.work = self.root / name
        self.work.mkdir(exist_ok=True)

    def run(self, command, *, fails):
        """Run one line as a shell would, and return what it printed."""
        words = shlex.split(command)
        settings = {}
        while "=" in words[0]:
            key, _, value = words.pop(0).partition("=")
            settings[key] = value
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(self.work),
            "HF_HOME": str(self.work / ".hf"),
            "HF_ENDPOINT": self.hub.endpoint,
            "HF_TOKEN": "hf_good",
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "100",
            "NO_COLOR": "1",
            **settings,
        }
        done = subprocess.run(
            [sys.executable, "-m", "rebasin_hub", *words[1:]],
            cwd=self.work,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if (done.returncode != 0) != fails:
            raise SystemExit(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
        return self.plain(done.stdout + done.stderr)

    def plain(self, text):
        """Write addresses and places as on any machine."""
        text = text.replace(self.hub.endpoint, SITE).replace(f"{self.work}/", "")
        text = re.sub(r"\S*/rebasin-peek-\w+/", "", text)
        return "\n".join(line.rstrip() for line in text.splitlines())


def tell(story, hub, root):
    """Run the commands of a story, and return it with what they printed."""
    machines, lines = Machines(root, hub), []
    for line in story.splitlines():
        mark, _, rest = line.partition(" ")
        if mark == "@":
            if rest == "changed":
                name = "lab/digits-merged"
                data = bytearray(hub.files(name)["model.safetensors"])
                data[-1] ^= 1
                hub.put(name, {"model.safetensors": bytes(data)}, author="mallory")
            else:
                machines.go(rest)
        elif mark in {"$", "$!"}:
            output = machines.run(rest, fails=mark == "$!")
            fence = "`" * 4 if "```" in output else "```"
            lines += [f"{fence}console", f"$ {rest}", *output.rstrip("\n").split("\n"), fence, ""]
        elif line or lines[-1:] != [""]:
            lines.append(line)
    return "\n".join(lines).rstrip("\n") + "\n"


def main(path):
    digits = load_digits()
    with LocalHub() as hub, TemporaryDirectory() as folder:
        for seed in (0, 1):
            weights = save(train(digits, seed), {"format": "pt"})
            files = {"README.md": CARD.encode(), "model.safetensors": weights}
            hub.put(f"ada/digits-{seed}", files)
        narrow = {n: w[:256].contiguous() for n, w in train(digits, 2).items()}
        narrow = {n: w[:, :256].contiguous() if "4" in n else w for n, w in narrow.items()}
        hub.put("ada/narrow", {"README.md": CARD.encode(), "model.safetensors": save(narrow)})
        path.write_text(tell(STORY, hub, Path(folder)))
        if hub.leaks:
            raise SystemExit(f"a token was sent to {hub.leaks}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
