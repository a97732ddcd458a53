"""The HTML report: safe as text, and alive in a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import record_examples as examples
from chromium import Browser, Page, find_chromium

from rebasin_hub.errors import OutputError
from rebasin_hub.record import Record
from rebasin_hub.report.html import html_report, save_html


class Parsed(HTMLParser):
    """What a browser takes for tags, and the content of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, str]] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data) -> None:
        if self.cdata_elem:
            self.raw.append((self.tags[-1][1].get("id") or self.cdata_elem, data))
        else:
            self.words += data


def everything() -> Record:
    return examples.barrier_record(planes=examples.plane_record().planes)


def test_the_page_is_written_whole_and_not_over_another(tmp_path) -> None:
    record = everything()
    save_html(record, tmp_path / "r.html")
    assert (tmp_path / "r.html").read_text(encoding="utf-8") == html_report(record)
    with pytest.raises(OutputError, match="exists already"):
        save_html(record, tmp_path / "r.html")


def test_texts_of_others_stay_texts() -> None:
    safe, page = Parsed(html_report(everything())), Parsed(html_report(examples.hostile_record()))
    assert [tag for tag, _ in page.tags if tag in {"script", "img"}] == ["script", "script"]
    names = {name for _, attributes in page.tags for name in attributes}
    assert names <= {name for _, attributes in safe.tags for name in attributes}
    assert page.words.count("<script>alert(1)</script>") > 5
    assert not {"\x1b", "\u2028", "\u202e"} & set(page.words)


@pytest.mark.parametrize("make", [everything, examples.hostile_record, examples.null_record])
def test_the_record_is_in_the_page(make) -> None:
    [text] = [data for name, data in Parsed(html_report(make())).raw if name == "record"]
    assert Record.model_validate_json(text) == make()
    assert not set("<>&\u2028\u2029") & set(text)


def test_the_policy_names_each_script_and_style_and_nothing_else() -> None:
    page = Parsed(html_report(everything()))
    policy = next(a["content"] for _, a in page.tags if "http-equiv" in a)
    assert policy is not None
    digests = {
        base64.b64encode(hashlib.sha256(data.encode()).digest()).decode()
        for name, data in page.raw
        if name in {"script", "style"}
    }
    assert set(re.findall(r"'sha256-([^']+)'", policy)) == digests
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    loading = [a for _, a in page.tags if {"src", "href", "style"} & a.keys()]
    assert loading == []


def test_the_page_says_the_verdict_and_every_barrier_without_scripts() -> None:
    words = " ".join(Parsed(html_report(everything())).words.split())
    assert "Alignment removed 93 % of the loss barrier." in words
    assert words.count("Ensemble of A and B0.06103.6 %") == 2
    assert "naive, as is1.417039.3 %1.3400[1.2328, 1.4472]" in words
    assert "rebasin-hub barrier runs/a.safetensors" in words
    assert examples.digest("A") in words


# ---- In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with Browser(program) as running:
        yield running


@pytest.fixture
def show(browser, tmp_path):
    """Return a function that opens a record's page, and check afterwards that all went well."""
    pages: list[tuple[Page, str]] = []

    def opened(record: Record, **kind) -> Page:
        path = Path(tmp_path / f"{len(pages)}.html")
        path.write_text(html_report(record), encoding="utf-8")
        page = browser.open(path, **kind)
        pages.append((page, path.as_uri()))
        return page

    yield opened
    for page, uri in pages:
        asked = [e["request"]["url"] for e in page.events("Network.requestWillBeSent")]
        assert [url for url in asked if not url.startswith("blob:")] == [uri]
        for kind in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            assert page.events(kind) == []
        page.close()


def paths(page: Page) -> dict[str, str]:
    script = "Object.fromEntries([...document.querySelectorAll('#curves-chart path')]"
    return page.run(script + ".map(p => [p.dataset.curve, p.getAttribute('d')]))")


def points(data: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+?) ([\d.]+)", data)]


def tooltip(page: Page) -> dict[str, str]:
    script = "[...document.querySelectorAll('#tooltip:not([hidden]) tr')].map(r => r.innerText)"
    return dict(row.strip().split("\t")[-2:] for row in page.run(script))


