import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from markupsafe import Markup

from planted import QUICK_SETTINGS, small_world
from undersong import runs
from undersong.catalogue import tables
from undersong.catalogue.tables import Origin
from undersong.cli.main import cli
from undersong.errors import ArtifactError
from undersong.evaluation.results import Evaluation, Interval, Number, Protocol, Slice
from undersong.pipeline.run_settings import read_settings
from undersong.pipeline.train import train_run
from undersong.report import contents, formats, html, plots
from undersong.report.plots import tag
from undersong.retrieval import projection

HOSTILE = (
    "<script>alert(1)</script>",
    '"onload="alert(2)" \'',
    "</style></title><img src=x onerror=alert(3)>",
    "\u202eabc\u05d0\u05d1",
    "a\x00b\x1fc]]>&amp;",
)
STYLE = (Path(html.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
METRICS = ("ndcg@200", "hit@10", "long-tail share", "nobody's neighbour", "consistent@10")
METHODS = (
    "random",
    "undersong",
    "undersong, long tail 0.5",
    "undersong, long tail 1",
    "GRM",
    "tag",
)


def numbers(start, methods=METHODS):
    return {
        method: {
            name: Number(Interval(x := start + 0.05 * m + 0.01 * k, x - 0.02, x + 0.03))
            for k, name in enumerate(METRICS)
        }
        for m, method in enumerate(methods)
    }


def report(*, content="", methods=METHODS):
    slices = tuple(
        Slice(name, 90 - k, 70 - k, numbers(0.1 * k, methods))
        for k, name in enumerate(("all", "long tail", "1-2 relations", "3-5 relations"))
    )
    protocol = Protocol("cold", "Everybody asks.", 853, 19, 853, slices)
    notes = tuple((name, f"about {name}") for name in methods)
    return Evaluation(
        "artist", "test", 10, 99, 3, "GRM", notes, ("genre",), (), "plays", (protocol,), content
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A catalogue with hostile names, a run trained on it, and a report beside the run."""
    folder = tmp_path_factory.mktemp("home")
    world = small_world(groups=3, size=19, users=11)
    names = [HOSTILE[k % len(HOSTILE)] for k in range(len(world.artists))]
    artists = world.artists.with_columns(
        name=pl.Series(names), genre=pl.Series([*names[:0:-1], None])
    )
    origins = (Origin("<b>Lists</b>", "CC0", "relations"), Origin("Friends", "unknown"))
    tables.write_catalogue(replace(world, artists=artists, origins=origins), folder / "catalogue")
    (folder / "quick.toml").write_text(QUICK_SETTINGS)
    settings = read_settings(folder / "quick.toml")
    run, _ = train_run(folder / "catalogue", folder / "run", settings=settings)
    formats.write(report(content=run.content), folder / "run")
    return folder


@pytest.fixture(scope="module")
def page(home):
    html.write(runs.read(home / "run"), home / "out.html")
    return (home / "out.html").read_text(encoding="utf-8")


class Structure(HTMLParser):
    """Elements that open and close, their attributes, and the text between."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.said = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta",):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.said.append(data)

    def all(self, name):
        return [attrs for tag, attrs in self.elements if tag == name]


def test_every_element_is_closed_where_it_should_be_and_no_id_stands_twice(page):
    found = Structure(page)
    assert found.open == []
    ids = [attrs["id"] for _, attrs in found.elements if "id" in attrs]
    assert len(ids) == len(set(ids)) > 4
    links = {attrs["href"] for attrs in found.all("a")}
    assert links <= {f"#{x}" for x in ids}


def test_nothing_is_fetched_and_no_script_runs(page):
    found = Structure(page)
    names = {name for name, _ in found.elements}
    assert not names & {"script", "link", "img", "iframe", "object", "base", "form"}
    keys = {key for _, attrs in found.elements for key in attrs}
    assert not {x for x in keys if x.startswith("on")} | keys & {"src", "srcset", "style"}
    assert not re.search(r"url\(|@import", STYLE)
    policy = [x["content"] for x in found.all("meta") if "http-equiv" in x]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]
    outside = set(re.findall(r"https?://[^\"<\s]+", page))
    assert outside == {"http://www.w3.org/2000/svg"}


def test_names_are_shown_as_they_are_and_do_nothing(page):
    said = Structure(page).said
    for name in HOSTILE[:4]:
        assert name in said
    assert "a\ufffdb\ufffdc]]>&amp;" in said
    assert "<b>Lists</b>" in said


def test_a_name_keeps_its_direction_to_itself(page):
    assert f"<bdi>{HOSTILE[3]}</bdi>" in page


def test_metrics_stand_in_words_with_their_names_small_and_no_markup_is_left(page):
    assert '<th scope="col">links near the top<small>ndcg@200</small></th>' in page
    assert "by chance .000; ndcg@200 of undersong" in page
    said = "".join(Structure(re.sub(r"(?s)<style>.*</style>", "", page)).said)
    assert not re.search("`|--long-tail", said)


def test_every_picture_is_svg_and_says_in_words_what_it_shows(page):
    pictures = re.findall(r"<svg .*?</svg>", page, re.S)
    for picture in pictures:
        ElementTree.fromstring(picture)
    shown = [x for x in Structure(page).all("svg") if x.get("aria-hidden") != "true"]
    assert len(shown) >= 5
    assert all(x["role"] == "img" and len(x["aria-label"]) > 20 for x in shown)
    assert not re.search(r"(?i)nan|inf[^ol]", "".join(re.findall(r'[xydr]\d?="[^"]*"', page)))


def test_every_table_has_a_caption_and_scopes(page):
    found = re.findall(r"<table>.*?</table>", page, re.S)
    assert len(found) > 15
    for text in found:
        assert text.startswith("<table><caption>")
        assert {x.get("scope") for x in Structure(text).all("th")} <= {"col", "row"}


def test_the_one_colour_is_the_long_tail_s_and_both_schemes_define_it():
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", STYLE)
    coloured = [name for name, body in rules if re.search(r"var\(--tail(-ground)?\)", body)]
    assert coloured
    assert all("tail" in name or name.strip() == "mark" for name in coloured)
    grey = r"--(?!tail)\w+: #(\w\w)(\w\w)(\w\w)\b"
    for red, green, blue in re.findall(grey, STYLE):
        assert max(int(red, 16), int(green, 16), int(blue, 16)) - int(blue, 16) < 24
    assert STYLE.count("--tail: #") == 3


def test_the_card_says_data_licences_seed_versions_and_limits(page, home):
    run = runs.read(home / "run")
    said = Structure(page).said
    assert {"Intended use", "Out of scope", "Limits", "CC0", "unknown", "Friends"} <= set(said)
    assert run.content[:12] in page
    assert f"numpy {run.manifest['versions']['numpy']}" in page
    assert "general.loss.known.margin" in said
    assert any("have no source\nthat the models read" in x for x in said)


def test_figures_of_what_is_not_known_are_left_out(page, home):
    assert "How far to trust the confidence" not in page  # no order was learned
    assert "The map" not in page
    run = runs.read(home / "run")
    unknown = replace(contents.collect(run), described=(), origins=())
    bare = html.page(run, report(methods=("random", "GRM")), contents=unknown)
    for text in ("ignore known links by half", "(grey) and of the long tail", "Friends"):
        assert text in page
        assert text not in bare
    assert "The catalogue is missing or has changed" in bare
    assert "Not stated. The mapping file" in bare


def test_the_page_of_a_catalogue_that_is_gone_is_made_without_it(home, tmp_path):
    run = runs.read(home / "run")
    gone = replace(run, manifest=run.manifest | {"catalogue_folder": str(tmp_path)})
    assert contents.collect(gone).described == ()
    with pytest.raises(ArtifactError, match=r"catalogue.json is missing"):
        contents.collect(run, catalogue_folder=tmp_path)
    tables.write_catalogue(small_world(groups=2, size=9), tmp_path)
    with pytest.raises(ArtifactError, match="is not the catalogue that"):
        contents.collect(run, catalogue_folder=tmp_path)


def test_samples_are_drawn_by_seed_from_both_ends(home):
    run = runs.read(home / "run")
    known, tail = contents.collect(run, seed=1).samples
    assert (len(known), len(tail)) == (contents.SAMPLES, contents.SAMPLES)
    assert all(x.queries[0].relations > 0 for x in known)
    assert all(x.queries[0].relations == 0 for x in tail)
    assert contents.collect(run, seed=1).samples == (known, tail)


def test_items_are_counted_once_for_each_list_they_stand_in(home, monkeypatch):
    run = runs.read(home / "run")
    found = contents.collect(run)
    (counts,) = found.appearances.values()
    assert counts.sum() == 10 * len(found.long_tail)
    monkeypatch.setattr(contents, "MOST_QUERIES", 23)
    few = contents.collect(run)
    (counts,) = few.appearances.values()
    assert len(counts) == len(few.long_tail) == 23
    assert counts.sum() == 10 * 23


def test_a_run_without_a_report_of_its_training_says_what_to_do(home, tmp_path):
    run = replace(runs.read(home / "run"), folder=home / "run")
    place = formats.path_of(run)
    assert place == home / "run" / "report.json"
    kept = place.read_bytes()
    try:
        formats.write(report(content="of another training"), place.parent)
        found = CliRunner().invoke(cli, ["report", str(home / "run"), str(tmp_path / "x.html")])
    finally:
        place.write_bytes(kept)
    assert found.exit_code == 1
    assert f"make it with: undersong evaluate {home / 'run'}" in found.stderr
    assert not (tmp_path / "x.html").exists()


def test_the_command_writes_one_file_beside_the_run(home):
    found = CliRunner().invoke(cli, ["report", str(home / "run")])
    assert found.exit_code == 0, found.output
    assert re.fullmatch(r".*report.html: 0\.\d MB\n", found.stdout)
    assert (home / "run" / "report.html").read_text().endswith("</html>\n")


def test_a_catalogue_keeps_its_origins_and_they_train_nothing_anew(home, tmp_path):
    world = tables.read_catalogue(home / "catalogue")
    assert world.origins[1] == Origin("Friends", "unknown")
    tables.write_catalogue(replace(world, origins=()), tmp_path)
    assert tables.fingerprint(tmp_path) == tables.fingerprint(home / "catalogue")
    with pytest.raises(ValueError, match="needs `licence`"):
        Origin("Friends")


def test_text_and_attributes_are_escaped_and_markup_is_not():
    assert tag("p", "<", Markup("<b>"), None, title='"') == '<p title="&#34;">&lt;<b></p>'
    assert tag("rect", x=1.5, y=2.0, width=1 / 3) == '<rect x="1.5" y="2" width="0.33"></rect>'
    assert tag("a", class_="x", aria_label="y", href=None) == '<a class="x" aria-label="y"></a>'


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)), (0, 0.07, (0, 0.02, 0.04, 0.06)), (3, 3, (3,))],
)
def test_ticks_are_round_numbers(low, high, expected):
    assert plots.ticks(low, high) == expected


