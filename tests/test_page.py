"""The page in a real browser (headless Chromium), before a real service that serves a real run."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import polars as pl
import pytest

from planted import QUICK_SETTINGS, small_world
from undersong.catalogue import tables

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="playwright is missing: pip install 'undersong[dev]'"
)
expect = sync_api.expect
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: the page is not tested (apt-get install chromium)"
)

MARKUP = "<img src=x onerror=\"document.title='broken'\">"
ARABIC = "فيروز (1935)"
PAGE = Path(__file__).parent.parent / "src" / "undersong" / "web"
RANKED = Path(__file__).parent / "fixtures" / "ranked-1"
COUNTING = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def undersong(*words):
    subprocess.run([sys.executable, "-m", "undersong", *map(str, words)], check=True, timeout=120)


def heard(folder):
    """A small world with awkward names, decades, and two tracks that can be played."""
    world = small_world()
    names = world.artists["name"].to_list()
    names[0], names[5] = MARKUP, ARABIC
    (folder / "audio").mkdir(parents=True)
    for name in ("one.wav", "two.wav"):
        with wave.open(str(folder / "audio" / name), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.zeros(4000, dtype="<i2").tobytes())
    paths = ["one.wav", *[None] * (len(world.tracks) - 2), "two.wav"]
    return replace(
        world,
        artists=world.artists.with_columns(pl.Series("name", names)),
        tracks=world.tracks.with_columns(pl.Series("path", paths, dtype=pl.String)),
        audio_root=folder / "audio",
    )


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    tables.write_catalogue(heard(folder), folder / "catalogue")
    (folder / "quick.toml").write_text(QUICK_SETTINGS)
    undersong("train", folder / "catalogue", folder / "run", "--settings", folder / "quick.toml")
    undersong("evaluate", folder / "run")
    undersong("publish", folder / "run", folder / "shelf")
    return folder


def start(folders, *options):
    process = subprocess.Popen(
        [sys.executable, "-m", "undersong", "serve", folders / "shelf", "--port", "0", "--quiet"]
        + list(map(str, options)),
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    line = process.stdout.readline()
    return process, re.search(r"http://[\d.]+:\d+", line)[0]


def stop(process):
    process.terminate()
    process.wait(timeout=30)
    process.stdout.close()


@pytest.fixture(scope="module")
def service(folders):
    process, address = start(folders, "--media", folders / "catalogue")
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
    stop(process)


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A service whose answers are in a learned order; a run of a format that must stay readable."""
    folder = tmp_path_factory.mktemp("learned")
    shutil.copytree(RANKED, folder / "shelf")
    process, address = start(folder)
    with httpx.Client(base_url=address, timeout=30) as client:
        yield client
    stop(process)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--enable-unsafe-swiftshader"]
        )
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, service):
    """A function that opens an address; afterwards nothing may have broken the content policy."""
    contexts = []

    def open_page(query="", *, base=None, script="", **options):
        wide = {"width": 1180, "height": 760}
        context = browser.new_context(
            **{"viewport": wide, "reduced_motion": "reduce"} | options,
            base_url=base or str(service.base_url),
        )
        contexts.append(context)
        context.set_default_timeout(15_000)
        context.add_init_script(COUNTING + script)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda fault: page.faults.append(str(fault)))
        page.goto(f"/{query}")
        return page

    yield open_page
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("window.violations") == []
            assert page.faults == []
        context.close()


def ask(service, path, **wishes):
    reply = service.get(f"/api/{path}", params=wishes)
    assert reply.status_code == 200, reply.text
    return reply.json()


def similar(service, item="a02", **wishes):
    return ask(service, f"items/artist/{item}/similar", **{"k": 20} | wishes)["answers"]


def query(page):
    return {key: value[0] for key, value in parse_qs(urlsplit(page.url).query).items()}


def listed(page):
    """Names of the answers, once they are those of the address."""
    expect(page.locator("#card:not([aria-busy]) .answers > li").first).to_be_visible()
    return page.locator(".answers .what > a").all_inner_texts()


