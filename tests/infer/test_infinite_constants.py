"""Infinite constants that lie on no permutation, such as those from which a maximum starts."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_nets import NODE, array, graph, save  # noqa: E402

from rebasin_hub.errors import NotFiniteError  # noqa: E402
from rebasin_hub.formats import open_checkpoint  # noqa: E402
from rebasin_hub.pipeline.compare import Relation, verify  # noqa: E402
from rebasin_hub.pipeline.matching import align_models  # noqa: E402
from rebasin_hub.pipeline.merging import Recipe, merge  # noqa: E402
from rebasin_hub.pipeline.models import AUTOMATIC, open_model  # noqa: E402
from rebasin_hub.tasks import Options  # noqa: E402
from rebasin_hub.tasks.find import find_task  # noqa: E402

ORDER = [3, 0, 4, 1, 2]
LIMITS = [-np.inf, np.inf, 0.5]


def with_limits(path, weights, *, constant, bias=0.0):
    """Write a network of one hidden layer that is cut at a constant for each output."""
    made = graph(
        [
            NODE("MatMul", ["x", "a"], ["h0"]),
            NODE("Add", ["h0", "b"], ["h1"]),
            NODE("Relu", ["h1"], ["h2"]),
            NODE("MatMul", ["h2", "c"], ["h3"]),
            NODE("Max", ["h3", "least"], ["y"]),
        ],
        [2, 4],
        [2, 3],
        [
            *weights,
            array("b", [bias] * 5, np.float32),
            array("least", np.broadcast_to(constant, 3), np.float32),
        ],
    )
    return save(path, made)


def layers(order, seed=0):
    rng = np.random.default_rng(seed)
    one, two = rng.standard_normal((4, 5)), rng.standard_normal((5, 3))
    return [array("a", one[:, order], np.float32), array("c", two[order], np.float32)]


def test_an_infinite_constant_off_every_permutation_is_no_obstacle(tmp_path):
    a = with_limits(tmp_path / "a.onnx", layers(range(5)), constant=-np.inf)
    b = with_limits(tmp_path / "b.onnx", layers(ORDER), constant=-np.inf)
    found = align_models(b, a)
    assert found.alignment.cosine == pytest.approx(1)
    (moved,) = found.alignment.element.values()
    assert [ORDER[i] for i in moved] == list(range(5))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_lies_on_a_permutation_has_to_be_finite(tmp_path, value):
    a = with_limits(tmp_path / "a.onnx", layers(range(5)), constant=0)
    b = with_limits(tmp_path / "b.onnx", layers(range(5)), constant=0, bias=value)
    with pytest.raises(NotFiniteError, match="b of the model"):
        align_models(b, a)


def test_equal_infinite_values_have_no_distance(tmp_path):
    a = with_limits(tmp_path / "a.onnx", layers(range(5)), constant=LIMITS)
    b = with_limits(tmp_path / "b.onnx", layers(ORDER), constant=LIMITS)
    found = verify(a, b)
    assert found.relation is Relation.RENUMBERED
    assert 0 < found.as_stored.relative < np.inf
    other = layers(ORDER, seed=1)
    b = with_limits(tmp_path / "c.onnx", other, constant=LIMITS)
    found = verify(a, b)
    assert (found.relation, found.as_stored.infinite) == (Relation.UNRELATED, ())
    kept = [onnx.numpy_helper.to_array(w) for w in layers(range(5))]
    theirs = [onnx.numpy_helper.to_array(w) for w in other]
    gap = sum(((x.astype(float) - y) ** 2).sum() for x, y in zip(kept, theirs, strict=True))
    norm = sum((x.astype(float) ** 2).sum() for x in kept) + 0.5**2
    assert found.as_stored.relative == pytest.approx(np.sqrt(gap / norm))
    assert np.isfinite([found.aligned.relative, found.aligned.cosine, found.aligned.largest]).all()
    assert not any("holds infinite" in note for note in found.notes)


@pytest.mark.parametrize("others", [[-np.inf, -np.inf, 0.5], [0, np.inf, 0.5], [-np.inf, 7, 0.5]])
def test_other_infinite_values_are_infinitely_far_apart(tmp_path, others):
    """In the same file and its renumbered copy, which nothing else tells apart."""
    a = with_limits(tmp_path / "a.onnx", layers(range(5)), constant=LIMITS)
    b = with_limits(tmp_path / "b.onnx", layers(ORDER), constant=others)
    for one, other in ((a, b), (b, a)):
        found = verify(one, other)
        assert found.relation is Relation.UNRELATED
        assert found.aligned.infinite == ("least",)
        assert (found.aligned.relative, found.aligned.largest) == (np.inf, np.inf)
        assert found.aligned.cosine == pytest.approx(1)
        assert any(note.startswith("least: holds infinite values") for note in found.notes)


def test_values_that_are_none_have_no_distance_that_is_a_number(tmp_path):
    a = with_limits(tmp_path / "a.onnx", layers(range(5)), constant=np.nan)
    b = with_limits(tmp_path / "b.onnx", layers(range(5)), constant=[np.nan, np.inf, 0])
    found = verify(a, b)
    assert np.isnan([found.as_stored.relative, found.as_stored.largest]).all()
    assert found.as_stored.infinite == ("least",)


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_equal_infinite_values_stay_in_a_merge(tmp_path, method):
    a = with_limits(tmp_path / "a.onnx", layers(range(5)), constant=LIMITS)
    b = with_limits(tmp_path / "b.onnx", layers(ORDER, seed=1), constant=LIMITS)
    done = merge([a, b], tmp_path / "m.onnx", recipe=Recipe(method=method))
    with open_checkpoint(done.output) as merged:
        assert merged.read("least").tolist() == LIMITS
        assert np.isfinite(merged.read("a")).all()
    b = with_limits(tmp_path / "b.onnx", layers(ORDER, seed=1), constant=[-np.inf, 3, 0.5])
    with pytest.raises(NotFiniteError, match=r"least: holds infinite values .* have no mean"):
        merge([a, b], tmp_path / "n.onnx", recipe=Recipe(method=method))
    assert not (tmp_path / "n.onnx").exists()
    # The first one's values have no need of a mean.
    merge([a, b], tmp_path / "n.onnx", recipe=Recipe(method=method, weights=(1, 0)))


def test_equal_infinite_values_stay_on_the_line_between_networks(tmp_path):
    data = tmp_path / "data.npz"
    rng = np.random.default_rng(0)
    inputs = rng.standard_normal((2, 4)).astype(np.float32)
    np.savez(data, inputs=inputs, labels=rng.integers(0, 3, 2))
    a = with_limits(tmp_path / "a.onnx", layers(range(5)), constant=LIMITS)
    with open_model(a, AUTOMATIC) as model:
        network = find_task(str(a), Options(data=data)).network(model.subject, "cpu")
        one = network.state(model.read)
    other = {**one, "a": one["a"] * 2}
    mixed = network.mix([one, other], [0.25, 0.75])
    assert mixed["least"].tolist() == LIMITS
    np.testing.assert_allclose(mixed["a"], one["a"] * 1.75, rtol=1e-6)
    other["least"] = np.array([-np.inf, -np.inf, 0], np.float32)
    assert network.mix([one, other], [1, 0])["least"].tolist() == LIMITS
    with pytest.raises(NotFiniteError, match="least: holds infinite values"):
        network.mix([one, other], [0.25, 0.75])
