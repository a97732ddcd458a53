"""The store: equal tensors once, whole files without a copy, compact versions, gc, verify."""

import errno
import hashlib
import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from registry_models import mlp, renumbered, tuned

from rebasin_hub.errors import FormatError, InputError, OutputError
from rebasin_hub.pipeline.registry import Adding, add
from rebasin_hub.registry import Kept, ParentKind, Registry
from rebasin_hub.registry import store as store_module
from rebasin_hub.registry.delta import decode, encode
from rebasin_hub.registry.layout import tensor_spans
from rebasin_hub.registry.results import Parent

STORE = Adding(keep=Kept.STORED)


def compact(base=None, **more):
    return Adding(keep=Kept.COMPACT, base=base, **more)


def objects(registry):
    return {digest: found.st_size for digest, found in registry.store.all()}


@settings(max_examples=60)
@given(data=st.data(), kind=st.sampled_from(["u1", "u2", "u4", "u8"]), n=st.integers(0, 50))
def test_what_was_encoded_is_decoded(data, kind, n):
    target = data.draw(hnp.arrays(kind, n))
    base = data.draw(st.none() | hnp.arrays(kind, n))
    packed = encode(target, base)
    assert np.array_equal(decode(memoryview(packed), base, np.dtype(kind), n), target)


def test_close_numbers_have_short_differences():
    rng = np.random.default_rng(0)
    base = rng.normal(size=4000).astype(np.float32)
    close = (base * (1 + 1e-4 * rng.normal(size=4000))).astype(np.float32)
    packed = len(encode(close.view("u4"), base.view("u4")))
    assert packed < 0.6 * len(encode(close.view("u4"), None)) < 0.6 * close.nbytes


def test_damaged_differences_are_refused():
    packed = encode(np.zeros(100, np.uint32), None)
    for bad in (packed[:-1], packed[:5], b"\x01" + packed[1:9] + b"\xff" * 20, packed[:9]):
        with pytest.raises(FormatError):
            decode(memoryview(bad), None, np.dtype(np.uint32), 100)
    with pytest.raises(FormatError, match="expected 99"):
        decode(memoryview(packed), None, np.dtype(np.uint32), 99)


def test_equal_tensors_are_stored_once(registry, write):
    tensors = mlp(0)
    first = add(registry, write("a", tensors), "a", STORE)
    assert first.stored_bytes == sum(objects(registry).values()) == first.version.nbytes
    changed = {**tensors, "fc3.bias": tensors["fc3.bias"] + 1}
    second = add(registry, write("b", changed), "b", STORE)
    assert second.stored_bytes < 2500  # the header and what is small
    again = add(registry, write("c", tensors), "c", STORE)
    assert (again.stored_bytes, again.shared_bytes) == (0, again.version.nbytes)


def test_equal_tensors_of_different_formats_are_stored_once(registry, write, tmp_path):
    torch = pytest.importorskip("torch")
    add(registry, write("a", mlp(0)), "a", STORE)
    torch.save({n: torch.from_numpy(t) for n, t in mlp(0).items()}, tmp_path / "a.pt")
    done = add(registry, tmp_path / "a.pt", "a-torch", STORE)
    assert done.shared_bytes > 0.75 * mlp(0)["fc1.weight"].nbytes
    assert registry.resolve("a-torch").read_bytes() == (tmp_path / "a.pt").read_bytes()


def test_a_stored_version_outlives_its_file(registry, write):
    path = write("a", mlp(0))
    add(registry, path, "a", STORE)
    content = path.read_bytes()
    path.unlink()
    restored = registry.resolve("a")
    assert restored.read_bytes() == content
    assert registry.resolve("a") == restored
    shutil.rmtree(restored.parent)
    assert registry.resolve("a").read_bytes() == content
    assert registry.verify().sound


def test_a_linked_file_takes_no_second_copy(registry, write):
    path = write("a", mlp(0))
    add(registry, path, "a", Adding(keep=Kept.LINKED))
    (digest,) = objects(registry)
    if registry.store.path(digest).stat().st_nlink > 1:
        assert registry.store.path(digest).samefile(path)
    path.unlink()
    assert registry.resolve("a").read_bytes()
    assert registry.verify().sound


