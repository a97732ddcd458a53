"""Versions, aliases, lineage, tags and metrics."""

import os
import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from registry_models import mlp, renumbered
from safetensors.numpy import load_file

from rebasin_hub.errors import FormatError, InputError
from rebasin_hub.pipeline.registry import Adding, add, facts_of, reference_for, resolve, which
from rebasin_hub.registry import Kept, Metric, Parent, ParentKind, Reference, Registry, schema
from rebasin_hub.registry.names import check_alias, check_name
from rebasin_hub.registry.schema import FILE, MIGRATIONS


def test_versions_are_numbered_and_numbers_are_not_given_again(added, models):
    assert [v.reference for v in added.versions("a")] == ["a:1", "a:2"]
    added.rm("a:2")
    assert [v.reference for v in added.versions("a")] == ["a:1"]
    assert add(added, models["a"], "a").version.number == 3
    added.rm("a:2", undo=True)
    assert [v.number for v in added.versions("a")] == [1, 2, 3]
    summary = {m.name: (m.versions, m.latest) for m in added.models()}
    assert summary == {"a": (3, 3), "b": (1, 1)}


def test_a_version_knows_what_identifies_it(added, models):
    found = added.show("a")
    assert found.version.reference == "a:2"
    assert found.version.spec == "mlp"
    assert found.version.parameters == sum(t.size for t in mlp(0).values())
    assert found.dtypes == {"F32": found.version.parameters}
    assert found.files[0].path == models["a"]
    assert len(found.version.canonical) == 64


def test_which_finds_files_weights_and_renumbered_copies(added, models, write):
    def how(path):
        return [(m.version.reference, m.how) for m in which(added, path).matches]

    assert how(models["a"]) == [("a:1", "same files"), ("a:2", "same files")]
    other = write("other", mlp(0), note="another header")
    assert how(other) == [("a:1", "same weights"), ("a:2", "same weights")]
    assert how(models["copy"]) == [("a:1", "renumbered"), ("a:2", "renumbered")]
    assert how(models["tuned"]) == []


def test_which_finds_resharded_and_converted_copies(added, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {n: torch.from_numpy(t) for n, t in renumbered(mlp(0), 9).items()}
    torch.save(tensors, tmp_path / "copy.pt")
    assert [m.how for m in which(added, tmp_path / "copy.pt").matches] == ["renumbered"] * 2


def test_adding_tells_of_equal_models(added, models):
    assert add(added, models["copy"], "c").same_as == ("a:1", "a:2")
    groups = added.duplicates()
    assert [(g.versions, g.identical) for g in groups] == [(("a:1", "a:2", "c:1"), False)]


def test_a_model_that_no_spec_fits_is_registered_by_its_weights(registry, write):
    path = write("odd", {"something": mlp(0)["fc1.weight"]})
    done = add(registry, path, "odd")
    assert done.version.canonical is None
    assert "no spec fits" in done.notes[0]
    assert which(registry, path).matches
    with pytest.raises(InputError, match=r"does not fit|no such"):
        add(registry, path, "odd", choice=choice("mlp"))
    with pytest.raises(InputError, match="add it again with --spec"):
        registry.set_reference("odd")


def choice(name):
    from rebasin_hub.pipeline.models import Choice

    return Choice(name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("c", "there is no model 'c'"),
        ("a:9", "there is no such version"),
        ("a@x", "there is no such alias"),
        ("a:x", "no version's number"),
        ("../a", "a model's name is made of"),
        ("a//b", "a model's name is made of"),
    ],
)
def test_unknown_references_are_refused(added, text, message):
    with pytest.raises(InputError, match=message):
        added.show(text)


def test_references_are_read_and_written():
    for text in ("team/net", "net@best", "net:3"):
        parsed = Reference.parse(f"registry:{text}")
        assert str(parsed) == (f"{text}@latest" if text == "team/net" else text)
        assert Reference.parse(str(parsed)) == parsed
    for bad in ("", "a b", "a\n", "ä", "-a", "a/", "x" * 201):
        with pytest.raises(InputError):
            check_name(bad)
    for bad in ("latest", "1", "", "a b"):
        with pytest.raises(InputError):
            check_alias(bad)


