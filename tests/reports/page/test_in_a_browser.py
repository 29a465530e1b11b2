"""A page in headless Chromium without a network: what its script does, and that nobody else's runs."""

import hashlib
import html
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from playwright.sync_api import expect, sync_playwright

from scorescope.reports.cli.all_reports import REPORTS
from scorescope.reports.page import Finding, ReportFigure, ReportTable, ReportWriter, Section, rendering, write_index

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "</script><script>window.harm = 1</script><img src=x onerror='window.harm=1'>\"'`<!--"
LONG = 3000

in_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")


def figure(power=1.0, label="curve"):
    made = Figure(figsize=(3, 2))
    ax = made.subplots()
    ax.plot(np.arange(5.0), np.arange(5.0) ** power, label=label)
    ax.set(xlabel="noise level σ (units of data)", ylabel="norm")
    return made


def wide_table():
    sites = [f"block{k}" for k in range(8)]
    measured = {f"part{k}": np.linspace(0, 1, 8) / 3 for k in range(9)}
    effect = [0.5, -0.25, np.nan, 2.0, np.inf, 1 / 3, -1.0, 0.125]
    ends = {"effect_low": np.subtract(effect, 1.0), "effect_high": np.add(effect, 1.0)}
    verdict = ["steers", "undecided"] * 4
    return pd.DataFrame({"site": sites, **measured, "effect": effect, **ends, "n": [2**60] * 8, "verdict": verdict})


def section():
    frames = {"σ = 2": figure(2), f"σ = {HOSTILE}": figure(3)}
    return Section(
        figures=[
            ReportFigure("norms", figure(), f"It rises. {HOSTILE}", f"How: {HOSTILE}", frames=frames),
            ReportFigure("other", figure(2, HOSTILE), "It bends.", wide=True),
        ],
        tables=[
            ReportTable("wide", wide_table(), f"Rows. {HOSTILE}"),
            ReportTable("hostile", pd.DataFrame({HOSTILE: [HOSTILE, "b"], "D_c": ["D_c", "x"]})),
            ReportTable("long", pd.DataFrame({"place": range(LONG)}), "Many."),
        ],
        text=HOSTILE,
        findings=[Finding(f"It rises by 3 (2 to 4). {HOSTILE}", 3.0, "norms")],
    )


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    out = tmp_path_factory.mktemp("browser")
    outcomes = []
    for name in ("one", "two"):
        with ReportWriter(out / name, name=name, title=f"Report {name}", question=HOSTILE, command="c") as page:
            page.section("first", f"First {HOSTILE}", section)
            page.absent("second", "Second", f"It was not asked for. {HOSTILE}")
            page.section("third", "Third", lambda: Section([ReportFigure("last", figure(), "Last.")]))
        assert page.outcome.status == "complete"
        outcomes.append(page.outcome)
    return write_index(out, outcomes)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def opened(browser, index):
    """A function that opens a page; what it logs, asks of others or lets run makes the last test fail."""
    contexts, troubles = [], []

    def open_page(path="one/index.html", *, width=1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda asked: asked.url.startswith(("file:", "data:")) or troubles.append(asked.url))
        page.goto((index.parent / path).as_uri())
        return page

    yield open_page
    assert not any(page.evaluate("window.harm") for context in contexts for page in context.pages)
    assert not troubles


@pytest.fixture(scope="module")
def page(opened):
    """A page that tests share: each leaves what others look at as it was."""
    return opened(permissions=["clipboard-read", "clipboard-write"])


@in_browser
def test_contents_follow_the_reader_and_lead(page):
    links = page.locator(".contents a")
    assert links.all_inner_texts() == ["Findings", f"First {HOSTILE}", "Second", "Third", "How this was made"]
    links.nth(3).click()
    expect(links.nth(3)).to_have_attribute("aria-current", "true")
    assert page.locator(".contents a[aria-current]").count() == 1
    assert page.locator("#third").is_visible() and page.locator(".contents").bounding_box()["y"] < 60


@in_browser
def test_pages_lead_to_the_index_and_to_each_other(opened, index):
    page = opened()
    page.get_by_role("link", name="Report two").click()
    assert page.url.endswith("two/index.html") and page.locator("h1").inner_text() == "Report two"
    page.get_by_role("link", name="← All reports").click()
    assert page.url == index.as_uri()
    page.get_by_role("link", name="Report one").click()
    assert page.url.endswith("one/index.html")


