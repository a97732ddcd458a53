"""Names with numbers are folded into templates, of which each name fits one."""

from hypothesis import example, given
from hypothesis import strategies as st

from rebasin_hub.bind import bind
from rebasin_hub.infer import Graph, Node, Stored, find_layout, run_rules
from rebasin_hub.infer.fold import fold
from rebasin_hub.infer.text import write_spec
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import TensorInfo

HIDDEN = 8


def heads(widths):
    """Return what is found of one hidden layer, read by matrices of these names and widths."""
    shapes = {"x": (2, 6), "in": (6, HIDDEN), "h": (2, HIDDEN)}
    stored = {"in": Stored((6, HIDDEN), "in")}
    nodes = [Node("aten.mm", "first", ("x", "in"), ("h",))]
    for name, width in widths.items():
        shapes |= {name: (HIDDEN, width), f"y.{name}": (2, width)}
        stored[name] = Stored((HIDDEN, width), name)
        nodes.append(Node("aten.mm", f"of {name}", ("h", name), (f"y.{name}",)))
    outputs = tuple(f"y.{name}" for name in widths)
    return find_layout(run_rules(Graph(tuple(nodes), shapes, stored, {}, ("x",), outputs)))


def lines(*names):
    """Return the lines for matrices that are alike."""
    return [line.name for line in fold(heads(dict.fromkeys(names, 3))).lines[1:]]


def test_two_templates_that_one_name_fits_do_not_both_stay():
    """`head.5.0` fits `head.{head}.0`, and `head.5.{n}` says no less about it."""
    several = [f"head.5.{n}" for n in range(3)]
    alone = [f"head.{n}.0" for n in range(5)]
    assert lines(*several) == ["head.5.{n}"]
    assert lines(*alone, *several) == ["head.{head}.0", *several]


def test_templates_that_no_name_fits_alike_both_stay():
    names = [*(f"head.{n}.0" for n in range(5)), *(f"head.5.{n}.w" for n in range(3))]
    assert lines(*names) == ["head.{head}.0", "head.5.{n}.w"]
    names = [*(f"head.{n}.0.w" for n in range(5)), *(f"tail.5.{n}.w" for n in range(3))]
    assert lines(*names) == ["head.{head}.0.w", "tail.5.{n}.w"]


part = st.sampled_from(["0", "1", "2", "5", "a", "b"])
name = st.lists(part, min_size=1, max_size=4).map(lambda parts: ".".join(["w", *parts]))


@given(st.dictionaries(name, st.integers(2, 3), min_size=1, max_size=12))
@example(dict.fromkeys(["w.0.0", "w.1.0", "w.2.0", "w.5.0", "w.5.1", "w.5.2"], 3))
def test_what_is_written_fits_the_names_that_it_was_folded_from(widths):
    layout = heads(widths)
    spec = parse_spec(write_spec(layout, fold(layout), "net", "net").text)
    header = {n: TensorInfo("F32", stored.shape) for n, stored in layout.flow.graph.stored.items()}
    binding = bind(spec, header)
    sizes = [factor.size for factor in binding.group.factors.values()]
    assert sizes == [group.size for group in layout.groups.values()] == [HIDDEN]
