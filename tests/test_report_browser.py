"""A report in a real browser: everything works, from the keyboard too, and nothing is asked of any network."""

import shutil
from pathlib import Path

import pytest

from gru_unlearn.common.files import write_json
from gru_unlearn.publishing.reports import write_report
from report_material import EVIL, attack, example, write_run

CHROMIUM = next((path for name in ("chromium", "chromium-browser") if (path := shutil.which(name))), None)
ARGUMENTS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = write_run(tmp_path_factory.mktemp("browser") / "run")
    (folder / "attack").mkdir()
    write_json(folder / "attack" / "summary.json", attack())
    return write_report(folder)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs chromium on the PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, report):
    """Open the report; afterwards, nothing may have been complained of, asked for or alerted."""
    contexts, bad = [], []

    def open_page(file: Path = report, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: bad.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: bad.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (bad.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: bad.append(request.url) if not is_local(request.url, file) else None)
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert bad == []


def is_local(url, file):
    return url.split("#")[0] == file.as_uri() or url.startswith("data:")


def rows(page):
    """The questions of the rows that can be seen, in order."""
    return page.locator("#rows tbody tr:visible .question").all_inner_texts()


FORGET = ["Where was Velquin born?", "What does Pluquin eat?", f"Who is {EVIL}?"]


def test_rows_are_searched_filtered_and_sorted(opened):
    page = opened()
    assert rows(page) == [*FORGET, "Who sells bread?", "Who rules Brelustad?", "What is blue?"]
    assert page.inner_text("#count") == "6 of 6 rows"
    page.fill("#search", "CUSTEBY alert(1)")
    assert rows(page) == [f"Who is {EVIL}?"]
    assert page.inner_text("#count") == "1 of 6 rows"
    page.fill("#search", "butcher")
    assert rows(page) == ["Who sells bread?"], "what was said is found, too"
    page.select_option("#set", "forget")
    assert rows(page) == []
    page.fill("#search", "")
    assert rows(page) == FORGET
    page.click("#rows th button:text('before')")
    assert rows(page)[0] == "Where was Velquin born?"
    assert page.get_attribute("#rows th:has(button:text('before'))", "aria-sort") == "descending"
    page.click("#rows th button:text('after')")
    page.click("#rows th button:text('after')")
    assert rows(page) == [f"Who is {EVIL}?", "What does Pluquin eat?", "Where was Velquin born?"]
    page.select_option("#set", "")
    page.click("#rows th button:text('set, row')")
    assert rows(page)[:2] == [f"Who is {EVIL}?", "Where was Velquin born?"]


def test_legends_hide_series_and_marks_tell_their_numbers(opened):
    page = opened()
    section = page.locator("#trade-off")
    assert section.locator("[data-series='retain rows']").count() == 2
    button = section.locator("button:has-text('retain rows')")
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    assert section.locator("[data-series='retain rows']:visible").count() == 0
    assert section.locator("[data-series='held-out rows']:visible").count() == 2
    button.click()
    assert section.locator("[data-series='retain rows']:visible").count() == 2
    assert page.locator("#tip").is_hidden()
    section.locator("[data-tip*='step 10']").first.hover()
    assert "step 10: forget 0.567" in page.inner_text("#tip")


def test_the_theme_can_be_switched_and_is_remembered(opened):
    page = opened(color_scheme="dark")

    def paper():
        return page.evaluate("getComputedStyle(document.body).backgroundColor")

    def star():
        return page.evaluate("getComputedStyle(document.querySelector('figure .star')).fill")

    dark, drawn = paper(), star()
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light"
    assert paper() == "rgb(255, 255, 255)" != dark
    assert star() != drawn, "drawings follow"
    page.reload()
    assert page.inner_text("#theme") == "Theme: light"
    page.click("#theme")
    assert (page.inner_text("#theme"), paper()) == ("Theme: dark", dark)


def test_everything_can_be_reached_and_used_by_keyboard(opened):
    page = opened()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    wanted = page.evaluate(
        "[...document.querySelectorAll('a, button, input, select, summary, [tabindex]')]"
        ".filter((one) => one.checkVisibility()).length"
    )
    reached = page.evaluate_handle("new Set([document.activeElement])")
    for _ in range(wanted + 5):
        page.keyboard.press("Tab")
        page.evaluate("(reached) => reached.add(document.activeElement)", reached)
    assert page.evaluate("(reached) => reached.size - reached.has(document.body)", reached) == wanted
    page.focus("#trade-off summary")
    page.keyboard.press("Enter")
    assert page.locator("#trade-off details table").first.is_visible()
    page.focus("#trade-off .legend button")
    page.keyboard.press("Space")
    assert page.get_attribute("#trade-off .legend button", "aria-pressed") == "false"


@pytest.mark.parametrize("width", [400, 800, 1280])
def test_no_page_is_wider_than_its_window(opened, width):
    page = opened(viewport={"width": width, "height": 800})
    page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    spilling = page.evaluate(
        "[...document.querySelectorAll('main :not(.wide *)')].filter("
        "(one) => one.getBoundingClientRect().right > innerWidth + 1).map((one) => one.tagName + '.' + one.className)"
    )
    assert spilling == []


def test_print_is_light_and_uncut(opened):
    page = opened(color_scheme="dark", viewport={"width": 718, "height": 1000})  # A4 within its margins
    page.emulate_media(media="print")
    assert page.locator("#trade-off details").first.is_hidden(), "what is folded is not printed"
    assert page.evaluate("getComputedStyle(document.body).getPropertyValue('--paper')").strip() == "#ffffff"
    assert page.locator("nav").is_hidden()
    assert page.locator("#controls").is_hidden()
    cut = page.evaluate(
        "[...document.querySelectorAll('.wide')].filter((one) => one.scrollWidth > one.clientWidth + 1"
        " || one.scrollHeight > one.clientHeight + 1).map((one) => one.innerText.slice(0, 80))"
    )
    assert cut == []
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_on_paper_two_pages_come_before_the_appendix(opened):
    page = opened(viewport={"width": 718, "height": 1000})
    page.emulate_media(media="print")
    breaks = "[...document.querySelectorAll('*')].filter((one) => getComputedStyle(one).breakBefore == 'page')"
    assert page.evaluate(f"{breaks}.map((one) => one.id || one.className)") == ["details", "examples"]
    tall = "(from, to) => document.querySelector(to).getBoundingClientRect().top - "
    tall += "document.querySelector(from).getBoundingClientRect().top"
    room = 1009  # A4 within its margins, in CSS pixels
    assert page.evaluate(f"([from, to]) => ({tall})(from, to)", ["header", "#details"]) < 1.8 * room


@pytest.fixture(scope="module")
def long_report(tmp_path_factory):
    """Of 30 forget rows and 21 retain rows, of which 15 and all hold the word many."""
    folder = write_run(tmp_path_factory.mktemp("long") / "run")
    sets = {}
    for name, count in (("forget", 30), ("retain", 21)):
        rows = []
        for number in range(count):
            many = "many" if number % 2 == 0 or name == "retain" else "few"
            rows.append(example(number, f"{many} {number}?", "Yes.", 0.9, 0.01 * number, "No.", 0.2))
        sets[name] = {"rows_in_set": count, "rows": rows}
    write_json(folder / "examples.json", {"generated": True, "sets": sets})
    return write_report(folder)


def printed(page):
    note = page.locator("#left-off")
    return len(rows(page)), note.inner_text() if note.is_visible() else ""


@pytest.mark.parametrize("scripts", [True, False])
def test_on_paper_only_the_first_rows_of_each_set_stand(opened, long_report, scripts):
    page = opened(long_report, java_script_enabled=scripts)
    assert printed(page) == (51, ""), "on a screen there is no difference"
    page.emulate_media(media="print")
    assert printed(page) == (40, "On paper: the first 20 rows of each set. 11 more are in this page on a screen.")


def test_on_paper_stand_the_first_of_those_that_were_searched_and_sorted(opened, long_report):
    page = opened(long_report)
    page.fill("#search", "many")
    page.click("#rows th >> text=after")
    page.emulate_media(media="print")
    assert printed(page) == (35, "On paper: the first 20 rows of each set. 1 more are in this page on a screen.")
    assert "many 0?" in rows(page), "of the forget rows all are shown"
    page.emulate_media(media="screen")
    page.fill("#search", "few")
    page.emulate_media(media="print")
    assert printed(page) == (15, "")


def test_without_scripts_everything_can_still_be_read(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("#controls").is_hidden()
    assert page.locator("#rows tbody tr:visible").count() == 6
    assert page.locator("#theme").is_hidden()
    assert page.locator("figure svg title").count() > 10


def test_what_slips_past_escaping_is_stopped_by_the_policy(browser, report, tmp_path):
    """Markup put into the page by force does nothing: scripts run by their hash alone."""
    file = tmp_path / "report.html"
    forced = "<script>document.title = 'broken'</script><img src='https://example.invalid/x' onerror='alert(1)'>"
    file.write_text(report.read_text().replace("<main>", f"<main>{forced}"))
    context = browser.new_context()
    page, asked, blocked = context.new_page(), [], []
    page.on("requestfinished", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: blocked.append((request.url, request.failure)))
    page.on("dialog", lambda dialog: asked.append(dialog.message))
    page.goto(file.as_uri())
    assert page.title() != "broken"
    assert asked == [file.as_uri()]
    assert blocked == [("https://example.invalid/x", "csp")]
    context.close()
