"""Where a cell is measured: data, device, and the store of trained networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub.experiments.experiment import Facts
from rebasin_hub.experiments.networks import network_of
from rebasin_hub.training import Classifier, Recipe, Subset, Trained

if TYPE_CHECKING:
    from rebasin_hub.experiments.measure import Measurement

__all__ = ["Lab"]


@dataclass(frozen=True, eq=False)
class Lab:
    """What measuring a cell needs beside the cell.

    folder: for whatever is kept; `networks` in it is the store of checkpoints.
    task, data: as `--task` and `--data` take them; the empty task is none.
    shape: channels, height and width of an image; `classes` the number of labels.
    device: as `--device` takes it.
    tell: told what is being done.
    """

    folder: Path
    task: str = ""
    data: Path | None = None
    shape: tuple[int, int, int] = (0, 0, 0)
    classes: int = 0
    device: str = "auto"
    tell: Callable[[str], None] = lambda _: None

    def classifier(self, cell: Mapping[str, Any], *, seed: int, **more: Any) -> Classifier:  # noqa: ANN401
        """Return the network of a cell.

        Args:
            cell: `network`, a kind of `networks.KINDS`, with its `width` and `depth`; `recipe`,
                the fields of a `Recipe`; and `images`, the most to train on (all by default).
            seed: of the network.
            more: other fields of the `Classifier`, such as `subset` or `snapshots`.

        """
        name, arguments = network_of(
            cell["network"],
            shape=self.shape,
            classes=self.classes,
            width=cell.get("width"),
            depth=cell.get("depth"),
        )
        given = {
            "name": f"{self.task}-{cell['network']}"
            + (f"-w{cell['width']}" if "width" in cell else ""),
            "network": name,
            "arguments": arguments,
            "recipe": Recipe(**cell["recipe"]),
            "task": self.task,
            "data": self.data,
            "subset": Subset(first=cell.get("images")),
        }
        return Classifier(**{**given, **more}, seed=seed)

    def train(self, classifier: Classifier) -> Trained:
        """Train a network, or return what an earlier run has left."""
        stage = f"training {classifier.name} from seed {classifier.seed}"
        return classifier.trained(
            self.folder / "networks",
            device=self.device,
            progress=lambda done, total: self.tell(f"{stage}, epoch {done} of {total}"),
        )

    def network(self, cell: Mapping[str, Any], *, seed: int, **more: Any) -> Trained:  # noqa: ANN401
        """Train the network of a cell; see `classifier`."""
        return self.train(self.classifier(cell, seed=seed, **more))

    def measurement(self, *, method: str = "weight", **more: Any) -> Measurement:  # noqa: ANN401
        """Return how lines are measured here; `more` are fields of `Measurement`."""
        from rebasin_hub.experiments.measure import Measurement
        from rebasin_hub.pipeline.matching import Matching

        given: dict[str, Any] = {
            "task": self.task,
            "data": self.data,
            "matching": Matching(method, self.device),
        }
        return Measurement(**{**given, **more})

    def line(self, a: Path, b: Path, *, method: str = "weight", **more: Any) -> Facts:  # noqa: ANN401
        """Measure the line from A to B, naive and aligned; see `measure.figures`.

        Args:
            a: the reference.
            b: the other end.
            method: of aligning.
            more: fields of `Measurement`, and `permutations` or `align` of `measure.line`.

        """
        from rebasin_hub.experiments.measure import line

        self.tell(f"measuring {a.stem} against {b.stem}, {method}")
        direct = {key: more.pop(key) for key in ("permutations", "align") if key in more}
        return line(a, b, self.measurement(method=method, **more), **direct)

    def on(self, task: str, data: Path) -> Lab:
        """Return a lab with other data, such as a part of a data set that was written to a file."""
        from rebasin_hub.experiments.data import facts_of

        facts = facts_of(task, data)
        return replace(self, task=task, data=data, shape=facts.shape, classes=facts.classes)