def test_a_version_in_place_can_be_moved_into_the_store(registry, write):
    path = write("a", mlp(0))
    add(registry, path, "a")
    registry.move_into_store("a")
    content = path.read_bytes()
    path.unlink()
    assert registry.resolve("a").read_bytes() == content
    with pytest.raises(InputError, match="already"):
        registry.move_into_store("a")


@pytest.mark.parametrize("which", ["copy", "tuned"])
def test_relatives_are_kept_as_differences_bit_for_bit(registry, models, which):
    add(registry, models["a"], "a", STORE)
    done = add(registry, models[which], which, compact("a"))
    assert done.version.kept is Kept.COMPACT
    share = done.stored_bytes / done.version.nbytes
    assert share < (0.3 if which == "copy" else 0.55)
    content = models[which].read_bytes()
    shutil.rmtree(models[which].parent)
    assert registry.resolve(which).read_bytes() == content
    assert registry.verify().sound
    with pytest.raises(InputError, match="is kept as its difference to it"):
        registry.rm("a:1")
    registry.move_into_store(which)
    registry.rm("a:1")
    registry.gc(grace=0)
    assert registry.resolve(which).read_bytes() == content


def test_models_made_apart_are_stored_plainly_and_it_says_so(registry, models):
    add(registry, models["a"], "a", STORE)
    done = add(registry, models["b"], "b", compact("a"))
    assert done.version.kept is Kept.STORED
    assert "stored plainly" in done.notes[-1]
    assert registry.resolve("b").read_bytes() == models["b"].read_bytes()


def test_a_base_is_found_among_parents_and_equal_models(registry, models):
    with pytest.raises(InputError, match="name the one"):
        add(registry, models["tuned"], "t", compact())
    add(registry, models["a"], "a")
    parent = Parent(ParentKind.FINE_TUNED_FROM, "a")
    with pytest.raises(InputError, match="name the one"):
        add(registry, models["tuned"], "t", compact(parents=[parent]))
    with pytest.raises(InputError, match="registry store a:1"):
        add(registry, models["tuned"], "t", compact("a"))
    registry.move_into_store("a")
    add(registry, models["tuned"], "t", compact(parents=[parent]))
    assert registry.show("t").compact.base == "a:1"
    # A difference to a difference would have to be followed twice: its base is taken.
    add(registry, models["copy"], "c", compact("t"))
    assert registry.show("c").compact.base == "a:1"


def test_a_cast_copy_needs_next_to_nothing(registry, write):
    add(registry, write("a", mlp(0)), "a", STORE)
    half = {n: t.astype(np.float16) for n, t in renumbered(mlp(0), 4).items()}
    done = add(registry, write("half", half), "half", compact("a"))
    assert done.version.kept is Kept.COMPACT
    assert done.stored_bytes < 0.5 * done.version.nbytes
    assert registry.verify().sound


def test_gc_takes_what_nobody_needs_and_nothing_else(registry, models):
    for name in ("a", "b"):
        add(registry, models[name], name, STORE)
    add(registry, models["a"], "a", STORE)
    kept = objects(registry)
    registry.rm("b:1")
    assert registry.gc(grace=3600).objects == 0
    planned = registry.gc(grace=0, dry_run=True)
    assert objects(registry) == kept
    assert planned.versions == ("b:1",)
    done = registry.gc(grace=0)
    assert (done.objects, done.nbytes) == (planned.objects, planned.nbytes)
    assert done.objects > 0
    assert registry.verify().sound
    assert registry.resolve("a:1").read_bytes() == models["a"].read_bytes()
    with pytest.raises(InputError, match="add the model again"):
        registry.rm("b:1", undo=True)
    assert registry.show("b:1").version.removed


def test_an_add_puts_back_what_gc_takes_meanwhile(registry, models, monkeypatch):
    """The worst moment: all objects are there, and the row is not."""
    sync, calls = registry.store.sync, []

    def take_all():
        sync()
        if not calls:
            with Registry(registry.root) as other:
                calls.append(other.gc(grace=0).objects)

    monkeypatch.setattr(registry.store, "sync", take_all)
    add(registry, models["a"], "a", STORE)
    assert calls[0] > 0
    assert registry.verify().sound


