"""Each format of images gives back what was written, and says what is wrong with a file."""

from __future__ import annotations

import gzip
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
from image_data import (
    CIFAR100,
    idx_bytes,
    images,
    picture,
    png,
    splits,
    write_cifar,
    write_folder,
    write_idx,
    write_parquet,
)
from PIL import Image

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.images.digits import digits_parts
from rebasin_hub.tasks.images.formats import find_parts
from rebasin_hub.tasks.images.idx import read_idx

GRAY = {"shape": (1, 28, 28)}
COLOUR = {"shape": (3, 32, 32)}


def write_npz(path, data, *, layout="first"):
    arrays = {}
    for split, (pixels, labels) in data.items():
        moved = pixels if layout == "first" else pixels.transpose(0, 2, 3, 1)
        arrays |= {f"x_{split}": moved, f"y_{split}": labels[:, None]}
    path.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path / "data.npz", **arrays)
    return path


def write_parquets(folder, data, *, struct_=True, **columns):
    for split, (pixels, labels) in data.items():
        half = len(labels) // 2
        for number, part in enumerate((slice(None, half), slice(half, None))):
            path = folder / "data" / f"{split}-0000{number}-of-00002.parquet"
            write_parquet(path, pixels[part], labels[part], struct_=struct_, **columns)
    return folder


FORMATS = {
    "idx": (GRAY, write_idx),
    "idx-gz": (GRAY, partial(write_idx, packed=True, dot=".")),
    "cifar10": (COLOUR, write_cifar),
    "cifar100": (COLOUR | {"classes": 100}, partial(write_cifar, names=CIFAR100)),
    "folder-gray": (GRAY, write_folder),
    "folder-colour": (COLOUR, write_folder),
    "folder-val": (COLOUR, partial(write_folder, names={"test": "val"})),
    "parquet": (COLOUR, write_parquets),
    "parquet-bytes": (
        GRAY,
        partial(write_parquets, struct_=False, image="img", label="fine_label"),
    ),
    "npz": (COLOUR, write_npz),
    "npz-channels-last": (COLOUR, partial(write_npz, layout="last")),
}


@pytest.mark.parametrize("below", ["", "raw", "MNIST/raw"])
@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_again(tmp_path, name, below) -> None:
    options, write = FORMATS[name]
    data = splits(**options)
    write(tmp_path / below, data)
    parts = find_parts(tmp_path)
    assert set(parts) == {"test", "train"}
    for split, part in parts.items():
        pixels, labels = data[split]
        every = np.arange(len(labels))
        assert part.labels.dtype == np.int64
        assert np.array_equal(part.labels, labels)
        assert np.array_equal(part.read(every, None), pixels)
        some = np.array([1, 3, 4])
        assert np.array_equal(part.read(some, None), pixels[some])
        assert part.read(some, (5, 7)).shape == (3, len(pixels[0]), 5, 7)
        assert part.white == 255


def test_formats_tell_the_number_of_classes(tmp_path) -> None:
    data = splits(**COLOUR)
    assert find_parts(write_cifar(tmp_path / "a", data))["test"].classes == 10
    assert find_parts(write_cifar(tmp_path / "b", data, CIFAR100))["test"].classes == 100
    # Eight classes among the training images; two of them are missing in the test folder.
    assert find_parts(write_folder(tmp_path / "c", data))["test"].classes == 8
    assert find_parts(write_parquets(tmp_path / "d", data))["test"].classes == 10


def test_single_files(tmp_path) -> None:
    pixels, labels = images(shape=(3, 5, 6))
    path = write_parquet(tmp_path / "some.parquet", pixels, labels)
    assert set(find_parts(path)) == {"test"}
    path = write_parquet(tmp_path / "train-0.parquet", pixels, labels)
    assert set(find_parts(path)) == {"train"}
    np.savez(tmp_path / "own.npz", inputs=pixels[:, 0] / 7, labels=labels)
    part = find_parts(tmp_path / "own.npz")["test"]
    assert part.white == 1
    read = part.read(np.arange(6), None)
    assert read.dtype == np.float32
    assert np.array_equal(read[:, 0], (pixels[:, 0] / 7).astype(np.float32))
    np.savez(tmp_path / "rows.npz", inputs=pixels[:, 0, 0] / 7, labels=labels)
    assert find_parts(tmp_path / "rows.npz")["test"].read(np.arange(6), None).shape == (6, 1, 1, 6)