@pytest.mark.browser
def test_curves_are_drawn_where_they_are(show) -> None:
    record = everything()
    page = show(record)
    drawn = {name: points(data) for name, data in paths(page).items()}
    assert set(drawn) == {f"{n}, {t}" for n in ("naive", "aligned") for t in ("as is", "repair")}
    curve = next(c for c in record.curves if c.split == "test")
    found = drawn["naive, as is"]
    assert len(found) == 25
    # Pixels are linear in λ and in the loss.
    (x0, y0), (x1, y1) = found[0], found[12]
    slope = (y1 - y0) / (curve.loss[12] - curve.loss[0])
    for k, (x, y) in enumerate(found):
        assert x == pytest.approx(x0 + (x1 - x0) * k / 12, abs=0.02)
        assert y == pytest.approx(y0 + slope * (curve.loss[k] - curve.loss[0]), abs=0.02)
    mark = page.run(
        "document.querySelector('[data-barrier=\"naive, as is\"] line').getBBox().height"
    )
    assert mark == pytest.approx(-slope * curve.entezari.loss.value, abs=0.05)
    names = page.run("[...document.querySelectorAll('.baselines text')].map(t => t.textContent)")
    assert names == ["B", "A", "ensemble"]


@pytest.mark.browser
def test_hovering_and_keys_show_the_values_of_a_point(show) -> None:
    record = everything()
    page = show(record)
    page.middle("#curves-chart svg")
    box = page.run("document.querySelector('#curves-chart svg').getBoundingClientRect().toJSON()")
    [x, y] = points(paths(page)["naive, repair"])[5]
    page.point(box["x"] + x + 3, box["y"] + y)
    page.settle()
    title = page.run("document.querySelector('#tooltip strong').textContent")
    assert title == f"λ = {record.lambdas[5]:.4f}"
    at = {f"{c.numbering}, {c.treatment}": c.loss[5] for c in record.curves if c.split == "test"}
    told = tooltip(page)
    assert set(told) == {*paths(page), "A", "B", "ensemble"}
    assert {name: f"{at[name]:.4f}" for name in paths(page)}.items() <= told.items()
    assert told["ensemble"] == "0.0610"
    nearest = page.run("document.querySelector('#tooltip .nearest').innerText")
    assert "naive, repair" in nearest
    assert page.run("document.querySelectorAll('#curves-chart circle').length") == 4
    page.point(2, 2)
    page.run("document.querySelector('#curves-chart svg').focus()")
    page.press("ArrowRight")
    page.settle()
    slider = "document.querySelector('#curves-chart svg')"
    assert float(page.run(f"{slider}.getAttribute('aria-valuenow')")) == record.lambdas[13]
    assert "naive, as is" in page.run(f"{slider}.getAttribute('aria-valuetext')")
    page.press("End")
    assert page.run(f"{slider}.getAttribute('aria-valuenow')") == "1"


@pytest.mark.browser
def test_what_is_chosen_is_drawn(show) -> None:
    record = everything()
    page = show(record)
    first = paths(page)
    page.click('input[data-curve="naive, repair"]')
    assert set(paths(page)) == set(first) - {"naive, repair"}
    page.click('input[data-curve="aligned, calibrated"]')
    assert "aligned, calibrated" in paths(page)
    loss = paths(page)["naive, as is"]
    page.click("#curves-log")
    log = points(paths(page)["naive, as is"])
    assert paths(page)["naive, as is"] != loss
    curve = record.curves[0]
    share = (log[0][1] - log[4][1]) / (log[0][1] - log[12][1])
    ratios = [curve.loss[k] / curve.loss[0] for k in (4, 12)]
    assert ratios[1] ** share == pytest.approx(ratios[0], rel=0.01)
    page.click("#curves-log")
    page.click('[name="curves-measure"][value="error"]')
    assert paths(page)["naive, as is"] != loss
    assert "%" in page.run("document.querySelector('#curves-chart .axes').textContent")
    error = paths(page)["naive, as is"]
    page.click('[name="curves-split"][value="train"]')
    assert paths(page)["naive, as is"] != error


@pytest.mark.browser
def test_unknown_values_leave_gaps(show) -> None:
    page = show(examples.null_record())
    data = paths(page)["naive, as is"]
    assert data.count("M") == 2
    assert len(points(data)) == 20
    page.middle("#curves-chart svg")
    page.run("document.querySelector('#curves-chart svg').focus()")
    page.press("Home")
    for _ in range(12):
        page.press("ArrowRight")
    assert tooltip(page)["naive, as is"] == "not finite"


