"""ONNX models with large values, which are read where they lie."""

import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_nets import NODE, graph, save, weight  # noqa: E402

from rebasin_hub.infer import find_layout, infer_spec, onnx_source, run_rules  # noqa: E402

MIB = 1 << 20


def test_a_session_reads_large_values_where_they_lie(tmp_path, monkeypatch):
    made = graph(
        [NODE("MatMul", ["x", "a"], ["h"]), NODE("MatMul", ["h", "b"], ["y"])],
        [2, 4],
        [2, 3],
        [weight("a", 4, 100_000), weight("b", 100_000, 3)],
    )
    path = save(tmp_path / "m.onnx", made)
    messages, opened = [], onnx_source.open_session

    def watched(path, model, apart):
        messages.append(model.ByteSize())
        return opened(path, model, apart)

    monkeypatch.setattr(onnx_source, "open_session", watched)
    texts = []
    for limit in (onnx_source.APART, 100 * MIB):
        monkeypatch.setattr(onnx_source, "APART", limit)
        found = onnx_source.from_onnx(path, {}, seed=0, certified=False)
        texts.append(infer_spec(run_rules(found.graph), "net", "net").written.text)
    assert messages[0] < 1000 < 2 * MIB < messages[1]
    assert texts[0] == texts[1]
    certified = onnx_source.from_onnx(path, {}, seed=0)
    assert [g.size for g in find_layout(run_rules(certified.graph)).groups.values()] == [100_000]