def test_validation_files_are_the_test_split_where_there_is_no_other(tmp_path) -> None:
    pixels, labels = images(shape=(1, 4, 4))
    write_parquet(tmp_path / "validation-0.parquet", pixels[:2], labels[:2])
    write_parquet(tmp_path / "train-0.parquet", pixels, labels)
    assert len(find_parts(tmp_path)["test"].labels) == 2
    write_parquet(tmp_path / "test-0.parquet", pixels[:3], labels[:3])
    assert len(find_parts(tmp_path)["test"].labels) == 3


def test_a_plain_file_stands_before_its_gzipped_copy(tmp_path) -> None:
    data = splits()
    write_idx(tmp_path, data)
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8bdamaged")
    pixels, _ = data["test"]
    assert np.array_equal(find_parts(tmp_path)["test"].read(np.arange(6), None), pixels)


def test_digits_are_those_of_the_demo() -> None:
    from rebasin_hub.demo.digits import load_digits

    demo, parts = load_digits(), digits_parts()
    for split, (x, labels) in {"test": demo.test, "train": demo.train}.items():
        part = parts[split]
        pixels = part.read(np.arange(len(labels)), None).astype(np.float32) / part.white
        assert np.array_equal(pixels.reshape(len(labels), -1), x.numpy())
        assert np.array_equal(part.labels, labels.numpy())
    assert {split: len(part.labels) for split, part in parts.items()} == {
        "test": 360,
        "train": 1437,
    }


def test_gray_and_coloured_files_mix_and_transparency_is_left_out(tmp_path) -> None:
    (gray,), (colour,) = images(1, (1, 4, 4))[0], images(1, (3, 4, 4))[0]
    folder = tmp_path / "test" / "one"
    folder.mkdir(parents=True)
    picture(gray).save(folder / "0.png")
    picture(colour).save(folder / "1.png")
    picture(colour).convert("RGBA").save(folder / "2.png")
    (folder / ".hidden").write_text("no image")
    read = find_parts(tmp_path)["test"].read(np.arange(3), None)
    assert np.array_equal(read[0], np.broadcast_to(gray, (3, 4, 4)))
    assert np.array_equal(read[1], colour)
    assert np.array_equal(read[2], colour)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 8)])
def test_arrays_are_resized_as_files_are(tmp_path, shape) -> None:
    data = splits(shape=shape)
    write_folder(tmp_path / "files", data)
    write_npz(tmp_path / "array", data)
    every = np.arange(6)
    (a, b) = (find_parts(tmp_path / n)["test"].read(every, (4, 16)) for n in ("files", "array"))
    assert a.shape == (6, shape[0], 4, 16)
    assert np.array_equal(a, b)


# Errors


def idx_file(tmp_path, content) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    read_idx(path)


PIXELS = images()[0][:, 0]
GOOD = idx_bytes(PIXELS)
HUGE = idx_bytes(PIXELS, shape=(2**32 - 1, 2**32 - 1, 2**32 - 1))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no IDX file"),
        (b"PAR1", "is no IDX file"),
        (idx_bytes(PIXELS, kind=0x0D), "elements of type 0x0d in 3 axes"),
        (GOOD[:9], "ends within its header"),
        (GOOD[:-1], r"promises \[6, 28, 28\] = 4704 bytes, 4703 can follow"),
        (GOOD + b"x", "4704 bytes, 4705 can follow"),
        (gzip.compress(GOOD)[:-30], "cannot be read"),
        (gzip.compress(GOOD[:-1]), "only 4703 follow"),
        (gzip.compress(GOOD + b"x"), "more follow"),
        (HUGE, r"promises \[4294967295, 4294967295, 4294967295\]"),
        (gzip.compress(HUGE), "at most [0-9]+ can follow"),
        (b"\x1f\x8bnonsense", "cannot be read"),
        (b"\0\0\x08\x00", "in 0 axes"),
        (b"\0\0\x08\xff" + bytes(2000), "in 255 axes"),
    ],
)
def test_damaged_idx_files(tmp_path, content, message) -> None:
    with pytest.raises(InputError, match=message) as caught:
        idx_file(tmp_path, content)
    assert str(tmp_path / "file") in str(caught.value)