def names(answers):
    return [x["item"]["name"] for x in answers]


def lens(page):
    page.wait_for_selector("#points[data-lens]")
    return [float(x) for x in page.get_attribute("#points", "data-lens").split()]


def pixel(page, service, item):
    """Where an item of the map stands on the screen."""
    found = ask(service, "map", kind="artist")
    at = found["ids"].index(item)
    scale, left, top = lens(page)
    return left + scale * found["x"][at], top - scale * found["y"][at]


def test_the_first_screen_is_a_search_over_the_map(visit, service):
    page = visit()
    expect(page.get_by_role("combobox", name="Name")).to_be_visible()
    expect(page.locator("#points")).to_have_attribute("aria-label", "Map of 84 artists")
    tail = sum(ask(service, "map", kind="artist")["long_tail"])
    expect(page.locator("#counts")).to_contain_text(f"{tail} of them are long tail")
    expect(page.locator("#card")).to_be_hidden()


def test_one_types_at_once_and_comes_back_to_the_search_by_a_key(visit):
    page = visit()
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("artist 1")
    page.get_by_role("option").first.click()
    listed(page)
    expect(page.locator("#card-name")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_role("combobox")).to_be_focused()
    page.keyboard.type("b/c")
    expect(page.get_by_role("combobox")).to_have_value("b/c")
    page.get_by_role("link", name="Close").click()
    expect(page.get_by_role("combobox")).to_be_focused()