def test_labels_that_would_touch_are_moved_apart_in_their_order():
    moved = plots.apart([50, 51, 52, 9, 120], gap=10, low=0, high=100)
    assert moved == [50, 60, 70, 9, 100]
    assert np.diff(plots.apart([99, 98, 97], gap=10, low=0, high=100)).tolist() == [-10, -10]


@pytest.mark.parametrize("relations", [[0], [0, 0, 0], [5, 4], [900, 30, 1, 0, 0]])
def test_the_long_tail_is_drawn_for_any_relations(relations):
    drawn = plots.long_tail(np.array(relations, dtype=np.int64))
    share = relations.count(0) / len(relations)
    assert plots.percent(share) in drawn


def test_the_map_writes_no_two_labels_over_each_other():
    places = np.random.default_rng(1).uniform(-1, 1, (57, 2)).astype(np.float32)
    regions = (("folk", 0.1, 0.1, 30), ("folk rock", 0.11, 0.1, 20), ("noise", -0.8, 0.5, 7))
    drawn = plots.item_map(contents.ItemMap(places, places[:, 0] > 0.4, regions))
    assert re.findall(r'class="region"[^>]*>([^<]+)<', drawn) == ["folk", "noise"]
    assert drawn.count("h0") == 57


def test_a_shelf_s_page_shows_the_map(home):
    folder = home / "shelf"
    run = runs.read(home / "run")
    with runs.publishing(folder, {k: run.manifest[k] for k in run.manifest if k != "files"}) as to:
        for name in run.manifest["files"]:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes(run.file(name).read_bytes())
        projection.make(run, to, seed=2)
    published = contents.collect(runs.read(folder))
    assert published.map is not None
    assert published.map.long_tail.sum() == (run.items("artist")["relations"] == 0).sum() - 1
    page = Structure(html.page(runs.read(folder), report(), contents=published))
    assert page.open == []
    assert "map" in {x.get("id") for x in page.all("section")}
    assert "#map" in {x["href"] for x in page.all("a")}