def test_idx_files_without_partners(tmp_path) -> None:
    write_idx(tmp_path, splits())
    (tmp_path / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"neither t10k-labels-idx1-ubyte nor .*\.gz is beside"):
        find_parts(tmp_path)


def test_two_idx_data_sets_in_one_folder(tmp_path) -> None:
    write_idx(tmp_path, splits(), names={"train": "a-train", "test": "a-test"})
    write_idx(tmp_path, splits(), names={"train": "b-train", "test": "b-test"})
    with pytest.raises(InputError, match=r"a-test-images-idx3-ubyte and b-test-.*both for 'test'"):
        find_parts(tmp_path)


def test_more_labels_than_images(tmp_path) -> None:
    pixels, labels = images()
    write_idx(tmp_path, {"test": (pixels[:4], labels)})
    with pytest.raises(InputError, match="4 images have 6 labels"):
        find_parts(tmp_path)


def test_images_are_no_labels(tmp_path) -> None:
    write_idx(tmp_path, {"test": images()})
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(GOOD)
    with pytest.raises(
        InputError, match=r"has 3 axes and t10k-labels-idx1-ubyte 3; expected 3 .*1"
    ):
        find_parts(tmp_path)


def test_records_of_cifar_are_whole(tmp_path) -> None:
    write_cifar(tmp_path, splits(**COLOUR))
    with (tmp_path / "test_batch.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(
        InputError, match=r"test_batch\.bin: has 18439 bytes.*whole records of 3073"
    ):
        find_parts(tmp_path)


def test_pickles_of_cifar_are_not_read(tmp_path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "data_batch_1"):
        (folder / name).write_bytes(b"")
    with pytest.raises(InputError, match=r"Python version of CIFAR.*take the binary version"):
        find_parts(tmp_path)


def test_damaged_and_deep_images(tmp_path) -> None:
    write_folder(tmp_path, splits(**COLOUR))
    path = tmp_path / "test" / "class3" / "003.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"class3.003\.png: cannot be decoded"):
        find_parts(tmp_path)["test"].read(np.arange(6), None)
    path.write_text("no image")
    with pytest.raises(InputError, match=r"003\.png: cannot be decoded"):
        find_parts(tmp_path)["test"].read(np.arange(6), None)
    Image.fromarray(np.full((32, 32), 4000, dtype=np.uint16)).save(path)
    with pytest.raises(InputError, match=r"003\.png: has more than 8 bits a channel"):
        find_parts(tmp_path)["test"].read(np.arange(6), None)


def test_images_of_different_sizes(tmp_path) -> None:
    write_folder(tmp_path, splits(**COLOUR))
    path = tmp_path / "test" / "class3" / "003.png"
    picture(images(1, (3, 20, 30))[0][0]).save(path)
    part = find_parts(tmp_path)["test"]
    with pytest.raises(InputError, match=r"003\.png: has 20 × 30 .*000\.png 32 × 32.*`size`"):
        part.read(np.arange(6), None)
    assert part.read(np.arange(6), (8, 8)).shape == (6, 3, 8, 8)