def test_a_card_or_a_finger_finds_the_search_without_focus(visit):
    card = visit("?artist=a02")
    listed(card)
    expect(card.get_by_role("combobox")).not_to_be_focused()
    phone = visit(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    lens(phone)
    expect(phone.get_by_role("combobox")).not_to_be_focused()


def test_names_are_suggested_and_chosen_with_the_keyboard(visit, service):
    page = visit()
    box = page.get_by_role("combobox")
    box.fill("artist 1")
    options = page.get_by_role("option")
    expect(options.first).to_be_visible()
    said = ask(service, "search", q="artist 1", kind="artist", limit=8)["items"]
    assert options.locator("bdi").all_inner_texts() == [x["name"] for x in said]
    expect(page.get_by_role("status")).to_contain_text("8 suggestions")
    box.press("Escape")
    expect(box).to_have_attribute("aria-expanded", "false")
    box.press("ArrowDown")
    box.press("ArrowDown")
    expect(box).to_have_attribute("aria-activedescendant", "suggestion-1")
    expect(options.nth(1)).to_have_attribute("aria-selected", "true")
    box.press("Enter")
    expect(page.locator("#card-name")).to_have_text(said[1]["name"])
    assert query(page)["artist"] == said[1]["id"]
    expect(page).to_have_title(f"{said[1]['name']} – undersong")
    expect(page.locator("#card-name")).to_be_focused()


def test_tracks_are_searched_for_when_asked(visit):
    page = visit()
    page.get_by_text("tracks", exact=True).click()
    page.get_by_role("combobox").fill("song a03")
    page.get_by_role("option").first.click()
    expect(page.locator("#card-name")).to_contain_text("Song a03")
    assert query(page)["track"].startswith("a03-")
    page.get_by_role("link", name="its artist").click()
    expect(page.locator("#card-name")).to_have_text("Artist 03")


def test_a_name_that_nobody_has_is_answered_in_a_sentence(visit):
    page = visit()
    page.get_by_role("combobox").fill("qqqqxxxx")
    expect(page.locator("#search-note")).to_have_text(
        "Nothing here is called “qqqqxxxx”, or nearly so."
    )


def test_a_card_lists_what_the_service_answers_and_marks_the_long_tail(visit, service):
    page = visit("?artist=a02")
    said = similar(service)
    assert listed(page) == names(said)
    marked = page.locator(".answers > li.is-tail .what > a").all_inner_texts()
    assert marked == [x["item"]["name"] for x in said if x["item"]["long_tail"]]
    assert 0 < len(marked) < len(said)
    tail = page.locator(".answers .tail").first.evaluate("e => getComputedStyle(e).color")
    assert tail == "rgb(194, 65, 12)"


def test_a_card_says_how_well_known_an_item_is_among_its_like(visit, service, folders):
    fame = dict(
        tables.read_catalogue(folders / "catalogue").artists.select("id", "fame").iter_rows()
    )
    known = sorted(x for x in fame.values() if x is not None)
    best, least = (next(x for x in fame if fame[x] == known[at]) for at in (-1, 0))
    for artist, said in ((best, "better"), (least, "less")):
        page = visit(f"?artist={artist}")
        among = service.get(f"/api/items/artist/{artist}").json()["item"]["percentile"]
        about = round(100 * (among if said == "better" else 1 - among))
        expect(page.locator("#card .known")).to_have_text(
            re.compile(f"; {said} known than about {about} of 100 artists[.]$")
        )
    nobody = visit("?artist=a84")
    expect(nobody.locator("#card .known")).to_have_text("Nobody has linked it yet.")


def test_answers_lead_on_and_back_leads_back(visit, service):
    page = visit("?artist=a02")
    first = listed(page)
    page.locator(".answers .what > a").nth(2).click()
    expect(page.locator("#card-name")).to_have_text(first[2])
    page.go_back()
    expect(page.locator("#card-name")).to_have_text("Artist 02")
    assert listed(page) == first
    page.go_forward()
    expect(page.locator("#card-name")).to_have_text(first[2])
    page.reload()
    expect(page.locator("#card-name")).to_have_text(first[2])
    page.get_by_role("link", name="Close").click()
    expect(page.locator("#card")).to_be_hidden()
    assert "artist" not in query(page)


def test_more_answers_have_their_own_address(visit, service):
    page = visit("?artist=a02")
    page.get_by_role("link", name="More", exact=True).click()
    expect(page.locator(".answers > li")).to_have_count(40)
    assert query(page)["k"] == "40"


def test_reasons_are_bars_that_add_up_and_sentences(visit, service):
    said = similar(service, reasons=True)[1]
    page = visit("?artist=a02")
    page.get_by_role("button", name=f"Why {said['item']['name']}?").click()
    why = page.locator(".reasons")
    shown = [float(x.replace("−", "-")) for x in why.locator(".number").all_inner_texts()]
    assert sum(shown[:-1]) == pytest.approx(shown[-1], abs=0.0006 * len(shown))
    assert shown[-1] == pytest.approx(said["reasons"]["score"], abs=0.0006)
    bars = why.locator(".bar span").evaluate_all(
        "all => all.map(e => [parseFloat(e.style.left), parseFloat(e.style.width)])"
    )
    assert len(bars) == len(said["reasons"]["contributions"]) + 2
    reached = {round(bars[-2][0], 3), round(sum(bars[-2]), 3)}
    assert round(sum(bars[-1]), 3) in reached
    assert why.locator("li").all_inner_texts() == said["reasons"]["sentences"]
    assert query(page)["why"] == said["item"]["id"]
    page.reload()
    expect(page.locator(".reasons")).to_be_visible()


def test_filters_are_part_of_the_address_and_can_be_cleared(visit, service):
    page = visit("?artist=a02")
    page.get_by_text("Filters").click()
    with page.expect_response("**/similar?**genre=g3**"):
        page.get_by_label("Genre").select_option("g3")
    expect(page.locator("summary")).to_have_text("Filters (1)")
    assert listed(page) == names(similar(service, genre="g3"))
    assert query(page)["genre"] == "g3"
    page.get_by_role("button", name="Clear all wishes").click()
    expect(page.locator("summary")).to_have_text("Filters")
    assert "genre" not in query(page)


def test_wishes_that_nobody_fulfils_are_answered_with_a_way_out(visit, service):
    page = visit("?artist=a02&genre=g3&from=1990")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#card-name")).to_have_text("Artist 02")
    page.get_by_role("alert").get_by_role("button", name="Clear all wishes").click()
    assert listed(page) == names(similar(service))


def test_digging_deeper_asks_for_the_less_known(visit, service):
    page = visit("?artist=a02")
    listed(page)
    slider = page.get_by_role("slider", name="Dig deeper")
    for _ in range(3):
        with page.expect_response("**/similar?**"):
            slider.press("ArrowRight")
        slider = page.get_by_role("slider", name="Dig deeper")
    expect(slider).to_have_attribute("aria-valuetext", "85 % least known")
    assert query(page)["dig"] == "0.15"
    assert listed(page) == names(similar(service, max_popularity=0.85))


def test_a_dial_that_this_run_lacks_is_not_drawn_and_said_to_be_lacking(visit):
    page = visit("?artist=a02&tail=0.5")
    expect(page.get_by_role("alert")).to_contain_text("dial")
    expect(page.get_by_role("slider")).to_have_count(1)
    page.get_by_text("Filters").click()
    expect(page.get_by_role("checkbox")).to_have_count(0)


def test_the_long_tail_slider_goes_from_lists_by_fair_to_nobody_linked(visit, learned):
    page = visit("?artist=a02", base=str(learned.base_url))
    listed(page)
    slider = page.get_by_role("slider", name="Long tail")
    expect(slider).to_have_attribute("aria-valuetext", "fair")
    expect(slider).to_have_accessible_description(re.compile("nobody is pushed up or down", re.I))
    for key, value, words in (
        ("Home", -1, "100 % as lists do"),
        ("ArrowRight", -0.95, "95 % as lists do"),
        ("End", 1, "links 100 % forgotten"),
    ):
        with page.expect_response("**/similar?**"):
            slider.press(key)
        slider = page.get_by_role("slider", name="Long tail")
        expect(slider).to_have_attribute("aria-valuetext", words)
        assert float(query(page)["tail"]) == value
        assert listed(page) == names(similar(learned, long_tail=value))
    assert listed(page) != names(similar(learned))


def test_only_what_nobody_has_linked_is_a_filter(visit, learned):
    page = visit("?artist=a02", base=str(learned.base_url))
    page.get_by_text("Filters").press("Enter")
    box = page.get_by_role("checkbox", name="Only what nobody has linked")
    box.focus()
    with page.expect_response("**/similar?**only_unlinked=true**"):
        page.keyboard.press("Space")
    expect(page.locator("summary")).to_have_text("Filters (1)")
    answers = similar(learned, only_unlinked=True)
    assert listed(page) == names(answers)
    assert answers
    assert all(x["item"]["long_tail"] for x in answers)
    assert not all(x["item"]["long_tail"] for x in similar(learned))
    page.get_by_role("button", name="Clear all wishes").click()
    expect(page.locator("summary")).to_have_text("Filters")
    assert "unlinked" not in query(page)


def test_an_unknown_id_is_answered_with_those_like_it(visit):
    page = visit("?artist=Artist%2003x")
    expect(page.get_by_role("alert")).to_contain_text("No artist has the id")
    page.get_by_role("combobox").fill("artist 04")
    expect(page.get_by_role("option").first).to_be_visible()


def test_a_service_that_is_gone_is_named_and_tried_again(visit):
    page = visit()
    expect(page.locator("#counts")).to_contain_text("artists")
    page.context.set_offline(True)
    page.evaluate(
        "history.pushState(null, '', '?artist=a02'); dispatchEvent(new Event('popstate'))"
    )
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer.")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#card-name")).to_have_text("Artist 02")


