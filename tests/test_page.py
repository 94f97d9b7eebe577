"""The page in a real browser (tests/browsing.py): search, card, map, report, access."""

import io
import json
import re
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from browsing import (
    ARABIC,
    MARKUP,
    PAGE,
    PHONE,
    ask,
    expect,
    in_a_browser,
    lens,
    listed,
    names,
    pixel,
    query,
    similar,
    start,
    stop,
)
from undersong.catalogue import tables

pytestmark = in_a_browser


def test_the_first_screen_is_a_search_over_the_map(visit, service):
    page = visit()
    expect(page.get_by_role("combobox", name="Name")).to_be_visible()
    expect(page.locator("#points")).to_have_attribute("aria-label", "Map of 84 artists")
    tail = sum(ask(service, "map", kind="artist")["long_tail"])
    expect(page.locator("#counts")).to_contain_text(f"linked {tail} of them yet: they are unlinked")
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
    expect(page.locator(".origin")).to_contain_text("by Artist 03")
    page.locator(".origin").get_by_role("link", name="Artist 03").click()
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
    for artist, said in ((best, "More"), (least, "Less")):
        page = visit(f"?artist={artist}")
        among = service.get(f"/api/items/artist/{artist}").json()["item"]["percentile"]
        about = round(100 * (among if said == "More" else 1 - among))
        expect(page.locator("#card .known")).to_have_text(
            re.compile(f"[.] {said} popular than {about} % of artists[.]$")
        )
    nobody = visit("?artist=a84")
    expect(nobody.locator("#card .known")).to_have_text("No known links yet.")


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


def test_reasons_are_plain_shares_and_sentences_with_the_numbers_behind_them(visit, service):
    answers = similar(service, "a07", reasons=True)
    said = next(x for x in answers if x["reasons"]["common"]["tags"])
    page = visit("?artist=a07")
    page.get_by_role("button", name=f"Why? {said['item']['name']}").click()
    why = page.locator(".reasons")
    shares = [int(x.removesuffix(" %")) for x in why.locator(".shares .number").all_inner_texts()]
    holding = [x["share"] for x in said["reasons"]["contributions"] if x["share"] > 0]
    expected = [round(100 * x / sum(holding)) for x in sorted(holding, reverse=True)]
    assert shares == pytest.approx([x for x in expected if x], abs=1)
    widths = why.locator(".bar span").evaluate_all("all => all.map(e => parseFloat(e.style.width))")
    assert widths == pytest.approx(shares, abs=0.51)
    assert len(why.locator("li").all()) == len(said["reasons"]["sentences"])
    tag = said["reasons"]["common"]["tags"][0]["tag"]
    expect(
        why.locator("li").filter(has_text="Tags in common").get_by_role("link").first
    ).to_have_text(tag)
    expect(why.locator(".sums")).to_be_hidden()
    why.get_by_text("Details").click()
    shown = [float(x.replace("−", "-")) for x in why.locator(".sums .number").all_inner_texts()]
    assert sum(shown[:-1]) == pytest.approx(shown[-1], abs=0.0006 * len(shown))
    assert shown[-1] == pytest.approx(said["reasons"]["score"], abs=0.0006)
    assert query(page)["why"] == said["item"]["id"]
    page.reload()
    expect(page.locator(".reasons")).to_be_visible()


def test_filters_are_part_of_the_address_and_can_be_cleared(visit, service):
    page = visit("?artist=a02")
    page.get_by_role("button", name="Tune").click()
    with page.expect_response("**/similar?**genre=g3**"):
        page.get_by_label("Genre").select_option("g3")
    expect(page.get_by_role("button", name="Tune (1)")).to_have_attribute("aria-expanded", "true")
    assert listed(page) == names(similar(service, genre="g3"))
    assert query(page)["genre"] == "g3"
    page.get_by_role("button", name="Reset filters").click()
    expect(page.get_by_role("button", name="Tune", exact=True)).to_be_visible()
    assert "genre" not in query(page)


def test_wishes_that_nobody_fulfils_are_answered_with_a_way_out(visit, service):
    page = visit("?artist=a02&genre=g3&from=1990")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("#card-name")).to_have_text("Artist 02")
    page.get_by_role("alert").get_by_role("button", name="Reset filters").click()
    assert listed(page) == names(similar(service))