def test_aliases_move_remember_and_roll_back(added, models):
    add(added, models["a"], "a")
    for number in (1, 2, 3):
        added.alias(f"a:{number}", "best")
    assert added.show("a@best").version.number == 3
    assert added.rollback("a", "best").number == 2
    assert added.rollback("a", "best").number == 1
    with pytest.raises(InputError, match="no other version before"):
        added.rollback("a", "best")
    assert [e.number for e in added.history("a", "best")] == [1, 2, 3, 2, 1]
    added.delete_alias("a", "best")
    with pytest.raises(InputError, match="no such alias"):
        added.show("a@best")
    assert added.history("a", "best")[-1].action == "delete"


def test_rollback_passes_over_removed_versions(added, models):
    add(added, models["a"], "a")
    for number in (1, 2, 3):
        added.alias(f"a:{number}", "best")
    added.rm("a:2")
    assert added.rollback("a", "best").number == 1


@settings(max_examples=25)
@given(moves=st.lists(st.integers(1, 3), min_size=1, max_size=6), data=st.data())
def test_n_rollbacks_undo_n_moves(tmp_path_factory, moves, data):
    with Registry(tmp_path_factory.mktemp("r")) as registry:
        fill(registry, 3)
        told = [move for i, move in enumerate(moves) if i == 0 or move != moves[i - 1]]
        for move in moves:
            registry.alias(f"m:{move}", "x")
        back = data.draw(st.integers(0, len(told) - 1))
        expected = told[len(told) - 1 - back]
        for _ in range(back):
            registry.rollback("m", "x")
        assert registry.show("m@x").version.number == expected


def fill(registry, count, name="m"):
    """Add versions whose facts are made up."""
    from registry_facts import made_up

    for number in range(count):
        registry.add(name, made_up(f"{name}{number}"))


def test_a_version_in_use_is_not_removed(added, models):
    added.alias("a:1", "best")
    with pytest.raises(InputError, match="the alias best points to it"):
        added.rm("a:1")
    added.set_reference("a:2")
    with pytest.raises(InputError, match="is the reference"):
        added.rm("a:2")


def test_lineage_reaches_both_ways_and_has_no_circle(registry):
    for name in "abcd":
        fill(registry, 1, name)
    registry.link("b", [Parent(ParentKind.FINE_TUNED_FROM, "a")])
    registry.link("c", [Parent(ParentKind.MERGED_FROM, "a"), Parent(ParentKind.MERGED_FROM, "b:1")])
    registry.link(
        "c",
        [Parent(ParentKind.MERGED_FROM, "hf://org/x@1234"), Parent(ParentKind.MERGED_FROM, "a:1")],
    )
    found = registry.lineage("b")
    assert set(found.versions) == {"a:1", "b:1", "c:1"}
    assert [(e.child, e.parent) for e in found.edges] == [
        ("b:1", "a:1"), ("c:1", "a:1"), ("c:1", "b:1"), ("c:1", "hf://org/x@1234"),
    ]  # fmt: skip
    for child, parent in (("a", "c"), ("a", "a")):
        with pytest.raises(InputError, match="itself"):
            registry.link(child, [Parent(ParentKind.ALIGNED_TO, parent)])
    assert registry.show("a").children[0].model == "b:1"


def test_a_permutation_file_tells_the_parents(registry, models, tmp_path):
    from rebasin_hub.pipeline.canonicalize import canonicalize
    from rebasin_hub.pipeline.matching import Matching

    out, file = tmp_path / "out.safetensors", tmp_path / "p.safetensors"
    canonicalize(
        models["tuned"], out, reference=models["a"], permutations=file,
        matching=Matching(device="cpu"),
    )  # fmt: skip
    add(registry, models["tuned"], "tuned")
    add(registry, models["a"], "a")
    done = add(registry, out, "rebased", Adding(artefacts=[file]))
    assert done.parents == (
        Parent(ParentKind.CANONICALIZED_FROM, "tuned:1"),
        Parent(ParentKind.ALIGNED_TO, "a:1"),
    )
    assert [a.role for a in registry.show("rebased").artefacts] == ["permutation"]
    with pytest.raises(InputError, match="permutation file of another one"):
        add(registry, models["b"], "b", Adding(artefacts=[file]))


