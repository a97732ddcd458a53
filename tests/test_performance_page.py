"""The tables of the page on performance are those that the latest results give."""

import performance_page
import pytest
from performance_page import PAGE, PLACE, TABLES, filled


def test_the_page_says_what_the_results_say():
    page = PAGE.read_text(encoding="utf-8")
    assert filled(page) == page, "run `make bench-table`"


def test_every_table_has_a_place():
    places = [name for _, name, _ in PLACE.findall(PAGE.read_text(encoding="utf-8"))]
    assert sorted(places) == sorted(TABLES)


def test_what_stood_in_a_place_is_replaced(monkeypatch):
    rows = [("", "seconds"), ("one", "1.00"), ("two", "2.00")]
    monkeypatch.setattr(performance_page, "TABLES", {"times": lambda: iter(rows)})
    page = "before\n<!-- table: times -->\nold\n<!-- end -->\nafter\n"
    assert filled(page).splitlines() == [
        "before", "<!-- table: times -->",
        "|  | seconds |", "| --- | ---: |", "| one | 1.00 |", "| two | 2.00 |",
        "<!-- end -->", "after",
    ]  # fmt: skip
    with pytest.raises(KeyError):
        filled(page.replace("times", "other"))


@pytest.mark.parametrize(
    ("value", "text"),
    [(3.18e-6, "3.18 µs"), (0.0631, "63.1 ms"), (2.0, "2.00 s"), (1234.4, "1,234 s")],
)
def test_seconds_have_three_digits(value, text):
    assert performance_page.seconds(value) == text