def replying(content):
    return lambda route: route.fulfill(json=content)


def tune(page):
    page.get_by_role("button", name="Tune").click()


def test_a_dial_keeps_the_focus_and_turning_it_is_one_step_back(visit, service):
    page = visit("?artist=a02")
    first = listed(page)
    tune(page)
    slider = page.get_by_role("slider", name="Dig deeper")
    slider.focus()
    for _ in range(3):
        with page.expect_response("**/similar?**"):
            page.keyboard.press("ArrowRight")
    expect(slider).to_be_focused()
    expect(slider).to_have_attribute("aria-valuetext", "85 % least popular")
    assert query(page)["dig"] == "0.15"
    page.wait_for_function("() => !document.querySelector('#card[aria-busy]')")
    assert listed(page) == names(similar(service, max_popularity=0.85))
    page.go_back()
    expect(slider).to_have_attribute("aria-valuetext", "everyone")
    page.wait_for_function("() => !document.querySelector('#card[aria-busy]')")
    assert listed(page) == first


def test_a_select_keeps_the_focus(visit):
    page = visit("?artist=a02")
    tune(page)
    box = page.get_by_label("Genre")
    box.focus()
    for wanted in ("g0", "g1"):
        with page.expect_response(f"**/similar?**genre={wanted}**"):
            page.keyboard.press("ArrowDown")
        expect(box).to_be_focused()
        expect(box).to_have_value(wanted)


def test_a_dial_that_this_run_lacks_is_not_drawn(visit):
    page = visit("?artist=a02&tail=0.5")
    expect(page.get_by_role("alert")).to_contain_text("long_tail")
    expect(page.get_by_role("slider", name="Ignore known links")).to_have_count(0)
    expect(page.get_by_role("slider", name="Dig deeper")).to_be_visible()
    expect(page.get_by_label("Only unlinked")).to_have_count(0)
    expect(page.get_by_label("One per artist")).to_have_count(0)


@pytest.mark.parametrize(("what", "control"), [("ranked", "dig"), ("dated", "from")])
def test_a_control_is_drawn_only_where_something_of_its_kind_is_known(
    visit, service, what, control
):
    page = visit()
    known = ask(service, "items/artist/a02")
    for drawn in (True, False):
        page.unroute_all()
        page.route("**/api/items/artist/a02", replying(known | {what: drawn}))
        page.goto("/?artist=a02")
        listed(page)
        tune(page)
        expect(page.get_by_role("slider", name="Variety")).to_be_visible()
        expect(page.locator(f"[name={control}]")).to_have_count(int(drawn))


def test_ignoring_links_goes_from_lists_by_fair_to_nobody_linked(visit, learned):
    page = visit("?artist=a02", base=str(learned.base_url))
    listed(page)
    tune(page)
    slider = page.get_by_role("slider", name="Ignore known links")
    expect(slider).to_have_attribute("aria-valuetext", "fair")
    expect(slider).to_have_accessible_description(re.compile("Middle: fair"))
    for key, value, words in (
        ("Home", -1, "unlinked last, 100 %"),
        ("ArrowRight", -0.95, "unlinked last, 95 %"),
        ("End", 1, "100 %"),
    ):
        with page.expect_response("**/similar?**"):
            slider.press(key)
        page.wait_for_function("() => !document.querySelector('#card[aria-busy]')")
        expect(slider).to_have_attribute("aria-valuetext", words)
        assert float(query(page)["tail"]) == value
        assert listed(page) == names(similar(learned, long_tail=value))
    assert listed(page) != names(similar(learned))