def test_names_are_text_whatever_they_hold(visit):
    page = visit("?artist=a00")
    expect(page.locator("#card-name")).to_have_text(MARKUP)
    expect(page).to_have_title(f"{MARKUP} – undersong")
    page.get_by_role("combobox").fill("img src")
    expect(page.get_by_role("option").first).to_contain_text(MARKUP)
    assert page.locator("img").count() == 0
    page.get_by_role("combobox").fill("فيروز")
    page.get_by_role("option", name=ARABIC).click()
    expect(page.locator("#card-name bdi")).to_have_text(ARABIC)


def test_a_click_on_the_map_opens_what_stands_there(visit, service):
    page = visit()
    x, y = pixel(page, service, "a07")
    page.mouse.move(x, y)
    page.wait_for_function("() => document.getElementById('points').style.cursor === 'pointer'")
    page.mouse.click(x, y)
    expect(page.locator("#card-name")).to_be_visible()
    found = ask(service, "map", kind="artist")
    place = dict(zip(found["ids"], zip(found["x"], found["y"], strict=True), strict=True))
    opened = query(page)["artist"]
    assert np.hypot(*np.subtract(place[opened], place["a07"])) * lens(page)[0] < 13


def test_the_wheel_zooms_into_what_is_under_it_and_the_address_keeps_the_view(visit, service):
    page = visit()
    x, y = pixel(page, service, "a11")
    before = lens(page)[0]
    page.mouse.move(x, y)
    page.mouse.wheel(0, -240)
    page.wait_for_function(
        f"() => parseFloat(document.getElementById('points').dataset.lens) > {before}"
    )
    assert pixel(page, service, "a11") == pytest.approx((x, y), abs=1)
    page.wait_for_function("() => location.search.includes('at=')")
    kept = lens(page)
    page.reload()
    page.wait_for_function(
        f"() => parseFloat(document.getElementById('points').dataset.lens) > {before}"
    )
    assert lens(page) == pytest.approx(kept, rel=0.01, abs=3)