@pytest.mark.browser
def test_a_row_opens_to_every_unit(show) -> None:
    record = everything()
    page = show(record)
    page.click('details[data-match="1"] summary')
    page.settle()
    place = "document.querySelector('details[data-match=\"1\"] .units-chart')"
    line = points(page.run(f"{place}.querySelector('path').getAttribute('d')"))
    assert len(line) == len(record.matches[1].aligned)
    assert [y for _, y in line] == sorted(y for _, y in line)  # downwards: best matched first
    assert 500 < page.run(f"{place}.querySelectorAll('circle').length") <= 1000
    box = page.run(f"{place}.querySelector('svg').getBoundingClientRect().toJSON()")
    page.point(box["x"] + line[0][0], box["y"] + 60)
    best = max(value for value in record.matches[1].aligned if value is not None)
    assert tooltip(page)["aligned"] == f"{best:.4f}"


@pytest.mark.browser
def test_a_plane_is_painted_and_tells_its_values(show) -> None:
    record = examples.plane_record()
    page = show(record)
    assert page.run("document.querySelectorAll('.plane canvas').length") == 2
    colours = page.run(
        "(() => { const c = document.querySelector('.plane canvas');"
        "const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return [...new Set(new Uint32Array(d.buffer))].length })()"
    )
    assert 8 <= colours <= 13
    letters = "[...document.querySelector('.plane svg').querySelectorAll('text')]"
    assert page.run(f"{letters}.map(t => t.textContent)") == ["A", "B", "C"]
    page.point(*page.middle(".plane svg"))
    page.settle()
    assert tooltip(page)["loss"] == f"{record.planes[0].loss[12][12]:.4f}"
    page.run("document.querySelector('.plane svg').focus()")
    page.press("ArrowUp")
    assert tooltip(page)["loss"] == f"{record.planes[0].loss[13][12]:.4f}"


CONTRAST = """
(() => {
  const light = (text) => {
    const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map(Number).map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour)) return colour;
    }
  };
  const bad = [];
  for (const e of document.querySelectorAll('body *')) {
    if (e.closest('.plane, script, noscript') || !e.checkVisibility()) continue;
    if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(e instanceof SVGElement ? style.fill : style.color), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push([e.tagName, e.className.baseVal ?? e.className, ratio]);
  }
  return bad;
})()
"""


@pytest.mark.browser
def test_dark_and_light_are_readable(show) -> None:
    grounds = []
    for dark in (False, True):
        page = show(everything(), dark=dark)
        assert page.run(CONTRAST) == []
        grounds.append(page.run("getComputedStyle(document.body).backgroundColor"))
    assert grounds[0] != grounds[1]


@pytest.mark.browser
@pytest.mark.parametrize(
    "make", [everything, examples.hostile_record, examples.large_record, examples.null_record]
)
def test_the_page_fits_a_phone(make, show) -> None:
    page = show(make(), width=360, height=700)
    page.run("document.querySelector('details').open = true")
    page.settle()
    assert page.run("document.documentElement.scrollWidth") <= 360
    assert page.run("innerWidth") == 360
    assert page.run("document.querySelector('#curves-chart svg').clientWidth") <= 360


@pytest.mark.browser
def test_others_texts_run_nothing(show) -> None:
    page = show(examples.hostile_record())
    assert page.events("Page.javascriptDialogOpening") == []
    assert page.run("document.querySelectorAll('img').length") == 0
    assert page.run("document.querySelector('#verdict').textContent").startswith("</script>")


@pytest.mark.browser
def test_the_record_can_be_taken_out(show) -> None:
    record = everything()
    page = show(record)
    page.run(
        "URL.createObjectURL = (old => blob => (window.taken = blob, old.call(URL, blob)))"
        "(URL.createObjectURL)"
    )
    page.click("#download")
    assert Record.model_validate_json(page.run("taken.text()")) == record


@pytest.mark.browser
def test_without_scripts_verdict_tables_and_matches_are_there(show) -> None:
    page = show(everything(), scripts=False)
    assert page.run("document.querySelectorAll('svg path').length") == 0
    assert "93 % of the loss barrier" in page.run("document.querySelector('#verdict').innerText")
    assert "1.4170" in page.run("document.querySelector('#barriers').innerText")
    assert "drawn by a script" in page.run("document.querySelector('#curves').innerText")
    assert page.run("document.querySelectorAll('#matches rect').length") == 6
    hidden = "[...document.querySelectorAll('button')].filter(b => b.checkVisibility()).length"
    assert page.run(hidden) == 0
