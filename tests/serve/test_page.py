"""The page in a real browser against the running service: by keyboard, narrow and wide, light and dark."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from tests.rewriter.artifacts import CIVIL, RUDE
from tests.serve.conftest import Service
from tests.serve.models import LABELS

pytestmark = [pytest.mark.serve, pytest.mark.browser]
SLOW_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, service: Service) -> Iterator[Page]:
    page = browser.new_page()
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
    page.goto(service.url)
    yield page
    page.close()
    assert not faults


def test_without_its_script_nothing_that_was_typed_goes_into_the_address(browser: Browser, service: Service) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(service.url)
        page.get_by_label("Text", exact=True).fill("secret words")
        page.get_by_role("button", name="Check").click(no_wait_after=True)
        page.wait_for_timeout(500)
        assert "secret" not in page.url


def checked(page: Page, text: str) -> None:
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=SLOW_MS)


def test_a_text_is_scored_explained_and_rewritten_by_keyboard_alone(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_label("Text", exact=True)).to_be_focused()
    page.keyboard.type(RUDE)
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=SLOW_MS)
    rows = page.get_by_role("table").get_by_role("rowheader")
    assert sorted(rows.all_inner_texts()) == sorted(LABELS)
    for row in page.locator("#labels tr").all():
        shown = float(row.locator("span").inner_text().removesuffix(" %")) / 100
        bar, filled, mark = (row.locator(part).bounding_box() for part in (".bar", ".bar i", ".bar b"))
        assert bar
        assert filled
        assert mark
        assert filled["width"] / bar["width"] == pytest.approx(shown, abs=0.02)
        threshold = float(row.locator("td").last.inner_text().removesuffix(" %")) / 100
        assert (mark["x"] - bar["x"]) / bar["width"] == pytest.approx(threshold, abs=0.02)
    assert page.locator("#words").inner_text() == RUDE
    assert page.locator("#words mark").count() == len(RUDE.replace(",", " ,").replace("?", " ?").split())
    expect(page.locator("#rewritten")).to_have_text(CIVIL)
    assert "plonker" in page.locator("#difference del").all_inner_texts()[-1]
    facts = page.locator("#facts").inner_text()
    highest = page.get_by_label("Label", exact=True).input_value()
    assert re.search(rf"Score of {highest}\s+\d+\.\d % → \d+\.\d %", facts)
    assert re.search(r"Rewriter’s own score\s+\d+\.\d % → \d+\.\d %", facts)
    assert "removed: plonker" in (page.locator("#difference").text_content() or "")  # what a screen reader says


def test_another_label_is_explained(page: Page) -> None:
    checked(page, RUDE)
    chosen = page.get_by_label("Label", exact=True)
    other = next(label for label in LABELS if label != chosen.input_value())
    chosen.select_option(other)
    expect(page.locator("#legend")).to_contain_text(f"speaks for {other}", timeout=SLOW_MS)


def test_text_is_never_markup(page: Page) -> None:
    text = "<img src=x onerror=document.title='taken'> you & <b>me</b>"
    checked(page, text)
    assert page.locator("#words").inner_text() == text
    assert page.locator("main img, main b:not(.bar b)").count() == 0
    assert page.title() == "Toxicity lab"


def test_what_goes_wrong_is_said(page: Page) -> None:
    page.route("**/v1/classify", lambda route: route.fulfill(status=503, headers={"retry-after": "7"}, body="{}"))
    page.get_by_label("Text", exact=True).fill("hello")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("status")).to_have_text("The service answered 503. Try again in 7 s.")
    expect(page.get_by_role("button", name="Check")).to_be_enabled()


def test_words_that_cannot_be_explained_leave_the_rewrite(page: Page) -> None:
    error = {"error": {"message": "Too many explanations.", "type": "unavailable", "param": None}}
    page.route("**/v1/explain", lambda route: route.fulfill(status=503, body=json.dumps(error)))
    page.get_by_label("Text", exact=True).fill(RUDE)
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("status")).to_contain_text("Words: Too many explanations.", timeout=SLOW_MS)
    expect(page.locator("#rewritten")).to_have_text(CIVIL)
    expect(page.locator("#why")).to_be_hidden()


def test_a_late_answer_to_an_earlier_text_is_dropped(page: Page) -> None:
    """A second text is checked by Ctrl + Enter while the first one's answer is under way."""
    held: list[Route] = []

    def hold(route: Route) -> None:
        if "first" in (route.request.post_data or ""):
            held.append(route)
        else:
            route.continue_()

    page.route("**/v1/classify", hold)
    for text in ("the first one", RUDE):
        page.get_by_label("Text", exact=True).fill(text)
        page.keyboard.press("Control+Enter")
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=SLOW_MS)
    for route in held:
        route.continue_()
    page.wait_for_timeout(1000)
    assert page.locator("#words").inner_text() == RUDE
    expect(page.get_by_role("status")).to_contain_text("Done")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_phone_and_desktop_light_and_dark(page: Page, scheme: str, width: int, tmp_path: Path) -> None:
    """Nothing is wider than the window; text and ground differ by 4.5 to 1 (WCAG AA)."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})
    checked(page, f"{RUDE} {'x' * 200}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for selector in ("body", "#words", "#legend", "button", "#verdict"):
        assert contrast(page, selector) >= 4.5, selector
    page.screenshot(
        path=Path(os.environ.get("DETOX_SCREENSHOTS", tmp_path)) / f"page-{scheme}-{width}.png", full_page=True
    )


def contrast(page: Page, selector: str) -> float:
    """Of the text's colour and the first ground below it that is not transparent (WCAG 2.2, relative luminance)."""
    ink, ground = page.locator(selector).first.evaluate(
        """node => {
          let below = node;
          while (below.parentElement && /, 0\\)$|transparent/.test(getComputedStyle(below).backgroundColor))
            below = below.parentElement;
          return [getComputedStyle(node).color, getComputedStyle(below).backgroundColor];
        }"""
    )
    light, dark = sorted((luminance(ink), luminance(ground)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