def test_parquet_errors(tmp_path) -> None:
    pixels, labels = images(shape=(3, 4, 4))
    path = tmp_path / "test-0.parquet"
    write_parquet(path, pixels, labels, label="answer")
    with pytest.raises(InputError, match=r"columns image, answer; expected one named label or"):
        find_parts(tmp_path)
    write_parquet(path, pixels, [str(n) for n in labels])
    with pytest.raises(InputError, match="column 'label' holds string, expected integers"):
        find_parts(tmp_path)
    write_parquet(path, pixels, [*labels[:-1], None])
    with pytest.raises(InputError, match="1 rows have no 'label'"):
        find_parts(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(InputError, match=r"test-0\.parquet: cannot be read as parquet"):
        find_parts(tmp_path)
    path.rename(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: its name begins with none of train"):
        find_parts(tmp_path)


def test_a_parquet_row_without_an_image(tmp_path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    cells = [{"bytes": png(images(1)[0][0]), "path": None}, {"bytes": None, "path": "a.png"}]
    parquet.write_table(pa.table({"image": cells, "label": [0, 1]}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="row 1, column 'image': holds no bytes"):
        find_parts(tmp_path / "x.parquet")["test"].read(np.arange(2), None)


def npz_error(tmp_path, message, **arrays) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        find_parts(tmp_path / "x.npz")


def test_npz_errors(tmp_path) -> None:
    pixels, labels = images(shape=(3, 5, 5))
    npz_error(tmp_path, r"holds the arrays images; expected x_test", images=pixels)
    npz_error(tmp_path, r"'labels' is missing", inputs=pixels)
    npz_error(tmp_path, r"'y_test' is missing", x_test=pixels, x_train=pixels, y_train=labels)
    npz_error(tmp_path, r"holds int64; expected uint8", inputs=pixels.astype(int), labels=labels)
    npz_error(tmp_path, r"float64 \[6\]; expected one integer", inputs=pixels, labels=labels / 2)
    npz_error(tmp_path, r"shape \[6, 5, 5, 5\]", inputs=pixels[:, [0] * 5], labels=labels)
    npz_error(tmp_path, "NaN or infinity", inputs=np.full((6, 2), np.nan), labels=labels)
    npz_error(tmp_path, "of object", inputs=np.array([{}] * 6), labels=labels)
    npz_error(tmp_path, "6 images have 5 labels", inputs=pixels, labels=labels[:5])
    (tmp_path / "y.npz").write_bytes((tmp_path / "x.npz").read_bytes()[:-60])
    with pytest.raises(InputError, match=r"y\.npz: cannot be read"):
        find_parts(tmp_path / "y.npz")
    with pytest.raises(InputError, match=r"holds 2 \.npz files"):
        find_parts(tmp_path)


def test_an_array_that_promises_more_than_follows(tmp_path) -> None:
    import zipfile

    np.savez(tmp_path / "x.npz", inputs=np.zeros((1, 4)), labels=np.zeros(1, int))
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    contents["inputs.npy"] = contents["inputs.npy"].replace(b"(1, 4), }      ", b"(1, 4000000), }")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    with pytest.raises(InputError, match=r"promises \[1, 4000000\].*32000000 bytes, and 32 follow"):
        find_parts(tmp_path / "x.npz")


def test_what_was_looked_for_is_named(tmp_path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_parts(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"no images were found.*train/CLASS.*\.npz"):
        find_parts(tmp_path)
    (tmp_path / "x").write_bytes(GOOD)
    with pytest.raises(InputError, match=r"x: is neither parquet nor \.npz"):
        find_parts(tmp_path / "x")


def test_reading_needs_no_torch(tmp_path) -> None:
    write_idx(tmp_path / "a", splits())
    write_folder(tmp_path / "b", splits())
    program = (
        "import sys; from pathlib import Path\n"
        "from rebasin_hub.tasks import Options\n"
        "from rebasin_hub.tasks.images import image_task\n"
        "assert not {'PIL', 'pyarrow', 'sklearn'} & set(sys.modules)\n"
        "for name in 'ab': image_task('images', Options(data=Path(sys.argv[1]) / name))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
