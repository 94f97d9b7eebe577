"""Who cannot see, point or read English: axe, keyboard, fingers, narrow screens, languages."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from browsing import (
    PAGE,
    PHONE,
    expect,
    in_a_browser,
    lens,
    listed,
    similar,
)

pytestmark = in_a_browser
AXE = find_spec("axe_playwright_python")
WIDTHS = ((1180, 760), (390, 844), (320, 640))
OPENED = """() => {
  for (const one of document.querySelectorAll("#card [aria-expanded=false]")) one.click();
  for (const one of document.querySelectorAll("details")) one.open = true;
}"""
STATES = {
    "first": ("", "#counts .tail"),
    "suggestions": ("?q=artist", "[role=option]"),
    "card": ("?artist=a07&why=a02&genre=g2", ".answers > li"),
    "track": ("?track=a00-0", ".answers > li"),
    "several": ("?artist=a02&also=a11", ".seeds .chip"),
    "path": ("?artist=a02&path=a41", ".answers > li"),
    "list": ("?list=artist&genre=g3", ".answers > li"),
    "playlist": ("?page=playlist", ".answers > li"),
    "nobody": ("?artist=nobody", ".trouble"),
    "report": ("?page=report", "#shown-name"),
}
KEPT = """localStorage.setItem("undersong playlist", JSON.stringify({ name: "", items: [
  { kind: "artist", id: "a02", name: "Artist 02", about: "g2", media: false },
  { kind: "track", id: "a00-0", name: "Song", about: "Artist 00", media: true }] }));"""


def violations(page):
    """What axe finds: the rule, and where."""
    page.evaluate((Path(AXE.submodule_search_locations[0]) / "axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    assert len(found["passes"]) > 15, "axe saw the page"
    return [(x["id"], [y["target"] for y in x["nodes"]][:3]) for x in found["violations"]]


@pytest.mark.skipif(AXE is None, reason="axe is missing: scripts/setup dev")
@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing_in_both_themes_at_three_widths(visit, state):
    place, wanted = STATES[state]
    page = visit(place, script=KEPT)
    expect(page.locator(wanted).first).to_be_visible()
    lens(page)
    for width, height in WIDTHS:
        page.set_viewport_size({"width": width, "height": height})
        page.evaluate(OPENED)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert violations(page) == []


@pytest.mark.parametrize("state", STATES)
def test_nothing_is_wider_than_a_narrow_screen(visit, state):
    place, wanted = STATES[state]
    page = visit(place, script=KEPT, **PHONE | {"viewport": {"width": 320, "height": 640}})
    expect(page.locator(wanted).first).to_be_visible()
    page.evaluate(OPENED)
    wide = """() => [...document.querySelectorAll("body *")].filter((one) => {
      const box = one.getBoundingClientRect();
      return box.width && box.right > innerWidth + 1 && !one.closest(".scroll, .unseen, .deeds")
    }).map((one) => `${one.localName} ${one.id} ${one.className}`)"""
    assert page.evaluate(wide) == []
    assert page.evaluate("document.documentElement.scrollWidth") == 320


@pytest.mark.parametrize("state", [x for x in STATES if x != "report"])
def test_a_finger_hits_every_control(visit, state):
    place, wanted = STATES[state]
    page = visit(place, script=KEPT, **PHONE)
    expect(page.locator(wanted).first).to_be_visible()
    page.evaluate(OPENED)
    small = """() => [...document.querySelectorAll("button, a, select, summary, label, .round")]
      .filter((one) => one.checkVisibility({ visibilityProperty: true }))
      .filter((one) => !one.closest(".unseen, .skip, [inert], p.about, .reasons ul"))
      .filter((one) => !one.closest(".what, #counts"))
      .map((one) => [one, one.getBoundingClientRect()])
      .filter(([, { width, height }]) => width && (height < 43.5 || width < 43.5))
      .map(([one, box]) => [one.outerHTML.slice(0, 90), box.width, box.height])"""
    assert page.evaluate(small) == []


def test_a_screen_reader_hears_what_changed(visit, service):
    page = visit("?artist=a02")
    heard = page.get_by_role("status")
    first = similar(service)[0]["item"]["name"]
    expect(heard).to_have_text(f"20 answers, the first is {first}")
    page.get_by_role("button", name=f"Add {first} to the playlist").click()
    expect(heard).to_have_text(f"{first} added, 1 in the playlist")
    page.get_by_role("button", name="Tune").click()
    with page.expect_response("**/similar?**genre=g3**"):
        page.get_by_label("Genre").select_option("g3")
    first = similar(service, genre="g3")[0]["item"]["name"]
    expect(heard).to_contain_text(f"answers, the first is {first}")


def test_a_keyboard_alone_goes_through_a_card(visit):
    page = visit("?artist=a02")
    listed(page)
    page.locator("#card-name").focus()
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.textContent"))
    assert {"Why?", "Tune", "About", "Combine with …"} <= set(reached)


def test_german_is_spoken_to_those_who_ask_for_it_and_can_be_turned_off(visit):
    page = visit("?artist=a07", locale="de-DE")
    listed(page)
    assert page.get_attribute("html", "lang") == "de"
    expect(page.get_by_role("button", name="Abstimmen")).to_be_visible()
    expect(page.locator(".because").first).to_contain_text(re.compile("sicher|ähnlich|verknüpft"))
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("button", name="Tune")).to_be_visible()
    assert page.get_attribute("html", "lang") == "en"
    page.reload()
    expect(page.get_by_role("button", name="Tune")).to_be_visible()
    page.get_by_role("button", name="Deutsch").click()
    expect(page.get_by_role("button", name="Abstimmen")).to_be_visible()


def test_both_languages_have_every_text_and_no_other_file_has_any():
    def table(name):
        source = (PAGE / name).read_text(encoding="utf-8").partition("let table")[0]
        return dict(re.findall(r'(?:^|[ {])(\w+): "((?:[^"\\]|\\.)*)"', source, re.MULTILINE))

    english, german = table("texts.js"), table("texts-de.js")
    assert set(english) == set(german)
    for key, text in english.items():
        slots = re.findall(r"{(\w+)}", text)
        assert set(re.findall(r"{(\w+)}", german[key])) == set(slots), key
        assert text.count("|") <= 1
    others = [x for x in PAGE.glob("*.js") if not x.name.startswith("texts")]
    code = "\n".join(x.read_text(encoding="utf-8") for x in others)
    code += (PAGE / "index.html").read_text(encoding="utf-8")
    # Of metrics, dials and kinds the keys are put together.
    made = {x for x in english if x.startswith("m_") or x.endswith("Help")} | {
        "nArtists",
        "nTracks",
    }
    unused = {x for x in set(english) - made if not re.search(rf"\b{x}\b", code)}
    assert unused == set()
    prose = [
        x for x in re.findall(r'"([^"\n]*)"', code) if re.search(r"[A-Z][a-z]+ [a-z]+ [a-z]+", x)
    ]
    assert [x for x in prose if x not in english.values()] == []
