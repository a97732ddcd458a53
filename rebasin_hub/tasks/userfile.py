"""Tasks that a user writes in a Python file. Importing this module does not import torch."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.tasks.arrays import Array, Samples, as_classes, check_range, draw, read_npz
from rebasin_hub.tasks.pythonfile import Function, load_function
from rebasin_hub.tasks.settings import read_settings
from rebasin_hub.tasks.task import Network, Options, Subject, Task
from rebasin_hub.yamlfile import Strict

if TYPE_CHECKING:
    from torch import Tensor, nn

    from rebasin_hub.tasks.network import Loss, TorchNetwork

__all__ = ["TorchTask", "UserTask"]

Inputs: TypeAlias = "Tensor | Array | tuple[Tensor | Array, ...]"


@dataclass(frozen=True, eq=False)
class TorchTask:
    """What a user's function returns: a network, and what it is measured on.

    module: a module with the shapes of the checkpoints, or a function of the `Subject` (the
        checkpoint's header, sizes and config.json) that returns one.
    test, train: inputs and targets, of which at least one pair is given. Inputs are a tensor or an
        array, or a tuple of them as the module takes them; the first axis is the sample. Targets
        are int64 classes, (samples,) or (samples, positions), where -100 does not count.
    loss: where it is not the cross-entropy of logits: from the module's output and the targets to
        the loss and the error of each sample, two tensors (samples,). Targets then are anything.
    name: of the task, for tables and records; `FILE.py:NAME` by default.
    """

    module: nn.Module | Callable[[Subject], nn.Module]
    test: tuple[Inputs, Tensor | Array] | None = None
    train: tuple[Inputs, Tensor | Array] | None = None
    loss: Loss | None = None
    name: str | None = None


class Settings(Strict):
    """What a user may set of a module with data in a file."""

    inputs: str = "inputs"
    """The name of the inputs' array in the .npz file."""
    labels: str = "labels"
    """The name of the labels' array in the .npz file."""


class UserTask(Task):
    """A network, and often data, from a function or a class of a user's file.

    Args:
        text: `FILE.py:NAME`. Without `--data`, the name is of a function that takes nothing and
            returns a `TorchTask`; with it, of a function that takes nothing or the `Subject` and
            returns a module, or of a class of modules.
        options: `data` is an .npz file, see `arrays.read_npz`; `settings` (`inputs`, `labels`)
            are the names of its arrays.

    Raises:
        InputError: the file cannot be run, or gives something else, or the data cannot be used;
            an error in the file is told with its line.
        MissingExtraError: torch is not installed.

    """

    def __init__(self, text: str, options: Options) -> None:
        try:
            import torch  # noqa: F401 - looked for here, before the file is run
        except ModuleNotFoundError:
            raise MissingExtraError(f"--task {text}", "torch") from None
        self.name = text
        self.batch = options.batch
        self.function = load_function(text)
        given = self._given(options) if options.data is None else self._with_data(options)
        self.module, self.loss = given.module, given.loss
        self.name = given.name or text
        if given.loss is not None:
            self.loss_name, self.error_name = getattr(given.loss, "__name__", "loss"), "error"
        pairs = {"test": given.test, "train": given.train}
        self.data = {
            split: self._samples(split, pair, str(options.data or text), options)
            for split, pair in pairs.items()
            if pair is not None
        }
        self.splits = {split: samples.split for split, samples in self.data.items()}

    @property
    def settings(self) -> Mapping[str, Any]:
        """What else decides a result."""
        digest = hashlib.sha256(self.function.path.read_bytes()).hexdigest()
        return {"function": self.function.name, "file_digest": digest}

    def _given(self, options: Options) -> TorchTask:
        """Call a function that gives everything."""
        if options.settings:
            raise InputError(
                f"--task {self.name} takes settings only with --data FILE.npz; leave out "
                f"{', '.join(options.settings)}"
            )
        if self.function.required:
            raise InputError(
                f"{self.function} takes an argument; a function that gives the data takes none "
                "(the module of a TorchTask may be a function of the checkpoint), and one that "
                "gives a module needs --data FILE.npz"
            )
        given = self.function()
        if not isinstance(given, TorchTask):
            more = "; a module needs --data FILE.npz" if _is_module(given) else ""
            raise InputError(
                f"{self.function} gives a {type(given).__name__}, expected a "
                f"rebasin_hub.tasks.TorchTask{more}"
            )
        if given.test is None and given.train is None:
            raise InputError(f"{self.function} gives neither test nor train samples")
        return given

    def _with_data(self, options: Options) -> TorchTask:
        """Take the data from a file, and a function as what gives the module."""
        assert options.data is not None
        settings = read_settings(self.name, Settings, options.settings)
        parts = read_npz(options.data, {"inputs": settings.inputs}, settings.labels)
        pairs = {split: (inputs["inputs"], labels) for split, (inputs, labels) in parts.items()}
        module = self.function if self.function.required else self.function()
        if isinstance(module, TorchTask):
            raise InputError(f"{self.function} gives its data itself; leave --data away")
        return TorchTask(module, test=pairs.get("test"), train=pairs.get("train"))

    def _samples(self, split: str, pair: object, source: str, options: Options) -> Samples:
        place = f"{source}: {split}"
        match pair:
            case (inputs, targets):
                several = inputs if isinstance(inputs, tuple | list) else (inputs,)
            case _:
                raise InputError(f"{place} is no pair of inputs and targets")
        arrays = {f"inputs[{n}]": _array(x, f"{place}: inputs") for n, x in enumerate(several)}
        labels = _array(targets, f"{place}: targets")
        if self.loss is None:
            labels = as_classes(labels, f"{place}: targets")
        return draw(split, arrays, labels, source, options)

    def network(self, subject: Subject, device: str) -> Network:
        """Build the user's module; see `Task.network`."""
        from rebasin_hub.tasks.network import TorchNetwork, names_of

        module = self._built(subject)
        loss = self._checked_loss if self.loss is not None else None
        data = {split: _tensors(samples) for split, samples in self.data.items()}
        network = TorchNetwork(
            module,
            data,
            names_of(module, subject),
            device=device,
            batch=self.batch,
            loss=loss,
            # Nobody knows whether a user's code can be run for several states at once (vmap).
            together=1,
        )
        for samples in self.data.values():
            self._try(network, samples)
        return network

    def _built(self, subject: Subject) -> nn.Module:
        if isinstance(self.module, Function):
            build = self.module
        elif callable(self.module) and not _is_module(self.module):
            build = self.function.inner(self.module)
        else:
            build = None
        module: Any = self.module if build is None else build(*[subject][: build.required])
        if not _is_module(module):
            raise InputError(
                f"{build or self.function} gives a {type(module).__name__}, expected a "
                "torch.nn.Module"
            )
        return module  # type: ignore[no-any-return]

    def _try(self, network: TorchNetwork, samples: Samples) -> None:
        """Run one sample, so that what does not fit is told before the long run."""
        place = f"{samples.split.source}: {samples.split.name}"
        batch = next(_tensors(samples).batches(1)).to(network.device)
        state = dict(network.module.state_dict())
        output = self.function.inner(network.forward)(state, batch)
        if network.loss is not None:
            network.loss(output, batch.targets)
            return
        try:
            logits = network.logits(output)
        except AttributeError:
            raise InputError(
                f"{place}: the network gives a {type(output).__name__}; expected a tensor of "
                "logits, or something that has them as `logits`"
            ) from None
        check_range(samples.targets, (len(samples), *logits.shape[1:]), place)

    def _checked_loss(self, output: Any, targets: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        """Call the user's loss and hold what it gives against what is needed."""
        assert self.loss is not None
        function = self.function.inner(self.loss)
        given = function(output, targets)
        shapes = [list(getattr(x, "shape", ())) for x in given] if _is_pair(given) else None
        if shapes != [[len(targets)]] * 2:
            raise InputError(
                f"{function}: gives {'the shapes ' + str(shapes) if shapes else 'no pair'}; "
                f"expected the loss and the error of each sample, two tensors [{len(targets)}]"
            )
        loss, error = given
        return loss, error


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2  # noqa: PLR2004


def _is_module(value: object) -> bool:
    from torch import nn

    return isinstance(value, nn.Module)


def _array(value: object, place: str) -> Array:
    import torch

    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        raise InputError(f"{place} are a {type(value).__name__}; expected a tensor or an array")
    # As networks take them: torch's layers compute in float32, and embeddings want int64.
    kinds: dict[str, type[np.generic]] = {"f": np.float32, "i": np.int64, "u": np.int64}
    return value.astype(kinds.get(value.dtype.kind, value.dtype))


def _tensors(samples: Samples) -> Any:  # noqa: ANN401 - TensorData, which only torch knows
    import torch

    from rebasin_hub.tasks.network import TensorData

    inputs = tuple(torch.from_numpy(array) for array in samples.inputs.values())
    return TensorData(samples.split, inputs, torch.from_numpy(samples.targets))