@in_browser
def test_a_table_is_filtered_sorted_and_its_columns_chosen(opened):
    table = opened("two/index.html").locator("#table-wide")
    rows = table.locator(".tabulator-row")
    heads = table.locator(".tabulator-col:visible .tabulator-col-title").all_inner_texts()
    assert heads[:2] == ["site", "verdict"] and "effect" in heads and "part8" not in heads
    table.get_by_label("Filter verdict").fill("steers")
    table.page.keyboard.press("Enter")
    expect(rows).to_have_count(4)
    table.get_by_label("Filter effect", exact=True).fill("> 0.4")
    table.page.keyboard.press("Enter")
    expect(rows).to_have_count(2)  # 0.5 and inf
    table.get_by_role("button", name="effect", exact=True).press("Enter")
    table.get_by_role("button", name="effect", exact=True).press("Enter")
    assert rows.first.inner_text().startswith("block4")  # inf is the largest
    table.locator("summary").click()
    table.get_by_label("part8", exact=True).check()
    assert "part8" in table.locator(".tabulator-col:visible .tabulator-col-title").all_inner_texts()
    assert rows.count() == 2


@in_browser
def test_whole_values_are_in_reach_and_copied(page):
    table = page.locator("#table-wide")
    row = table.locator(".tabulator-row", has_text="block5")
    assert "0.3333" in row.inner_text() and row.locator(f'[title="{1 / 3}"]').count() == 1
    table.get_by_label("all digits").check()
    assert str(1 / 3) in row.inner_text()
    table.locator("summary").click()
    table.get_by_label("n", exact=True).check()
    assert str(2**60) in row.inner_text()  # a number that JSON readers round
    copied = {}
    for name in ("LaTeX", "Markdown", "pandas"):
        table.get_by_title(f"Copy as {name}").click()
        copied[name] = page.evaluate("navigator.clipboard.readText()")
    assert copied["pandas"] == 'pd.read_parquet("tables/wide.parquet")'
    assert copied["LaTeX"].startswith("\\begin{tabular}") and "effect\\_low" in copied["LaTeX"]
    assert copied["LaTeX"].count("\\\\") == 9 and "\\midrule" in copied["LaTeX"]
    head, rule, *rows = copied["Markdown"].splitlines()
    assert head.startswith("| site | verdict |") and rule.startswith("| --- | --- |") and len(rows) == 8


@in_browser
def test_all_rows_of_a_long_table_are_there(page):
    table = page.locator("#table-long")
    table.get_by_label("Filter place").fill(f"= {LONG - 1}")
    table.page.keyboard.press("Enter")
    expect(table.locator(".tabulator-row")).to_have_text(str(LONG - 1))


@in_browser
def test_a_slider_moves_the_picture_and_a_figure_opens_large(page):
    shown = page.locator("#figure-norms")
    image, slider = shown.locator("img"), shown.locator("input[type=range]")
    first = image.get_attribute("src")
    assert image.get_attribute("alt") == f"It rises. {HOSTILE}" and shown.locator(".spots i").count() == 5
    slider.press("ArrowRight")
    assert image.get_attribute("src") not in (first, "") and shown.locator("output").inner_text() == "σ = 2"
    assert image.get_attribute("alt").endswith("Here: σ = 2.") and slider.get_attribute("aria-valuetext") == "σ = 2"
    assert not shown.locator(".spots i").first.is_visible()  # what they say is of the first picture
    slider.press("ArrowRight")
    assert shown.locator("output").inner_text() == f"σ = {HOSTILE}"
    slider.press("Home")
    assert image.get_attribute("src") == first
    shown.locator(".open").press("Enter")
    assert page.locator("dialog[open] img").get_attribute("src") == first
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


@in_browser
def test_values_stand_under_the_pointer(page):
    spots = page.locator("#figure-other .spots i")
    assert (
        spots.count() == 5
        and spots.nth(2).get_attribute("data-at") == f"{HOSTILE.split(';')[0]}: noise level σ 2, norm 4"
    )
    box, whole = spots.nth(4).bounding_box(), page.locator("#figure-other img").bounding_box()
    assert box["x"] > whole["x"] + 0.9 * whole["width"] and box["y"] < whole["y"] + 0.2 * whole["height"]
    spots.nth(2).hover()
    assert "norm 4" in page.evaluate(
        "getComputedStyle(document.querySelectorAll('#figure-other .spots i')[2], '::after').content"
    )


