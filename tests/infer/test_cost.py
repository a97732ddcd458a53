"""The work of inference grows with the number of operators, and with nothing else."""

from rebasin_hub.infer import Graph, Node, Stored, find_layout, run_rules
from rebasin_hub.infer.fold import fold


def chain(layers):
    """A residual stream that every layer reads from and adds to."""
    shapes, stored, nodes = {"x": (2, 6), "in": (6, 8), "h0": (2, 8)}, {}, []
    stored["in"] = Stored((6, 8), "in")
    nodes.append(Node("aten.mm", "first", ("x", "in"), ("h0",)))
    for n in range(layers):
        up, down = f"l.{n}.up", f"l.{n}.down"
        stored[up], stored[down] = Stored((8, 9), up), Stored((9, 8), down)
        names = [f"a{n}", f"b{n}", f"c{n}", f"h{n + 1}"]
        shapes |= {up: (8, 9), down: (9, 8)}
        shapes |= dict(zip(names, [(2, 9), (2, 9), (2, 8), (2, 8)], strict=True))
        nodes += [
            Node("aten.mm", f"up{n}", (f"h{n}", up), (names[0],)),
            Node("aten.relu", f"relu{n}", (names[0],), (names[1],), pointwise=True),
            Node("aten.mm", f"down{n}", (names[1], down), (names[2],)),
            Node("aten.add", f"add{n}", (f"h{n}", names[2]), (names[3],), pointwise=True),
        ]
    shapes |= {"out": (8, 3), "y": (2, 3)}
    stored["out"] = Stored((8, 3), "out")
    nodes.append(Node("aten.mm", "last", (f"h{layers}", "out"), ("y",)))
    return Graph(tuple(nodes), shapes, stored, {}, ("x",), ("y",))


def test_atoms_grow_with_the_operators():
    counts = [len(run_rules(chain(n)).labels.sizes) for n in (50, 100, 200)]
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])


def test_a_hundred_layers_take_a_few_lines():
    layout = find_layout(run_rules(chain(100)))
    folded = fold(layout)
    assert sorted(g.size for g in layout.groups.values()) == [8] + [9] * 100
    assert [line.name for line in folded.lines] == ["in", "l.{l}.up", "l.{l}.down", "out"]
    assert sorted(folded.indices.values()) == [(), ("l",)]
