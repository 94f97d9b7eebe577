"""Leafing: lists, paths, several seeds, the trail, the playlist, what is heard, map names."""

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

from browsing import (
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

pytestmark = in_a_browser
WRITTEN = """
  window.written = {};
  const write = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
    window.written[text] = [x, y - 7, x + this.measureText(text).width, y + 7];
    return write.call(this, text, x, y);
  };"""


def replying(content):
    return lambda route: route.fulfill(json=content)


def settled(page):
    page.wait_for_function("() => !document.querySelector('#card[aria-busy]')")


def test_genre_and_country_lead_to_lists_and_lists_lead_on(visit, service):
    page = visit("?artist=a07&genre=g2")
    listed(page)
    item = ask(service, "items/artist/a07")["item"]
    page.locator(".origin").get_by_role("link", name=item["genres"][0], exact=True).click()
    expect(page.locator("#card-name")).to_have_text(item["genres"][0])
    whole = ask(service, "items", kind="artist", genre=item["genres"][0], k=50)
    assert listed(page) == [x["item"]["name"] for x in whole["items"]]
    expect(page.locator(".list > .note")).to_contain_text(f"{whole['total']} artists")
    page.get_by_role("link", name="Only unlinked").click()
    settled(page)
    lost = [x["item"]["name"] for x in whole["items"] if x["item"]["long_tail"]]
    assert listed(page) == lost
    page.locator(".answers .what > a").first.click()
    expect(page.locator("#card-name")).to_have_text(lost[0])
    assert set(query(page)) == {"artist"}, "what a list has in common filters no answers"


def test_countries_have_names_and_tags_are_links(visit, service):
    page = visit()
    item = ask(service, "items/artist/a07")
    item["item"] |= {"region": "NO", "tags": ["dark & slow"]}
    said = ask(service, "items/artist/a07/similar", k=20, reasons=True)
    said["answers"][0]["item"]["about"] = "Rap, JM"
    page.route("**/api/items/artist/a07", replying(item))
    page.route("**/api/items/artist/a07/similar?**", replying(said))
    page.goto("/?artist=a07")
    expect(page.locator(".origin")).to_contain_text("Norway")
    expect(page.locator(".answers .about").first).to_have_text("Rap, Jamaica")
    tag = page.get_by_role("link", name="dark & slow")
    assert tag.get_attribute("href") == "?list=artist&tag=dark+%26+slow"


def test_an_answer_says_how_strong_it_is_and_why_in_words(visit, learned):
    page = visit("?artist=a02", base=str(learned.base_url))
    listed(page)
    said = similar(learned, reasons=True)
    lines = page.locator(".because").all_inner_texts()
    assert len(lines) == len(said)
    for line, answer in zip(lines, said, strict=True):
        sure = answer["confidence"]
        strong = "linked" if sure == 1 else f"{round(100 * sure)} % sure"
        assert line.startswith(strong)
    assert len(set(lines)) > 1 or len({x["confidence"] for x in said}) == 1
    assert not re.search(r"\d[.]\d{3}", page.locator("#card").inner_text()), "no raw numbers"


def test_without_a_learned_order_answers_are_alike_by_percent(visit, service):
    page = visit("?artist=a02")
    listed(page)
    said = similar(service)
    first = page.locator(".answers .sure").first
    expect(first).to_have_text(f"{round(100 * said[0]['score'])} % alike")
    because = re.compile(r" · because of [a-z ]+( and [a-z ]+)?$")
    expect(page.locator(".because").first).to_have_text(because)


def test_what_is_little_known_is_said_in_plain_words(visit, service):
    items = [
        x["item"]["id"] for x in ask(service, "items", kind="artist", only_unlinked=True)["items"]
    ]
    details = [ask(service, f"items/artist/{x}")["item"] for x in items]
    item = next(x for x in details if x["sources"])
    page = visit(f"?artist={item['id']}")
    unknown = page.locator("#fold-about .unknown")
    expect(unknown).to_contain_text(f"We know little about {item['name']}: no links")
    expect(unknown).to_contain_text("These answers rest on")
    assert "relation" not in unknown.inner_text()


def test_of_a_name_alone_nothing_is_offered_that_could_not_answer(visit):
    page = visit("?artist=a84")
    expect(page.get_by_role("alert")).to_contain_text("but its name")
    for name in ("Tune", "Combine with …"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)


def test_several_seeds_come_from_the_search_and_from_an_answer(visit, service):
    page = visit("?artist=a02")
    answers = listed(page)
    page.get_by_role("button", name="Combine with …").click()
    expect(page.get_by_role("combobox")).to_be_focused()
    page.get_by_role("combobox").fill("artist 41")
    page.get_by_role("option").first.click()
    expect(page.locator(".seeds .chip")).to_have_count(1)
    settled(page)
    both = similar(service, also="a41")
    assert listed(page) == names(both)
    expect(page.locator(".because").first).to_contain_text("close to")
    page.get_by_role("link", name="Remove Artist 41").click()
    expect(page.locator(".seeds .chip")).to_have_count(0)
    settled(page)
    assert listed(page) == answers
    page.get_by_role("button", name=f"Why? {answers[1]}").click()
    page.get_by_role("link", name="What is similar to both?").click()
    expect(page.locator(".seeds .chip")).to_contain_text(answers[1])


def test_a_path_is_walked_and_drawn(visit, service):
    page = visit("?artist=a02&also=a41")
    page.get_by_role("link", name="The path from Artist 02 to Artist 41").click()
    steps = ask(service, "path", kind="artist", a="a02", b="a41")["steps"]
    expect(page.locator("#card-name")).to_have_text("From Artist 02 to Artist 41")
    assert listed(page) == [x["item"]["name"] for x in steps]
    expect(page.get_by_role("button", name="Tune")).to_have_count(0)


def test_one_per_artist_and_variety_are_asked_for(visit, service):
    page = visit("?track=a03-0")
    listed(page)
    page.get_by_role("button", name="Tune").click()
    with page.expect_response("**/similar?**per_artist=1**"):
        page.get_by_label("One per artist").check()
    settled(page)
    makers = page.locator(".answers .what > .about:not(.because)").all_inner_texts()
    assert len(makers) == len(set(makers)) > 5
    slider = page.get_by_role("slider", name="Variety")
    with page.expect_response("**/similar?**diversity=1**"):
        slider.press("End")
    expect(slider).to_have_attribute("aria-valuetext", "100 %")


def test_a_trail_shows_where_one_came_from(visit):
    page = visit("?artist=a02")
    passed = ["Artist 02"]
    for _ in range(3):
        passed.append(listed(page)[1])
        page.locator(".answers .what > a").nth(1).click()
        expect(page.locator("#card-name")).to_have_text(passed[-1])
        settled(page)
    trail = page.get_by_role("navigation", name="Where you came from").get_by_role("link")
    expected = list(dict.fromkeys(x for x in passed[:-1] if x != passed[-1]))
    assert sorted(trail.all_inner_texts()) == sorted(expected)
    trail.first.click()
    settled(page)
    assert query(page)["artist"]


SLOW = """
  const real = fetch;
  window.fetch = async (path, ...more) => {
    if (window.slow) await new Promise((done) => setTimeout(done, 300));
    return real(path, ...more);
  };"""


def test_back_finds_the_place_in_the_list_and_no_view_is_pinned(visit):
    page = visit("?artist=a02", script=SLOW)
    listed(page)
    link = page.locator(".answers .what > a").nth(14)
    link.scroll_into_view_if_needed()
    place = page.locator("#card").evaluate("e => e.scrollTop")
    assert place > 100
    name = link.inner_text()
    link.click()
    expect(page.locator("#card-name")).to_have_text(name)
    settled(page)
    assert page.locator("#card").evaluate("e => e.scrollTop") == 0
    assert "at" not in query(page)
    page.evaluate("window.slow = true")
    page.go_back()
    expect(page.locator("#card-name")).to_have_text("Artist 02")
    expect(link).to_be_focused()
    assert page.locator("#card").evaluate("e => e.scrollTop") == pytest.approx(place, abs=2)


def test_more_answers_follow_the_last_one_read(visit):
    page = visit("?artist=a02")
    listed(page)
    page.get_by_role("link", name="More", exact=True).press("Enter")
    expect(page.locator(".answers > li")).to_have_count(40)
    expect(page.locator(".answers .what > a").nth(20)).to_be_focused()


@pytest.mark.parametrize("item", ["a02", "a11", "a41"])
def test_the_view_holds_an_item_and_most_of_its_answers(visit, service, item):
    page = visit(f"?artist={item}")
    listed(page)
    lens(page)
    desk = page.locator("#desk").bounding_box()
    wide, high = 1180, 760
    page.wait_for_timeout(100)
    places = [pixel(page, service, x["item"]["id"]) for x in similar(service, item)]
    chosen = pixel(page, service, item)

    def seen(place):
        return desk["width"] <= place[0] <= wide and 0 <= place[1] <= high

    assert seen(chosen)
    assert chosen[1] < page.locator("#legend").bounding_box()["y"], "not below the legend"
    assert sum(map(seen, places)) >= 0.8 * len(places)
    spread = np.ptp([x for x in [*places, chosen] if seen(x)], axis=0)
    assert max(spread / (wide - desk["width"], high)) > 0.4, "and they are no heap"


def overlaps(boxes):
    return [
        (a, b)
        for i, (a, one) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    ]


@pytest.mark.parametrize("at", ["", "?at=0,0,3", "?at=0.1,0.1,9"])
def test_the_map_has_names_at_every_zoom_the_best_known_first_and_none_on_another(
    visit, service, at
):
    found = ask(service, "map", kind="artist")
    rng = np.random.default_rng(7)
    n = 3000
    spots = rng.uniform(-1, 1, (2, n)).round(4)
    crowd = found | {
        "count": n,
        "ids": [f"i{x}" for x in range(n)],
        "names": [f"Name {x}" for x in range(n)],
        "x": spots[0].tolist(),
        "y": spots[1].tolist(),
        "long_tail": [0] * n,
        "genre": [0] * n,
        "labels": [],
    }
    page = visit(script=WRITTEN)
    page.route("**/api/map*", replying(crowd))
    page.goto(f"/{at}")
    lens(page)
    page.wait_for_function("() => Object.keys(window.written).length > 5")
    written = page.evaluate("window.written")
    assert overlaps(list(written.items())) == []
    assert all(min(x0, y0) >= 0 and x1 <= 1180 and y1 <= 760 for x0, y0, x1, y1 in written.values())
    scale, left, top = lens(page)
    ranks = [int(x.removeprefix("Name ")) for x in written]
    inside = [
        x
        for x in range(n)
        if 600 < left + scale * spots[0][x] < 1000 and 150 < top - scale * spots[1][x] < 600
    ]
    assert inside[0] in ranks, "the best known in view has its name"
    assert np.median(ranks) < np.median(inside)


def test_a_name_of_a_part_waits_until_one_comes_near(visit, service):
    found = ask(service, "map", kind="artist") | {
        "labels": [
            {"text": "far", "x": 0, "y": 0.3, "zoom": 1},
            {"text": "near", "x": 0, "y": 0, "zoom": 6},
        ]
    }
    page = visit(script=WRITTEN)
    page.route("**/api/map*", replying(found))
    page.goto("/")
    page.wait_for_function("() => window.written.far")
    assert "near" not in page.evaluate("window.written")
    page.goto("/?at=0,0,6")
    page.wait_for_function("() => window.written.near")


def test_the_legend_names_the_tints_and_lets_one_stand_out(visit, service):
    page = visit()
    legend = page.locator("#legend")
    commonest = ask(service, "map", kind="artist")["genres"]
    entries = legend.get_by_role("button")
    expect(entries).to_have_count(1 + len(commonest))
    assert entries.first.inner_text().strip() == "unlinked"
    entries.nth(1).click()
    expect(entries.nth(1)).to_have_attribute("aria-pressed", "true")
    entries.nth(1).click()
    expect(entries.nth(1)).to_have_attribute("aria-pressed", "false")
    colours = {
        x.evaluate("e => getComputedStyle(e).backgroundColor") for x in legend.locator(".dot").all()
    }
    assert len(colours) == 1 + len(commonest)


def test_links_out_are_plain_and_fetch_nothing(visit, service):
    page = visit("?artist=a07")
    links = page.locator(".elsewhere a")
    expect(links).to_have_count(4)
    for link in links.all():
        assert link.get_attribute("href").startswith("https://")
        assert link.get_attribute("rel") == "noopener noreferrer"
    mbid = "8e66ea2b-b57b-47d9-8df0-df4630aeb8e5"
    item = ask(service, "items/artist/a07")
    item["item"]["mbid"] = mbid
    page.route("**/api/items/artist/a07", replying(item))
    page.reload()
    expect(links.first).to_have_attribute("href", f"https://musicbrainz.org/artist/{mbid}")


def test_what_can_be_heard_is_played_with_what_comes_next(visit, service):
    page = visit("?track=a00-0")
    expect(page.locator("#card > .deeds .play")).to_be_visible()
    playable = [x for x in ask(service, "items/track/a00-0/similar", k=20)["answers"] if x["media"]]
    expect(page.locator(".answers .play")).to_have_count(len(playable))
    silent = visit("?track=a03-0")
    listed(silent)
    expect(silent.locator("#card > .deeds .play")).to_have_count(0)
    page.locator("#card > .deeds .play").click()
    player = page.get_by_role("region", name="Player")
    expect(player.locator("p a")).to_contain_text("Song a00")
    duration = player.locator("audio").evaluate(
        "e => new Promise(done => { const say = () => done(e.duration);"
        " if (e.readyState) say(); else e.onloadedmetadata = say; })"
    )
    assert duration == pytest.approx(0.5, abs=0.01)
    expect(player.get_by_role("button", name="Next")).to_be_disabled()
    player.get_by_role("button", name="Close the player").click()
    expect(player).to_be_hidden()


def test_a_queue_goes_on_by_next_and_by_itself(visit, service):
    page = visit()
    said = ask(service, "items/track/a00-0/similar", k=20, reasons=True)
    for answer in said["answers"][:3]:
        answer["media"] = True
    page.route("**/media/track/**", lambda route: route.fulfill(status=404))
    page.route("**/api/items/track/a00-0/similar?**", replying(said))
    page.goto("/?track=a00-0")
    listed(page)
    page.locator(".answers .play").first.click()
    player = page.get_by_role("region", name="Player")
    # None of these has a file: each is passed over, down to the last.
    expect(player.locator("p a")).to_have_text(said["answers"][2]["item"]["name"])
    expect(player.locator("summary")).to_have_text("Queue (3)")
    player.get_by_role("button", name="Previous").click()
    expect(page.get_by_role("status")).to_contain_text("cannot be played here")


def saved(page, form):
    with page.expect_download() as download:
        page.get_by_role("button", name=f"Save as {form}").click()
    return download.value.suggested_filename, download.value.path().read_text(encoding="utf-8")


def test_a_playlist_is_made_ordered_and_saved_as_a_file(visit, service):
    page = visit("?track=a00-0")
    heard = ask(service, "items/track/a00-0")["item"]
    page.locator("#card > .deeds").get_by_role("button", name=f"Add {heard['name']}").click()
    page.goto("/?artist=a02")
    answers = listed(page)
    for name in answers[:2]:
        page.get_by_role("button", name=f"Add {name} to the playlist").click()
    page.reload()
    added = page.get_by_role("button", name=f"Add {answers[0]} to the playlist")
    expect(added).to_have_attribute("aria-pressed", "true")
    page.get_by_role("link", name="Playlist (3)").click()
    page.get_by_role("button", name=f"Move {answers[1]} up").press("Enter")
    expect(page.get_by_role("button", name=f"Move {answers[1]} up")).to_be_focused()
    order = [heard["name"], answers[1], answers[0]]
    assert page.locator(".answers .what > a").all_inner_texts() == order
    page.get_by_label("Name of the playlist").fill("A/B: quiet")
    page.keyboard.press("Tab")
    name, jspf = saved(page, "JSPF")
    assert name == "A_B_ quiet.jspf"
    tracks = json.loads(jspf)["playlist"]["track"]
    assert [x.get("title") or x["creator"] for x in tracks] == order
    assert tracks[0]["creator"] == heard["about"]
    assert tracks[0]["location"] == [
        f"{service.base_url}/media/track/a00-0".replace("//media", "/media")
    ]
    _, xspf = saved(page, "XSPF")
    root = ElementTree.fromstring(xspf)
    assert root.find("{http://xspf.org/ns/0/}title").text == "A/B: quiet"
    assert len(root.findall(".//{http://xspf.org/ns/0/}track")) == len(order)
    _, m3u8 = saved(page, "M3U8")
    lines = m3u8.splitlines()
    assert lines[:2] == ["#EXTM3U", "#PLAYLIST:A/B: quiet"]
    assert lines[2] == f"#EXTINF:-1,{heard['about']} - {heard['name']}"
    assert service.get(lines[3]).status_code == 200
    page.get_by_role("button", name=f"Remove {answers[0]}").click()
    expect(page.locator(".answers > li")).to_have_count(2)
    page.get_by_role("button", name="Add 10 songs that fit").click()
    expect(page.locator(".answers > li")).to_have_count(12)
    assert (
        len(set(page.locator(".answers > li").evaluate_all("e => e.map(x => x.dataset.id)"))) == 12
    )
    expect(page.get_by_role("status")).to_have_text("10 songs added")
    page.get_by_role("button", name="Empty the playlist").click()
    expect(page.get_by_role("link", name=re.compile("Playlist"))).to_have_count(0)


def test_words_ask_where_the_service_embeds_them(visit, service):
    found = ask(service, "map", kind="artist")
    page = visit()
    page.route("**/api/map*", replying(found | {"describes": False}))
    page.goto("/?q=artist")
    expect(page.get_by_role("option")).to_have_count(8)
    page.unroute_all()
    assert found["describes"] is True
    said = ask(service, "described", kind="artist", words="g3", k=20)
    page.goto("/")
    lens(page)
    page.get_by_role("combobox").fill("g3 in words")
    page.get_by_role("option", name="Described in words: “g3 in words”").click()
    expect(page.locator("#card-name")).to_have_text("g3 in words")
    settled(page)
    assert query(page)["described"] == "g3 in words"
    page.goto("/?described=g3")
    assert listed(page) == names(said["answers"])
    expect(page.locator(".list > .note").first).to_have_text(said["note"])


def test_a_long_name_stays_in_its_box_and_on_the_map(visit, service):
    long = "Antidisestablishmentarianism" * 6
    found = ask(service, "map", kind="artist")
    found["names"][found["ids"].index("a07")] = long
    item = ask(service, "items/artist/a07")
    item["item"] |= {"name": long, "relations": 0, "silent": ["audio"]}
    page = visit(script=WRITTEN, **PHONE | {"viewport": {"width": 320, "height": 640}})
    page.route("**/api/map*", replying(found))
    page.route("**/api/items/artist/a07", replying(item))
    page.goto("/?artist=a07")
    expect(page.locator("#card-name")).to_have_text(long)
    page.get_by_role("button", name="About").click()
    expect(page.locator("#card .unknown")).to_contain_text(long)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    assert page.locator("#card").evaluate("e => e.scrollWidth <= e.clientWidth")
    page.wait_for_function("() => Object.keys(window.written).some((x) => x.startsWith('Antidis'))")
    written = page.evaluate("window.written")
    (box,) = [box for text, box in written.items() if text.startswith("Antidis")]
    assert box[2] - box[0] <= 240
    assert 0 <= box[0] < box[2] <= 320


def test_a_page_that_may_remember_nothing_works_and_a_broken_memory_is_none(visit):
    barred = """for (const name of ["localStorage", "sessionStorage"]) {
      const get = () => { throw new DOMException("no", "SecurityError"); };
      Object.defineProperty(window, name, { get });
    }"""
    page = visit("?artist=a02", script=barred)
    listed(page)
    broken = visit("?artist=a02", script='localStorage.setItem("undersong playlist", "{[")')
    first = listed(broken)[0]
    broken.get_by_role("button", name=f"Add {first} to the playlist").click()
    expect(broken.get_by_role("link", name="Playlist (1)")).to_be_visible()


def test_the_first_screen_says_when_all_was_refreshed_if_something_does(visit):
    page = visit()
    lens(page)
    expect(page.locator("#refreshed")).to_be_hidden()
    times = {"started": "2026-03-01T02:00:00Z", "finished": "2026-03-04T12:00:00Z", "next": ""}
    refreshed = times | {"new": {}, "trained": "", "failed": {}}
    page.route("**/api/status", replying({"generation": 1, "refreshed": refreshed}))
    page.reload()
    expect(page.locator("#refreshed")).to_have_text(re.compile(r"Last refreshed on .*2026\.$"))


def test_a_saved_file_tells_no_token(visit, folders):
    (folders / "secret").write_text("a-secret-of-24-characters")
    (folders / "secret").chmod(0o600)
    process, address = start(
        folders, "--token-file", folders / "secret", "--media", folders / "media"
    )
    page = visit("?track=a00-0&token=a-secret-of-24-characters", base=address)
    page.locator("#card > .deeds").get_by_role("button", name="Add").click()
    page.get_by_role("link", name="Playlist (1)").click()
    expect(page.get_by_role("button", name="Save as M3U8")).to_have_count(0)
    _, jspf = saved(page, "JSPF")
    assert "secret" not in jspf
    page.goto("about:blank")
    page.evaluate("window.violations = []")
    stop(process)
