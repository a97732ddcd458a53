"""Archives: written, taken over elsewhere, and distrusted."""

import io
import json
import tarfile

import pytest
from registry_models import mlp

from rebasin_hub.errors import FormatError, InputError, OutputError
from rebasin_hub.pipeline.registry import Adding, add
from rebasin_hub.registry import Kept, Metric, Parent, ParentKind, Registry


@pytest.fixture
def archive(registry, models, tmp_path):
    """Export a stored, an in-place and a compact version, with all that can be noted."""
    add(registry, models["a"], "a", Adding(keep=Kept.STORED, tags={"k": "v"}))
    add(registry, models["b"], "b", Adding(source="somewhere"))
    parents = [Parent(ParentKind.FINE_TUNED_FROM, "a"), Parent(ParentKind.MERGED_FROM, "hf://o/n")]
    add(registry, models["tuned"], "t", Adding(keep=Kept.COMPACT, base="a", parents=parents))
    registry.alias("a", "best")
    registry.metric("t", [Metric("barrier", 0.25, "task", "", None, "")], record=models["b"])
    registry.export(["b", "t"], tmp_path / "r.tar")
    return tmp_path / "r.tar"


@pytest.fixture
def other(tmp_path):
    with Registry(tmp_path / "other") as opened:
        yield opened


def test_what_was_exported_is_imported(registry, archive, other, models):
    done = other.import_(archive)
    assert set(done.versions) == {"a:1", "b:1", "t:1"}
    for name, path in (("a", "a"), ("b", "b"), ("t", "tuned")):
        mine, theirs = registry.show(name), other.show(name)
        assert other.resolve(name).read_bytes() == models[path].read_bytes()
        assert (mine.metrics, mine.parents, mine.sizes) == (
            theirs.metrics, theirs.parents, theirs.sizes,
        )  # fmt: skip
        assert mine.version.canonical == theirs.version.canonical
        assert mine.version.aliases == theirs.version.aliases
        assert mine.version.created == theirs.version.created
    assert other.show("t").version.kept is Kept.COMPACT
    assert other.show("b").version.kept is Kept.STORED
    assert other.verify().sound
    assert other.import_(archive).versions == ()


def test_an_archive_is_the_same_bytes_each_time(registry, archive, tmp_path):
    registry.export(["b", "t"], tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        registry.export(["b"], archive)


def test_a_number_that_is_taken_is_not_overwritten(archive, other, write):
    add(other, write("x", mlp(7)), "a")
    with pytest.raises(InputError, match="a:1 is another version here; give --prefix"):
        other.import_(archive)
    assert [m.name for m in other.models()] == ["a"]
    done = other.import_(archive, prefix="them")
    assert "them/t:1" in done.versions
    assert other.show("them/t").compact.base == "them/a:1"
    assert other.show("them/t").parents[0].model == "them/a:1"
    assert other.verify().sound


def test_changed_files_in_place_are_not_exported(registry, archive, models, tmp_path):
    models["b"].write_bytes(b"something else")
    with pytest.raises(InputError, match="was changed"):
        registry.export(["b"], tmp_path / "x.tar")
    assert not (tmp_path / "x.tar").exists()


def members(archive):
    with tarfile.open(archive) as tar:
        return [(m, tar.extractfile(m).read()) for m in tar]


def pack(path, entries):
    with tarfile.open(path, "w") as tar:
        for member, data in entries:
            member.size = len(data) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(data))
    return path


def with_manifest(change):
    def build(entries):
        member, data = entries[0]
        manifest = json.loads(data)
        change(manifest)
        return [(member, json.dumps(manifest).encode()), *entries[1:]]

    return build


def named(name, kind=tarfile.REGTYPE):
    def build(entries):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        return [*entries, (member, b"evil")]

    return build


def flip(entries):
    member, data = entries[1]
    return [entries[0], (member, data[:-1] + bytes([data[-1] ^ 1])), *entries[2:]]


HOSTILE = {
    "climbs": named("../../evil"),
    "absolute": named("/tmp/evil"),
    "climbs among objects": named("objects/../../evil"),
    "link": named("objects/" + "0" * 64, tarfile.SYMTYPE),
    "not announced": named("objects/" + "0" * 64),
    "twice": lambda entries: [*entries, entries[1]],
    "flipped": flip,
    "cut off": lambda entries: entries[:-1],
    "no manifest": lambda entries: entries[1:],
    "file climbs": with_manifest(lambda m: m["versions"][0]["files"][0].update(name="../x")),
    "file absolute": with_manifest(lambda m: m["versions"][0]["files"][0].update(name="/x")),
    "digest climbs": with_manifest(lambda m: m["versions"][0].update(digest="../x")),
    "name climbs": with_manifest(lambda m: m["versions"][0].update(name="../x")),
    "unknown key": with_manifest(lambda m: m.update(more=1)),
    "newer": with_manifest(lambda m: m.update(rebasin_registry=2)),
    "no base": with_manifest(lambda m: m["versions"][-1]["compact"].update(base="x:1")),
    "lies of pieces": with_manifest(lambda m: m["contents"][0]["pieces"][0].__setitem__(1, 10**9)),
    "lies of content": with_manifest(
        lambda m: m["versions"][0]["files"][0].update(digest="f" * 64)
    ),
    "other recipe": with_manifest(
        lambda m: m["versions"][-1]["compact"].update(recipe=m["contents"][0]["digest"])
    ),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_and_damaged_archives_change_nothing(archive, other, tmp_path, attack):
    bad = pack(tmp_path / "bad.tar", HOSTILE[attack](members(archive)))
    with pytest.raises((FormatError, InputError)):
        other.import_(bad)
    assert other.models() == []
    assert other.verify().sound
    assert not (tmp_path.parent / "evil").exists()
    assert not (tmp_path / "evil").exists()


def test_what_is_no_archive_is_said_to_be_none(other, tmp_path):
    (tmp_path / "x.tar").write_bytes(b"no archive" * 100)
    for path in (tmp_path / "x.tar", tmp_path / "missing.tar"):
        with pytest.raises(FormatError, match=r"cannot be read as an archive|no archive"):
            other.import_(path)