def test_leftovers_of_a_killed_process_are_no_damage(registry, models):
    add(registry, models["a"], "a", STORE)
    (registry.store.temporary / "0123").write_bytes(b"half")
    registry.store.put_bytes(b"an object that no row names")
    found = registry.verify()
    assert found.sound
    assert found.objects_unused == 1
    done = registry.gc(grace=0)
    assert (done.objects, done.temporary) == (1, 1)


def test_verify_finds_every_kind_of_damage(registry, models):
    add(registry, models["a"], "a", STORE)
    add(registry, models["tuned"], "t", compact("a"))
    paths = [registry.store.path(digest) for digest in objects(registry)]
    for path in paths:
        content = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert not registry.verify().sound, path
        path.write_bytes(content[:-1])
        assert not registry.verify(quick=True).sound, path
        path.unlink()
        assert not registry.verify(quick=True).sound, path
        path.write_bytes(content)
        assert registry.verify().sound


def test_adding_again_heals_a_lost_object(registry, models):
    add(registry, models["a"], "a", STORE)
    for digest in objects(registry):
        registry.store.path(digest).unlink()
    assert not registry.verify(quick=True).sound
    add(registry, models["a"], "a", STORE)
    assert registry.verify().sound


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_loses_nothing(registry, models, monkeypatch, code):
    add(registry, models["a"], "a", STORE)
    before, write, left = objects(registry), store_module._write, [2000]

    def full(file, chunk):
        left[0] -= len(chunk)
        if left[0] < 0:
            raise OSError(code, os.strerror(code))
        write(file, chunk)

    monkeypatch.setattr(store_module, "_write", full)
    with pytest.raises(OutputError, match="cannot be written"):
        add(registry, models["b"], "b", STORE)
    monkeypatch.undo()
    assert not any(registry.store.temporary.iterdir())
    assert [m.name for m in registry.models()] == ["a"]
    assert before.keys() <= objects(registry).keys()
    assert registry.verify().sound
    add(registry, models["b"], "b", STORE)


def test_a_database_that_cannot_grow_loses_nothing(registry, models):
    add(registry, models["a"], "a", STORE)
    pages = registry._db.execute("PRAGMA page_count").fetchone()[0]
    registry._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutputError, match="full; free some space"):
        registry.tag("a:1", {str(n): "x" * 1000 for n in range(500)})
    registry._db.execute("PRAGMA max_page_count = 1000000")
    assert registry.verify().sound
    assert registry.versions("a")


def test_a_file_that_changes_while_it_is_stored_is_refused(registry, models, monkeypatch):
    from rebasin_hub.registry import contents

    cut = contents.cut

    def change_first(store, path, digest, nbytes):
        path.write_bytes(path.read_bytes()[:-1] + b"x")
        return cut(store, path, digest, nbytes)

    monkeypatch.setattr(contents, "cut", change_first)
    with pytest.raises(FormatError, match="was changed"):
        add(registry, models["a"], "a", STORE)
    assert registry.models() == []


def test_spans_lie_in_their_file_whatever_it_holds(tmp_path):
    rng = np.random.default_rng(0)
    for number, start in enumerate(
        (b"PK\x03\x04", b"\x10\0\0\0\0\0\0\0{", b"\xff" * 8 + b"{", b"")
    ):
        path = tmp_path / str(number)
        path.write_bytes(start + rng.bytes(500))
        assert tensor_spans(path) == []


def test_tensors_of_a_fine_tune_share_what_did_not_move(registry, write):
    add(registry, write("a", mlp(0)), "a", STORE)
    frozen = {**tuned(mlp(0), 1), "fc1.weight": mlp(0)["fc1.weight"]}
    done = add(registry, write("b", frozen), "b", STORE)
    assert done.shared_bytes == mlp(0)["fc1.weight"].nbytes


def test_what_is_being_written_is_not_taken_for_left_behind(tmp_path):
    """Even without a grace: a lock tells it from the file of a process that was killed."""
    data = b"some bytes"
    with Registry(tmp_path / "registry") as registry:
        left = registry.store.temporary_file()
        left.write_bytes(data)

        def chunks():
            yield data[:4]
            assert registry.gc(grace=0).temporary == 1
            yield data[4:]

        digest = hashlib.sha256(data).hexdigest()
        registry.store.put(digest, len(data), chunks())
        assert registry.store.has(digest, len(data))
        assert not list(registry.store.temporary.iterdir())