def test_fingers_pinch_the_map(visit):
    page = visit(has_touch=True)
    before = lens(page)[0]
    touch = page.context.new_cdp_session(page)

    def fingers(kind, apart):
        points = [{"x": 800 + side * apart, "y": 400, "id": side} for side in (0, 1)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    fingers("touchStart", 60)
    for apart in (90, 120, 180):
        fingers("touchMove", apart)
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.wait_for_function(
        f"() => parseFloat(document.getElementById('points').dataset.lens) > {2 * before}"
    )


def test_the_map_is_used_with_keys_alone(visit):
    page = visit()
    before = lens(page)
    page.locator("#points").focus()
    page.keyboard.press("+")
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("status")).to_contain_text("in the middle")
    middle = page.get_by_role("status").inner_text().removesuffix(" in the middle")
    assert lens(page)[0] == pytest.approx(1.5 * before[0])
    page.keyboard.press("Enter")
    expect(page.locator("#card-name")).to_have_text(middle)


CARD = """
  const real = WebGL2RenderingContext.prototype.getParameter;
  WebGL2RenderingContext.prototype.getParameter = function (name) {
    return name === 0x9246 ? "a real card" : real.call(this, name);  // UNMASKED_RENDERER_WEBGL
  };"""


@pytest.mark.parametrize(("drawn", "script"), [("card", CARD), ("pixels", "")])
def test_the_long_tail_has_its_colour_on_the_map(visit, service, drawn, script):
    pillow = pytest.importorskip("PIL.Image", reason="pillow is missing: no pixel was looked at")
    page = visit(script=script)
    found = ask(service, "map", kind="artist")
    lens(page)
    assert page.get_attribute("#points", "data-drawn") == drawn
    page.evaluate("document.getElementById('drawing').hidden = true")
    places = {x: pixel(page, service, x) for x in found["ids"]}
    seen = pillow.open(io.BytesIO(page.screenshot())).convert("RGB")
    spread = {True: [], False: []}
    for item, tail in zip(found["ids"], found["long_tail"], strict=True):
        x, y = places[item]
        alone = min(np.hypot(x - a, y - b) for k, (a, b) in places.items() if k != item) > 9
        if alone and x > 560:
            red, _, blue = seen.getpixel((round(x), round(y)))
            spread[bool(tail)].append(red - blue)
    assert len(spread[True]) > 4 < len(spread[False])
    assert min(spread[True]) > 60 > 20 > max(spread[False])