def test_finding_is_shown_by_relations_and_by_popularity_of_who_asks(home):
    run = runs.read(home / "run")
    names = ("all", "long tail", "visible degree 1-2", "popularity 0-20 %", "popularity 80-100 %")
    slices = tuple(Slice(name, 90 - k, 70 - k, numbers(0.1 * k)) for k, name in enumerate(names))
    slices = tuple(
        replace(x, numbers={m: {**y, "recall@10": y["hit@10"]} for m, y in x.numbers.items()})
        for x in slices
    )
    judged = report()
    found = Protocol("found", "Known ones ask.", 853, 7, 0, slices)
    judged = replace(judged, protocols=(*judged.protocols, found))
    text = html.page(run, judged, contents=contents.collect(run))
    assert "links found (recall@10) by number of links, with" in text
    assert "links found (recall@10) by popularity of the query, with" in text
    assert "links found (recall@10) in found, by popularity of the query" in text
    assert "Who finds unlinked items <small>found</small>" in text
    assert "popularity 80-100 % (66)" in text


def test_a_learned_order_s_page_shows_how_often_its_confidence_was_right(home):
    run = runs.read(home / "run")
    ranking = {
        "reliability": [[0.004, 0.003, 5479], [0.51, 0.49, 583]],
        "reliability of unlinked": [[0.006, 0.005, 2741], [0.43, 0.37, 97]],
    }
    learned = replace(run, manifest=run.manifest | {"ranking": ranking})
    text = html.page(learned, report(), contents=contents.collect(run))
    assert "How far to trust the confidence" in text
    assert '<tr><th scope="row">51 %</th><td>49 %</td><td>583</td></tr>' in text
    assert '<tr><th scope="row">43 %</th><td>37 %</td><td>97</td></tr>' in text
    assert text.index("linked candidates") < text.index("unlinked candidates")
    assert "somebody who looked at both would list the pair" in text
    assert "no learned order was better" not in text