def test_tags_and_metrics(added):
    added.tag("a:1", {"data": "cifar", "good": ""})
    added.tag("a:1", {"good": None})
    assert added.versions("a")[0].tags == {"data": "cifar"}
    with pytest.raises(InputError, match="no such tag"):
        added.tag("a:1", {"good": None})
    metric = Metric("barrier", 0.5, "mnist", "f" * 64, None, "")
    added.metric("a:1", [metric])
    found = added.metric("a:1", [Metric("barrier", float("nan"), "", "", None, "")])
    assert [m.value for m in found] == [0.5, None]
    with pytest.raises(InputError, match="64 hexadecimal"):
        added.metric("a:1", [Metric("x", 1.0, "t", "abc", None, "")])


def test_the_reference_of_an_architecture_is_found_by_a_model_of_it(added, models, write, tmp_path):
    from rebasin_hub.formats import open_checkpoint
    from rebasin_hub.pipeline.models import AUTOMATIC

    def reference(path):
        with open_checkpoint(path) as checkpoint:
            return reference_for(AUTOMATIC.bind(checkpoint), added.root)

    assert reference(models["tuned"]) is None
    added.set_reference("a:1")
    added.set_reference("b:1")
    assert reference(models["tuned"]) == models["b"]
    assert reference(write("wide", mlp(0, (40, 33, 24, 10)))) is None
    assert [r.version for r in added.references()] == ["b:1"]
    with open_checkpoint(models["a"]) as checkpoint:
        assert reference_for(AUTOMATIC.bind(checkpoint), tmp_path / "nowhere") is None
    assert not (tmp_path / "nowhere").exists()


def test_files_in_place_are_resolved_until_they_change(added, models):
    path = models["a"]
    assert resolve("registry:a@latest", added.root) == path
    os.utime(path)  # the same content at another time
    assert added.resolve("a") == path
    moved = path.rename(path.with_name("moved.safetensors"))
    with pytest.raises(InputError, match=r"is not there any more.*relocate a:2 PATH"):
        added.resolve("a")
    assert [f.subject for f in added.verify().findings] == ["a:1", "a:2"]
    with pytest.raises(InputError, match="another one"):
        added.relocate("a:2", models["b"])
    added.relocate("a:2", moved)
    assert added.resolve("a") == moved
    data = bytearray(moved.read_bytes())
    data[-1] ^= 1
    moved.write_bytes(data)
    with pytest.raises(InputError, match="SHA-256"):
        added.resolve("a")


def test_a_newer_registry_is_refused_politely(added, models):
    added.close()
    path = added.root / FILE
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"version 99.*update rebasin-hub"):
        Registry(added.root)
    assert path.read_bytes() == before


def test_an_older_registry_is_migrated_with_all_that_is_in_it(added, monkeypatch):
    added.close()
    more = "CREATE TABLE later (x TEXT);\nALTER TABLE version ADD COLUMN y TEXT;\n"
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, more))
    with Registry(added.root) as opened:
        assert [v.reference for v in opened.versions("a")] == ["a:1", "a:2"]
        assert opened.verify().sound
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, more, "CREATE TABLE x (y);\nBAD;\n"))
    with pytest.raises(Exception, match="syntax error"):
        Registry(added.root)
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, more))
    with Registry(added.root) as opened:  # the migration that failed left nothing behind
        assert opened.verify().sound


def test_what_is_no_database_is_said_to_be_none(tmp_path):
    (tmp_path / FILE).write_bytes(b"no database at all" * 100)
    with pytest.raises(FormatError, match="restore it"):
        Registry(tmp_path)


def test_facts_do_not_depend_on_where_a_model_lies(models, write):
    one, other = facts_of(models["a"]), facts_of(write("elsewhere", mlp(0)))
    assert [f.digest for f in one.files] == [f.digest for f in other.files]
    assert (one.digest, one.canonical) == (other.digest, other.canonical)
    copy = facts_of(models["copy"])
    assert (one.canonical, one.signature) == (copy.canonical, copy.signature)
    assert one.digest != copy.digest
    assert load_file(models["a"]).keys() == mlp(0).keys()


def test_kept_words_are_those_of_the_schema():
    assert {kept.value for kept in Kept} == {"in place", "stored", "linked", "compact"}