WRITTEN = """
  window.written = {};
  const write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    window.written[text] = [x, y - 8, x + this.measureText(text).width, y + 8];
    return write.call(this, text, x, y);
  };"""


@pytest.mark.parametrize(
    ("place", "over", "screen"),
    [
        ("", ("search", "#to-report", ".wordmark", ".zoom"), {}),
        ("?artist=a02", ("search", "#card", "#to-report", ".zoom"), {}),
        ("?artist=a02", ("search", "#card"), {"viewport": {"width": 390, "height": 844}}),
    ],
    ids=["first", "card", "phone"],
)
def test_names_of_regions_stay_off_what_lies_over_the_map(visit, service, place, over, screen):
    places = [(x / 24, y / 32) for x in range(-72, 53) for y in range(-36, 37)]
    labels = [{"text": f"r{at}", "x": x, "y": y} for at, (x, y) in enumerate(places)]
    found = ask(service, "map", kind="artist") | {"labels": labels}
    page = visit(script=WRITTEN, **screen)
    page.route("**/api/map*", lambda route: route.fulfill(json=found))
    page.goto(f"/{place}")
    lens(page)
    some = "() => Object.keys(window.written).some((text) => /^r[0-9]+$/.test(text))"
    page.wait_for_function(some)
    page.evaluate("window.written = {}")
    page.locator("#points").press("+")  # so that all is drawn once more, where one looks now
    page.wait_for_function(some)
    scale, left, top = lens(page)
    written = page.evaluate("window.written")

    def covered(x0, y0, x1, y1):
        return x0 < right and box["x"] < x1 and y0 < bottom and box["y"] < y1

    shown = [text for text in written if text[1:].isdigit()]
    assert len(shown) > 3
    for thing in over:
        box = page.locator(thing).bounding_box()
        right, bottom = box["x"] + box["width"], box["y"] + box["height"]
        assert [x for x in shown if covered(*written[x])] == []
        spots = [(left + scale * one["x"], top - scale * one["y"]) for one in labels]
        under = [covered(x - 12, y - 8, x + 12, y + 8) for x, y in spots]
        assert any(under), f"some would stand under {thing}"


def test_on_a_phone_answers_have_their_names_on_the_map(visit, service):
    page = visit("?artist=a02", script=WRITTEN, viewport={"width": 390, "height": 844})
    answers = listed(page)
    lens(page)
    page.wait_for_function("() => window.written['Artist 02']")
    assert set(answers) & set(page.evaluate("Object.keys(window.written)"))


def test_where_nobody_is_linked_nothing_is_marked_as_long_tail(visit, service):
    found = ask(service, "map", kind="artist")
    page = visit()
    page.route(
        "**/api/map*",
        lambda route: route.fulfill(json=found | {"long_tail": [1] * found["count"]}),
    )
    page.goto("/?artist=a02")
    listed(page)
    expect(page.locator(".answers .tail").first).to_be_hidden()
    page.get_by_role("link", name="Close").click()
    expect(page.locator("#counts")).to_have_text("84 artists; nobody has linked any of them.")
    expect(page.get_by_role("button", name="Pull one")).to_be_hidden()


def test_an_item_of_the_long_tail_is_pulled(visit):
    page = visit()
    page.get_by_role("button", name="Pull one from the long tail").click()
    expect(page.locator(".head.is-tail .kind")).to_contain_text("long tail")


def test_a_run_that_hears_nothing_does_not_offer_to_listen(visit, service):
    found = ask(service, "map", kind="artist")
    assert found["hears"] is False, "it learned from vectors"
    page = visit()
    lens(page)
    expect(page.get_by_text("What sounds like this?")).to_be_hidden()
    over = "dispatchEvent(new DragEvent('dragover', { cancelable: true }))"
    page.evaluate(over)
    expect(page.locator("body")).not_to_have_class(re.compile("dropping"))
    page.route("**/api/map*", lambda route: route.fulfill(json=found | {"hears": True}))
    page.reload()
    expect(page.get_by_text("What sounds like this?")).to_be_visible()
    page.evaluate(over)
    expect(page.locator("body")).to_have_class(re.compile("dropping"))