@in_browser
def test_light_and_dark_and_the_switch_is_remembered(opened, page):
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    dark = opened(color_scheme="dark")
    assert max(map(int, dark.evaluate(background)[4:-1].split(","))) < 60
    assert (
        dark.evaluate("getComputedStyle(document.querySelector('figure img')).backgroundColor") == "rgb(255, 255, 255)"
    )
    dark.get_by_label("Colours").select_option("light")
    assert dark.evaluate(background) == "rgb(255, 255, 255)"
    dark.reload()
    assert dark.evaluate(background) == "rgb(255, 255, 255)"


@in_browser
def test_print_has_all_and_no_controls(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 33, 41)"  # dark ink
    for gone in (".contents", "header", ".tools", ".tabulator", ".slide", ".spots"):
        assert not page.locator(gone).first.is_visible(), gone
    assert page.locator("#made dl").is_visible() and page.locator("#table-wide table").is_visible()
    assert "Not printed: part" in page.locator("#table-wide .printed").inner_text()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen")
    assert not page.locator("#made dl").is_visible()
    assert page.pdf(format="A4").startswith(b"%PDF")


@in_browser
@pytest.mark.parametrize("place", ["one/index.html", "index.html"])
def test_a_narrow_page_does_not_scroll_sideways(opened, place):
    page = opened(place, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if page.locator(".contents").count():
        assert not page.locator(".contents a").first.is_visible()  # folded
        page.locator(".contents summary").press("Enter")
        assert page.locator(".contents a").first.is_visible()


@in_browser
def test_hostile_text_is_text(page):
    for place in (
        "h2",
        ".question",
        "figcaption",
        ".bare p",
        "#findings li",
        "#table-wide .caption",
        "#table-hostile .tabulator",
    ):
        assert HOSTILE in page.locator(place, has_text="window.harm").first.inner_text(), place


@in_browser
def test_without_scripts_figures_and_first_rows_stand(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("#figure-norms img").is_visible() and page.locator("#table-wide tbody tr").count() == 8
    assert page.locator("#table-long caption").inner_text() == f"First 40 of {LONG} rows."
    assert not page.locator("#scheme").is_visible() and page.locator(".contents a").first.is_visible()


def test_a_browser_is_told_to_run_these_scripts_alone(index):
    page = html.unescape((index.parent / "one/index.html").read_text())
    assert "default-src 'none'" in page and page.count("sha256-") == 2 and "unsafe-eval" not in page
    assert "Tabulator v6" in page and "Tabulator v6" not in index.read_text()  # a page without tables does not carry it


def test_the_library_is_the_published_one():
    folder = Path(rendering.__file__).parent / "vendored"
    hashes = {
        "tabulator.min.js": "ffac518cb793c672a2f0522b7fc80bf862234d96bb1e581c8aaf7f48f130eafa",
        "tabulator_simple.min.css": "edef8839235a4b6a8c3dc391ec93f2ce1bc633dd5270a5f990753b6f9183d32b",
    }
    assert {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in hashes} == hashes
    assert "MIT License" in (folder / "LICENSE-tabulator").read_text() and tuple(hashes) == rendering.LIBRARY


def test_data_of_a_table_are_json_without_an_end_of_script(index):
    parts = (index.parent / "one/index.html").read_text().split('<script type="application/json" class="data">')[1:]
    rows = [json.loads(part.split("</script>")[0], parse_constant=pytest.fail)["rows"] for part in parts]
    assert [len(part) for part in rows] == [8, 2, LONG] and rows[1][0][0] == HOSTILE


@in_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", ["guidance", "gaussian", "fid", "directions"])
def test_a_real_page_is_small_whole_and_quiet(browser, tmp_path, name):
    outcome = REPORTS[name](tmp_path / name)
    assert outcome.status == "complete" and outcome.path.stat().st_size < 5e6
    for width in (1200, 390):
        page = browser.new_page(viewport={"width": width, "height": 800})
        troubles = []
        page.on("console", lambda message, to=troubles: to.append(message.text))
        page.on("pageerror", lambda error, to=troubles: to.append(str(error)))
        page.goto(outcome.path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width and not troubles
        assert page.locator(".table.live").count() == page.locator(".table").count() > 0
        assert all(
            alt.endswith(".") for alt in page.locator("figure img").evaluate_all("all => all.map(one => one.alt)")
        )
