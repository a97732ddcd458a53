"""What the comparison of methods and of narrow residual networks says of given figures."""

from rebasin_hub.experiments.batchnorm import BATCHNORM
from rebasin_hub.experiments.methods import METHODS_COMPARED, OWN
from rebasin_hub.experiments.summary import summarize


def row(method, barrier, identity, end, *, larger, budget=OWN):
    return {
        "width": 4,
        "budget": budget,
        "method": method,
        "aligned": barrier,
        "goal_identity": identity,
        "goal_end": end,
        "larger_is_better": larger,
    }


def test_a_method_below_the_identity_by_its_own_measure_is_named():
    rows = [
        row("identity", 2.0, 1.0, 1.0, larger=True),
        row("weight", 0.5, 1.0, 3.0, larger=True),
        row("anneal", 0.25, 2.0, 2.5, larger=False),
        row("random", 1.9, 1.0, 0.5, larger=True),
        row("weight", 0.125, 1.0, 3.0, larger=True, budget="10 s"),
    ]
    said = METHODS_COMPARED.findings(rows, summarize(rows, METHODS_COMPARED.columns))
    assert "a mean barrier of 2.000, and `weight` leaves 0.500" in said[0]
    assert said[0].endswith("With its own time `anneal` leaves the least, 0.250.")
    assert said[1] == "With 10 s for each `weight` leaves the least, 0.125."
    assert said[2] == "Of 5 runs 1 ended worse than the identity by their own measure (anneal)."


def test_what_is_missing_to_the_published_is_said():
    rows = [
        {
            "width": 1,
            "method": method,
            "ends": 0.9,
            "aligned": 0.1,
            "aligned_repair": repaired,
            "naive_repair": 0.2,
            "published": 0.676,
        }
        for method, repaired in (("weight", 0.5), ("blend", 0.65))
    ]
    (said,) = BATCHNORM.findings(rows, summarize(rows, BATCHNORM.columns))
    assert "that of `blend`, 65.0 %; weight matching gives 50.0 %" in said
    assert said.endswith("67.6 %, from which this is -2.6 points.")
    for one in rows:
        one["published"] = None
    (said,) = BATCHNORM.findings(rows, summarize(rows, BATCHNORM.columns))
    assert "Published" not in said