def test_a_file_is_sent_and_what_sounds_like_it_is_listed(visit, service, folders):
    page = visit()
    sent = []

    def answer(route):
        sent.append(route.request)
        content = {"generation": 1, "item": None, "answers": similar(service, k=7)}
        route.fulfill(json=content)

    page.route("**/api/sounds-like**", answer)
    page.set_input_files("#song", folders / "audio" / "one.wav")
    expect(page.locator("#card-name")).to_have_text("one.wav")
    assert listed(page) == names(similar(service, k=7))
    assert sent[0].method == "POST"
    assert 'name="file"; filename="one.wav"' in sent[0].post_data_buffer[:300].decode("latin-1")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The file was not kept")


def test_a_dropped_file_that_the_service_cannot_hear_is_answered_in_its_words(visit, service):
    page = visit()
    page.evaluate("""() => {
      const carried = new DataTransfer();
      carried.items.add(new File([new Uint8Array(999)], "noise.mp3", { type: "audio/mpeg" }));
      dispatchEvent(new DragEvent("drop", { dataTransfer: carried, cancelable: true }));
    }""")
    said = service.post("/api/sounds-like", files={"file": ("noise.mp3", b"\0" * 999)}).json()
    expect(page.get_by_role("alert")).to_contain_text(said["error"][1:])


def test_what_can_be_heard_can_be_played(visit):
    page = visit("?track=a00-0")
    player = page.locator("#card audio")
    expect(player).to_be_visible()
    duration = player.evaluate(
        "e => new Promise(done => { e.onloadedmetadata = () => done(e.duration); e.load(); })"
    )
    assert duration == pytest.approx(0.5, abs=0.01)
    silent = visit("?track=a03-0")
    listed(silent)
    assert silent.locator("audio").count() == 0


def test_the_report_shows_each_method_with_its_interval(visit, service):
    said = ask(service, "report")
    page = visit("?page=report")
    expect(page.locator("#report-name")).to_have_text("How good is this model?")
    lead, rows = said["protocols"][0], page.locator("#report table").first.locator("tbody tr")
    shown = [x for x, _ in said["methods"] if "ndcg@200" in lead["slices"][0]["numbers"].get(x, {})]
    assert [x.split("\n")[0] for x in rows.locator("th").all_inner_texts()] == shown
    page.get_by_label("What is measured").select_option("recall@10")
    expect(rows.first.locator("td").nth(1)).not_to_be_empty()
    assert query(page)["metric"] == "recall@10"
    found = lead["slices"][0]["numbers"]["GRM"]["recall@10"]["mean"]["value"]
    digits = rows.filter(has_text="GRM").locator("td").nth(1).inner_text().replace("−", "-")
    assert float(digits) == pytest.approx(found, abs=0.06)
    page.get_by_role("link", name="Back to the music").click()
    expect(page.get_by_role("combobox")).to_be_visible()


def test_both_axes_of_how_far_to_trust_answers_are_named(visit, service):
    rows = [[0.004, 0.01, 700], [0.11, 0.09, 80], [0.42, 0.47, 30], [0.72, 0.69, 9]]
    said = ask(service, "report") | {"reliability": {"linked": rows, "unlinked": rows[:2]}}
    page = visit()
    page.route("**/api/report", lambda route: route.fulfill(json=said))
    page.get_by_role("link", name="How good is this model?").click()
    plot = page.get_by_role("img", name="72 % sure, 69 % right")
    expect(plot.locator("circle")).to_have_count(len(rows))
    expect(plot.locator("circle title").first).to_have_text("700 answers: 0.4 % sure, 1 % right")
    frame = plot.bounding_box()
    across, up = (plot.get_by_text(x, exact=True) for x in ("how sure", "how often right"))
    for name in (across, up):
        expect(name).to_be_visible()
        box = name.bounding_box()
        assert frame["x"] <= box["x"] < box["x"] + box["width"] <= frame["x"] + frame["width"]
        # A box of text is higher than its letters.
        assert frame["y"] - 3 <= box["y"]
        assert box["y"] + box["height"] <= frame["y"] + frame["height"] + 3
    assert across.bounding_box()["y"] > up.bounding_box()["y"] + frame["height"] / 2
    expect(page.get_by_role("heading", name="How far to trust “72 % sure”")).to_be_visible()
    expect(page.locator("figcaption")).to_have_text(["linked", "unlinked"])
    other = page.get_by_role("img", name="0.4 % sure, 1 % right; 11 % sure, 9 % right.")
    expect(other.locator("circle")).to_have_count(2)


