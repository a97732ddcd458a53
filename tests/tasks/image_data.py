"""Tiny data in every format that image tasks read, and subjects for their networks."""

from __future__ import annotations

import gzip
import io
import json
import struct
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from rebasin_hub.bind import bind
from rebasin_hub.specfile import find_spec
from rebasin_hub.tasks import Subject
from rebasin_hub.tensors import TensorInfo, dtype_of

MNIST = {"train": "train", "test": "t10k"}
CIFAR10 = {"train": "data_batch_1.bin", "test": "test_batch.bin"}
CIFAR100 = {"train": "train.bin", "test": "test.bin"}


def images(count=6, shape=(1, 28, 28), classes=10, seed=0):
    """Random bytes, channels first, and labels of which the first ones are 0, 1, 2, …"""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return pixels, np.arange(count, dtype=np.int64) % classes


def splits(**options):
    return {"test": images(seed=1, **options), "train": images(8, seed=2, **options)}


def idx_bytes(array, *, kind=0x08, shape=None) -> bytes:
    shape = array.shape if shape is None else shape
    return struct.pack(f">2xBB{len(shape)}I", kind, len(shape), *shape) + array.tobytes()


def write_idx(folder: Path, data, *, packed=False, dot="-", names=None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, (pixels, labels) in data.items():
        head = (names or MNIST)[split]
        for name, array in (("images", pixels[:, 0]), ("labels", labels.astype(np.uint8))):
            content = idx_bytes(array)
            path = folder / f"{head}-{name}{dot}idx{array.ndim}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)
    return folder


def write_cifar(folder: Path, data, names=CIFAR10) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for split, (pixels, labels) in data.items():
        coarse = [np.zeros(len(labels))] if names is CIFAR100 else []
        head = np.stack([*coarse, labels], axis=1).astype(np.uint8)
        records = np.concatenate([head, pixels.reshape(len(pixels), -1)], axis=1)
        (folder / names[split]).write_bytes(records.tobytes())
    return folder


def picture(pixels) -> Image.Image:
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def png(pixels) -> bytes:
    file = io.BytesIO()
    picture(pixels).save(file, format="png")
    return file.getvalue()


def write_folder(root: Path, data, names=None) -> Path:
    for split, (pixels, labels) in data.items():
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            folder = root / (names or {}).get(split, split) / f"class{label}"
            folder.mkdir(parents=True, exist_ok=True)
            picture(image).save(folder / f"{number:03}.png")
    return root


def write_parquet(path: Path, pixels, labels, *, image="image", label="label", struct_=True):
    import pyarrow as pa
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [png(p) for p in pixels]
    table = pa.table(
        {image: [{"bytes": c, "path": None} for c in cells] if struct_ else cells, label: labels}
    )
    note = {"info": {"features": {label: {"names": [str(n) for n in range(10)]}}}}
    table = table.replace_schema_metadata({"huggingface": json.dumps(note)})
    parquet.write_table(table, path, row_group_size=3)
    return path


def subject(module: torch.nn.Module, spec: str, renamed=None) -> Subject:
    """The subject of a module's own state dict, as a checkpoint under other names maybe."""
    header = {
        (renamed or {}).get(name, name): TensorInfo(dtype_of(tensor.numpy()), tuple(tensor.shape))
        for name, tensor in module.state_dict().items()
    }
    return Subject(Path("model.pt"), bind(find_spec(spec), header), None, {})


def reader(module: torch.nn.Module):
    """Read the tensors of a module's state dict by their names."""
    return lambda name: module.state_dict()[name].numpy()