def test_only_what_nobody_has_linked_is_a_filter(visit, learned):
    page = visit("?artist=a02", base=str(learned.base_url))
    tune(page)
    box = page.get_by_role("checkbox", name="Only unlinked")
    box.focus()
    with page.expect_response("**/similar?**only_unlinked=true**"):
        page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Tune (1)")).to_be_visible()
    expect(box).to_be_focused()
    answers = similar(learned, only_unlinked=True)
    assert listed(page) == names(answers)
    assert answers
    assert all(x["item"]["long_tail"] for x in answers)
    assert not all(x["item"]["long_tail"] for x in similar(learned))
    page.get_by_role("button", name="Reset filters").click()
    expect(page.get_by_role("button", name="Tune", exact=True)).to_be_visible()
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
    expect(page.get_by_role("heading", name="No answer from the service")).to_be_visible()
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
    assert min(spread[True]) > 70 > 45 > max(spread[False])


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
        ("", ("search", "#to-report", ".wordmark", ".zoom", "#legend"), {}),
        ("?artist=a02", ("search", "#card", "#to-report", ".zoom"), {}),
        ("?artist=a02", ("search", "#card"), {"viewport": {"width": 390, "height": 844}}),
    ],
    ids=["first", "card", "phone"],
)
def test_names_of_regions_stay_off_what_lies_over_the_map(visit, service, place, over, screen):
    places = [(x / 24, y / 32) for x in range(-72, 53) for y in range(-36, 37)]
    labels = [{"text": f"r{at}", "x": x, "y": y, "zoom": 1} for at, (x, y) in enumerate(places)]
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
    expect(page.locator("#counts")).to_have_text("84 artists. Nobody has linked any of them yet.")
    expect(page.get_by_role("button", name="Surprise me")).to_be_hidden()


@pytest.mark.parametrize("place", ["", "?artist=a02", "?page=report", "?list=artist&genre=g3"])
def test_every_screen_surprises_with_an_unlinked_artist(visit, place):
    page = visit(place)
    page.get_by_role("button", name="Surprise me with an unlinked artist").click()
    expect(page.locator("#card > .kind")).to_contain_text("artist · unlinked")
    expect(page.locator("#report")).to_be_hidden()
    assert set(query(page)) == {"artist"}


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


def test_the_report_shows_each_method_with_its_interval(visit, service):
    said = ask(service, "report")
    page = visit("?page=report")
    expect(page.locator("#report-name")).to_have_text("How good is this model?")
    expect(page.locator("#report .lead")).to_contain_text("were hidden from the model. For")
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
    page.get_by_role("link", name="How good is it?").click()
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
    page.get_by_role("link", name="How good is it?").click()
    expect(page.get_by_role("alert")).to_have_text(
        "This run was not evaluated; run `undersong evaluate` on it."
    )


def test_a_token_is_asked_for_kept_in_the_tab_and_taken_out_of_the_address(visit, folders):
    (folders / "token").write_text("a-token-of-24-characters")
    (folders / "token").chmod(0o600)
    process, address = start(folders, "--token-file", folders / "token")
    page = visit("?artist=a02", base=address)
    expect(page.get_by_label("Token")).to_be_focused()
    expect(page.get_by_role("heading", name="This page is private")).to_be_visible()
    expect(page.get_by_role("combobox")).to_be_hidden()
    expect(page.get_by_text("Authorization")).to_have_count(0)
    page.get_by_label("Token").fill("another-one-of-characters")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("That is another token.")
    page.get_by_label("Token").fill("a-token-of-24-characters")
    page.get_by_role("button", name="Open").click()
    expect(page.locator("#card-name")).to_have_text("Artist 02")
    other = visit("?artist=a02&token=a-token-of-24-characters", base=address)
    expect(other.locator("#card-name")).to_have_text("Artist 02")
    assert "token" not in other.url
    for one in (page, other):
        one.goto("about:blank")
        one.evaluate("window.violations = []")
    stop(process)


def test_on_a_phone_the_first_answer_stands_in_the_upper_half(visit):
    page = visit("?artist=a02", **PHONE)
    listed(page)
    first = page.locator(".answers > li").first.bounding_box()
    assert first["y"] <= 420
    sheet = page.locator("#card").bounding_box()
    assert sheet["y"] > 150
    assert sheet["y"] + sheet["height"] == pytest.approx(844, abs=1)
    page.get_by_role("button", name="Show the map").click()
    assert page.locator("#card").bounding_box()["y"] > 600
    page.get_by_role("button", name="Show the map").click()
    assert page.locator("#card").bounding_box()["y"] == sheet["y"]


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
        assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|eval\(", text) == []


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