def test_a_run_without_a_report_says_how_to_make_one(visit):
    page = visit()
    error = {"error": "this run was not evaluated; run `undersong evaluate` on it", "status": 404}
    page.route("**/api/report", lambda route: route.fulfill(status=404, json=error))
    page.get_by_role("link", name="How good is this model?").click()
    expect(page.get_by_role("alert")).to_have_text(
        "This run was not evaluated; run `undersong evaluate` on it."
    )


def test_a_token_is_asked_for_kept_in_the_tab_and_taken_out_of_the_address(visit, folders):
    (folders / "token").write_text("a-token-of-24-characters")
    (folders / "token").chmod(0o600)
    process, address = start(folders, "--token-file", folders / "token")
    page = visit("?artist=a02", base=address)
    page.get_by_label("Token").fill("a-token-of-24-characters")
    page.get_by_role("button", name="Show it").click()
    expect(page.locator("#card-name")).to_have_text("Artist 02")
    other = visit("?artist=a02&token=a-token-of-24-characters", base=address)
    expect(other.locator("#card-name")).to_have_text("Artist 02")
    assert "token" not in other.url
    for one in (page, other):
        one.goto("about:blank")
        one.evaluate("window.violations = []")
    stop(process)


def test_on_a_phone_the_card_is_a_sheet_that_can_be_made_taller(visit):
    page = visit("?artist=a02", viewport={"width": 390, "height": 844}, has_touch=True)
    listed(page)
    sheet = page.locator("#card").bounding_box()
    assert sheet["y"] > 300
    assert sheet["y"] + sheet["height"] == pytest.approx(844, abs=1)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="Taller").click()
    assert page.locator("#card").bounding_box()["y"] < 150


def test_a_reader_who_wants_no_motion_gets_none(visit):
    page = visit("?artist=a02")
    assert page.locator("#card").evaluate("e => getComputedStyle(e).animationName") == "none"
    moving = visit("?artist=a02", reduced_motion="no-preference")
    assert moving.locator("#card").evaluate("e => getComputedStyle(e).animationName") == "rise"


def test_nothing_is_asked_of_any_other_place_and_nothing_stands_inline(visit, service):
    page = visit()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    for place in ("?artist=a02", "?page=report", ""):
        page.goto(f"/{place}")
        page.wait_for_load_state("networkidle")
    assert len(asked) > 20
    assert {urlsplit(x).netloc for x in asked} == {urlsplit(str(service.base_url)).netloc}
    assert "'unsafe" not in service.get("/").headers["content-security-policy"]
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<style|\sstyle=|\son\w+=|<script(?![^>]*src=)", html) == []
    for script in PAGE.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        assert (
            re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(|https?://(?!www\.w3)", text)
            == []
        )


READING = (Path(__file__).parent / "page_reading.js").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("", "#counts .tail"),
        ("?artist=a02&why=a07&genre=g2", ".reasons"),
        ("?artist=nobody", ".trouble"),
        ("?page=report", "#shown-name"),
        ("?q=artist", "[role=option]"),
    ],
)
def test_everything_is_named_ordered_and_legible(visit, place, wanted):
    page = visit(place)
    expect(page.locator(wanted).first).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert json.loads(page.evaluate(READING)) == []
