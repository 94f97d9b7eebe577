"""Reasons: shares add up, the source named first matters most, and every word is true."""

import json
import re
import shutil
from dataclasses import asdict, replace

import numpy as np
import polars as pl
import pytest
import torch
from click.testing import CliRunner

from planted import QUICK_SETTINGS, small_world
from random_evidence import random_evidence, random_network, ranker_of
from undersong import features as inputs, runs
from undersong.catalogue import tables
from undersong.catalogue.tables import Field
from undersong.cli.main import cli
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError, DataError, UnknownItem
from undersong.explanation import ablation, data, explain, reasons as wording
from undersong.explanation.data import Background
from undersong.explanation.explain import explain_pairs, of_cosines
from undersong.explanation.reasons import KnownOfItem
from undersong.model import Model
from undersong.models.general import training
from undersong.models.general.network import GeneralModel, GeneralSettings
from undersong.pipeline.run_settings import read_settings
from undersong.pipeline.train import train_run
from undersong.ranking.ranker import KNOWN, rerank
from undersong.retrieval.index import Index
from undersong.retrieval.run_index import open_index

GROUPS = {"audio": ("sound",), "genres and tags": ("tags",)}


@pytest.fixture(scope="module")
def home(reading_home):
    """A catalogue and a trained run of it, which answers by cosine."""
    return reading_home


@pytest.fixture(scope="module")
def opened(home):
    run = runs.read(home / "run")
    return run, open_index(run, "artist"), data.read_background(run, "artist")


@pytest.fixture(scope="module")
def every_reason(opened):
    """Rows and reasons of every pair of the small world."""
    _, index, known = opened
    n = len(index.embeddings.ids)
    return [
        (row, int(other), why)
        for row in range(n)
        for others in [np.delete(np.arange(n), row)]
        for other, why in zip(others, explain_pairs(index, known, row, others), strict=True)
    ]


def total(why):
    return why.start + sum(x.share for x in why.contributions)


def test_the_shares_of_every_pair_add_up_to_the_cosine(opened, every_reason):
    vectors = opened[1].embeddings.vectors.astype(np.float64)
    count = 0
    for row, other, why in every_reason:
        assert total(why) == pytest.approx(why.score, abs=1e-5)
        assert why.score == pytest.approx(float(vectors[row] @ vectors[other]), abs=1e-5)
        assert (why.confidence, why.candidate) == (None, True)
        count += 1
    assert count == 84 * 83


def test_removing_the_source_named_first_changes_the_cosine_most(opened, every_reason):
    """E_G is computed again with each source hidden from both, by the trained network itself."""
    run, index, known = opened
    world = small_world()
    model = training.load_general(run.file("weights/general.safetensors"))
    encoders = inputs.from_json(json.loads(run.file("encoders.json").read_text())["encoders"])
    given = {name: run.embeddings("artist", name) for name in ("content", "interaction")}
    ids = index.embeddings.ids
    table = world.artists.filter(pl.col("id").is_in(list(ids)))
    sources = inputs.read(table, encoders, given)
    hidden = {
        name: ablation.without(model, sources, members, device="cpu").astype(np.float64)
        for name, members in known.groups.items()
    }
    right = []
    for row, other, why in every_reason:
        effects = {
            name: why.score - float(vectors[row] @ vectors[other])
            for name, vectors in hidden.items()
        }
        named = why.contributions[0]
        right.append(abs(effects[named.source]) >= max(map(abs, effects.values())) - 1e-6)
        for part in why.contributions:
            assert part.effect == pytest.approx(effects[part.source], abs=3e-3)
    assert np.mean(right) > 0.99


def test_by_cosine_both_ways_have_the_same_reasons(opened):
    _, index, known = opened
    for a, b in [(3, 40), (7, 8), (70, 81)]:
        (one,), (two,) = (
            explain_pairs(index, known, a, np.array([b])),
            explain_pairs(index, known, b, np.array([a])),
        )
        assert (one.asked, one.answered) == (two.answered, two.asked)
        shares = {x.source: x.share for x in one.contributions}
        assert {x.source: x.share for x in two.contributions} == pytest.approx(shares, abs=1e-5)
        assert (one.tags, one.through, one.related_by) == (two.tags, two.through, two.related_by)
        assert one.listeners_shared == two.listeners_shared
        assert (one.tracks.asked, one.tracks.answered) == (two.tracks.answered, two.tracks.asked)


def test_what_is_shared_is_what_the_catalogue_says(opened, every_reason):
    """Against plain sets made of the tables."""
    world = small_world()
    tags = dict(world.artists.select("id", "genre").iter_rows())
    players, related = {}, {}
    for user, item in world.plays.collect().select("user", "item").iter_rows():
        players.setdefault(item, set()).add(user)
    for a, b in world.relations.select("a", "b").iter_rows():
        related.setdefault(a, set()).add(b)
        related.setdefault(b, set()).add(a)
    names = dict(zip(world.ids("artist"), world.names("artist"), strict=True))
    seen = {"tag": 0, "listeners": 0, "through": 0, "related": 0}
    for _, _, why in every_reason:
        a, b = why.asked.item, why.answered.item
        same = {tags[a]} & {tags[b]} - {None}
        assert {x.tag for x in why.tags} == same
        assert all(x.items == sum(y == x.tag for y in tags.values()) for x in why.tags)
        both = players.get(a, set()) & players.get(b, set())
        assert why.listeners_shared == len(both)
        common = related.get(a, set()) & related.get(b, set())
        assert why.relations_shared == len(common)
        assert set(why.through) <= {names[x] for x in common}
        assert len(why.through) == min(5, len(common))
        assert why.related_by == ("editors" if b in related.get(a, set()) else None)
        assert why.asked.relations == len(related.get(a, set()))
        assert why.asked.listeners == len(players.get(a, set()))
        seen["tag"] += len(same)
        seen["listeners"] += len(both)
        seen["through"] += len(common)
        seen["related"] += why.related_by is not None
    assert min(seen.values()) > 100


def test_what_items_share_is_the_same_in_blocks_of_any_size(home, monkeypatch):
    catalogue = tables.read_catalogue(home / "catalogue")
    encoders = inputs.fit(catalogue, "artist", np.ones(len(catalogue.artists), dtype=bool))
    sources = inputs.read_sources(catalogue, "artist", encoders, {})
    groups = data.groups_of([x.name for x in sources], catalogue.fields_of("artist"))
    heard, steps = catalogue.ids("track")[:11], []

    def make():
        return data.make(
            catalogue,
            "artist",
            sources,
            groups=groups,
            heard=heard,
            progress=lambda stage, done, total, note="": steps.append((stage, done, total)),
        )

    whole = make()
    assert whole["related"].list.len().sum() == 2 * len(catalogue.pairs("artist"))
    monkeypatch.setattr(data, "BLOCK", 7)
    assert make().equals(whole)
    blocks = -(-len(whole) // 7)
    assert ("what items share", blocks, blocks) in steps


def test_the_closest_tracks_are_the_closest(opened, every_reason):
    run = opened[0]
    content = run.embeddings("track", "content")
    titles = dict(run.items("track").select("id", "name").iter_rows())
    for row, _, why in every_reason:
        if row % 9:
            continue
        cosines = {
            (f"{why.asked.item}-{i}", f"{why.answered.item}-{j}"): float(
                content.vectors[content.index[f"{why.asked.item}-{i}"]]
                @ content.vectors[content.index[f"{why.answered.item}-{j}"]]
            )
            for i in range(2)
            for j in range(2)
        }
        best = max(cosines, key=cosines.get)
        assert (why.tracks.asked, why.tracks.answered) == best
        assert why.tracks.cosine == pytest.approx(cosines[best], abs=1e-5)
        assert why.tracks.asked_title == titles[best[0]]


def test_sentences_on_what_is_not_known_are_true(opened, every_reason):
    """Each statement in a sentence is looked up in the catalogue, and none is left out."""
    world = small_world()
    facts = {x["id"]: x for x in world.artists.iter_rows(named=True)}
    linked = set(world.relations["a"]) | set(world.relations["b"])
    played = set(world.plays.collect()["item"])
    said = {}
    for _, _, why in every_reason:
        for one in (why.asked, why.answered):
            mine = [x for x in why.unknown if x.startswith(f"Not known about {one.name}: ")]
            said.setdefault(one.item, set()).add(mine[0] if mine else "")
    assert len(said) == 84
    for item, (sentence,) in ((x, tuple(y)) for x, y in said.items()):
        lacking, _, rest = sentence.partition(": ")[2].partition(".")
        words = set(re.split(", | and ", lacking.replace("genres and", "genres &")))
        assert ("links" in words) == (item not in linked)
        assert ("listeners" in words) == (item not in played)
        named = {"genre": "genres & tags", "country": "region", "fame": "popularity"}
        assert {x for x in named.values() if x in words} == {
            named[x] for x in named if facts[item][x] is None
        }
        if sentence:
            assert ("1 tag" in rest) == (facts[item]["genre"] is not None)
            assert "audio" in rest
    assert sum(1 for x in said.values() if x == {""}) > 5
    assert sum("listeners" in next(iter(x)) for x in said.values()) >= 4


def test_words_say_what_the_data_says():
    item = KnownOfItem("x", "Ann", ("audio", "genres and tags"), tags=2, relations=0, listeners=0)
    groups = ("audio", "listeners", "genres and tags", "first_decade")
    assert wording.unknown(item, groups) == (
        "Not known about Ann: links, listeners and first decade. Answers rest on audio and 2 tags."
    )
    heard = replace(item, listeners=1, relations=1, sources=("genres and tags",), tags=1)
    assert wording.unknown(heard, ("listeners", "genres and tags")) == (
        "Not known about Ann: enough listeners to learn from. Answers rest on 1 tag and 1 known "
        "link."
    )
    whole = replace(item, sources=groups, relations=4, listeners=3)
    assert wording.unknown(whole, groups) is None
    assert wording.unknown(replace(whole, listeners=None), ("audio",)) is None
    alone = replace(item, sources=(), relations=3, tags=0, listeners=None)
    assert wording.unknown(alone, ("audio",)) == (
        "Not known about Ann: audio. Answers rest on 3 known links."
    )


@pytest.fixture(scope="module")
def learned(tmp_path_factory):
    """A learned order of 137 items with random weights in every part, and what explains it."""
    evidence = random_evidence()
    model = GeneralModel([4, 9], GeneralSettings(width=24, fields=3, heads=2, out=14)).eval()
    torch.manual_seed(9)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    lacking = np.all([x.missing for x in evidence.sources], axis=0)
    vectors = training.embed(model, evidence.sources, device="cpu")
    vectors[lacking] = 0
    evidence = replace(evidence, vectors=vectors)
    n, told = len(vectors), np.flatnonzero(~lacking)
    path = tmp_path_factory.mktemp("learned") / "without.npy"
    ablation.write_without(
        path,
        model,
        inputs.rows_of(evidence.sources, told),
        vectors=vectors[told],
        groups=GROUPS,
        device="cpu",
    )
    ids = tuple(f"i{x}" for x in range(n))
    sources = [
        [g for g, x in zip(GROUPS, evidence.sources, strict=True) if not x.missing[row]]
        for row in range(n)
    ]
    related = [evidence.relations[row].indices.tolist() for row in range(n)]
    table = pl.DataFrame(
        {
            "id": ids,
            "sources": sources,
            "tags": [[]] * n,
            "listeners": [[]] * n,
            "related": related,
            "said_by": [["fans"] * len(x) for x in related],
            "tracks": [[]] * n,
        },
        schema_overrides={
            "tags": pl.List(pl.String),
            "listeners": pl.List(pl.UInt32),
            "tracks": pl.List(pl.String),
        },
    )
    index = Index(Embeddings(ids, vectors), ranker_of(random_network(evidence), evidence), evidence)
    without = np.load(path, mmap_mode="r")
    return model, index, Background(GROUPS, without, table, None, ids, {})


@pytest.mark.parametrize("long_tail", [-0.6, 0.0, 0.3, 1.0])
def test_the_shares_of_every_pair_add_up_to_the_learned_score(learned, long_tail):
    _, index, known = learned
    count = 0
    for row in np.flatnonzero(index.evidence.known)[::3]:
        found = rerank(index.ranker, index.evidence, np.array([row]), long_tail=long_tail)
        others = found.candidates[0][found.candidates[0] >= 0]
        listed = explain_pairs(index, known, int(row), others, long_tail=long_tail)
        for why, score, sure in zip(listed, found.scores[0], found.confidence[0], strict=False):
            assert total(why) == pytest.approx(why.score, abs=1e-5)
            assert why.score == pytest.approx(float(score), abs=1e-5)
            assert why.confidence == pytest.approx(float(sure), abs=1e-6)
            assert why.candidate
            effects = [abs(x.effect) for x in why.contributions]
            assert effects == sorted(effects, reverse=True)
            assert (why.related_by == "fans") == (why.score > KNOWN / 2)
            count += 1
    assert count > 700


def test_an_effect_is_what_the_ranker_says_of_features_without_the_source(learned):
    """The columns are made again in plain words from the list of answers."""
    _, index, known = learned
    names = list(index.ranker.names)
    tags = list(GROUPS).index("genres and tags")
    hidden = np.where(known.place[:, None] >= 0, known.without[known.place, tags], 0)
    hidden = hidden.astype(np.float32)
    checked = 0
    for row in np.flatnonzero(index.evidence.embedded)[[2, 35, 71]].tolist():
        found = rerank(index.ranker, index.evidence, np.array([row]))
        features, items = found.gathered.features[0], found.candidates[0]
        listed = explain_pairs(index, known, row, items[items >= 0])
        for at, why in enumerate(listed):
            changed = features[at].copy()
            cosine = float(hidden[row] @ hidden[items[at]])
            bare = [not hidden[x].any() for x in (row, items[at])]
            rivals = [
                x[names.index("cosine")]
                for place, x in enumerate(features[: len(listed)])
                if place != at and not x[names.index("no E_G of candidate")]
            ]
            changed[names.index("cosine")] = 0 if any(bare) else cosine
            place = len(rivals) if any(bare) else sum(x > cosine for x in rivals)
            changed[names.index("rank of cosine")] = np.log1p(place)
            changed[names.index("same tags")], changed[names.index("no tags")] = 0, 1
            for item, gone in zip(("query", "candidate"), bare, strict=True):
                if gone:
                    changed[names.index(f"no E_G of {item}")] = 1
                    changed[names.index(f"crowd of {item}")] = 0
            scores = index.ranker.weigh(np.stack([features[at], changed]))
            found_effect = {x.source: x.effect for x in why.contributions}
            if (
                "genres and tags" in found_effect
                and features[at][names.index("no E_G of candidate")] == 0
            ):
                wanted = float(scores[0] - scores[1])
                assert found_effect["genres and tags"] == pytest.approx(wanted, abs=1e-3)
                checked += 1
    assert checked > 30


def test_without_relations_means_the_order_that_knows_none(learned):
    _, index, known = learned
    for row in (0, 21, 50):
        others = np.array([x for x in (4, 9, 33, 90) if x != row])
        seen = explain_pairs(index, known, row, others)
        features = rerank(
            index.ranker, index.evidence, np.array([row]), also=others.tolist()
        ).gathered
        where = {int(x): at for at, x in enumerate(features.candidates[0])}
        blind = index.ranker.weigh(features.features[0], index.evidence.on_relations)
        for other, why in zip(others, seen, strict=True):
            if why.candidate:
                continue  # its places were counted in the shorter list
            part = next(x for x in why.contributions if x.source == "relations")
            assert why.score - part.effect == pytest.approx(
                float(blind[where[int(other)]]), abs=1e-4
            )


@pytest.fixture(scope="module")
def looked_up(learned, tmp_path_factory):
    """The same with the first answers computed before."""
    _, index, known = learned
    path = tmp_path_factory.mktemp("first") / "first.npy"
    rows = np.arange(len(known.ids))
    explain.write(path, index.ranker, index.evidence, background=known, rows=rows)
    return replace(known, first=np.load(path, mmap_mode="r"))


def test_reasons_looked_up_are_those_computed(learned, looked_up):
    _, index, known = learned
    for row in np.flatnonzero(index.evidence.known)[::9].tolist():
        items = rerank(index.ranker, index.evidence, np.array([row])).candidates[0]
        others = items[: explain.LENGTH][items[: explain.LENGTH] >= 0][::-1]
        assert explain.look_up(looked_up.first, row, others) is not None
        now, before = (
            explain_pairs(index, known, row, others),
            explain_pairs(index, looked_up, row, others),
        )
        for one, two in zip(now, before, strict=True):
            assert total(two) == pytest.approx(two.score, abs=1e-5)
            assert two.score == pytest.approx(one.score, abs=1e-5)
            assert two.confidence == pytest.approx(one.confidence, abs=1e-5)
            shares = {x.source: x.share for x in one.contributions}
            assert {x.source: x.share for x in two.contributions} == pytest.approx(shares, abs=1e-3)


def test_what_was_not_computed_is_computed_now(learned, looked_up):
    _, index, known = learned
    items = rerank(index.ranker, index.evidence, np.array([12])).candidates[0]
    mixed = items[[2, explain.LENGTH + 1]]
    assert explain.look_up(looked_up.first, 12, mixed) is None
    assert explain_pairs(index, looked_up, 12, mixed) == explain_pairs(index, known, 12, mixed)
    turned = explain_pairs(index, looked_up, 12, items[:4], long_tail=0.7)
    assert turned == explain_pairs(index, known, 12, items[:4], long_tail=0.7)


def test_one_that_is_no_candidate_has_a_score_all_the_same(learned):
    _, index, known = learned
    found = rerank(index.ranker, index.evidence, np.array([4]))
    far = np.setdiff1d(np.flatnonzero(index.evidence.known), [*found.candidates[0], 4])[:6]
    for why in explain_pairs(index, known, 4, far):
        assert not why.candidate
        assert total(why) == pytest.approx(why.score, abs=1e-5)
    assert len(far) == 6


def test_items_with_one_source_are_explained_by_it_alone(learned):
    _, index, known = learned
    audio = [row for row, x in enumerate(known.table["sources"].to_list()) if x == ["audio"]]
    assert len(audio) > 5
    plain = Index(index.embeddings)
    for why in explain_pairs(plain, known, audio[0], np.array(audio[1:])):
        (part,) = why.contributions
        assert (part.source, part.known_of) == ("audio", "both")
        assert part.share == pytest.approx(why.score, abs=1e-6)
        assert part.effect == pytest.approx(why.score, abs=1e-6)
    for why in explain_pairs(index, known, audio[0], np.array(audio[1:])):
        assert {x.source for x in why.contributions} == {"audio", "relations"}


def test_a_source_of_one_item_alone_says_so(learned):
    _, index, known = learned
    only = next(row for row, x in enumerate(known.table["sources"].to_list()) if x == ["audio"])
    rich = next(row for row, x in enumerate(known.table["sources"].to_list()) if len(x) == 2)
    plain = Index(index.embeddings)
    (why,) = explain_pairs(plain, known, only, np.array([rich]))
    assert {x.source: x.known_of for x in why.contributions} == {
        "audio": "both",
        "genres and tags": "answered",
    }


def test_an_effect_that_raises_the_score_is_no_share_of_it():
    split = of_cosines(
        np.array([0.8, 0.5], np.float32),
        np.array([[0.5, 0.9, 0.8], [0.9, 0.9, 0.5]], np.float32),
        ("audio", "listeners", "region"),
        informed=np.ones((2, 3), dtype=bool),
    )
    np.testing.assert_allclose(split.effects, [[0.3, -0.1, 0], [-0.4, -0.4, 0]], atol=1e-6)
    np.testing.assert_allclose(split.shares, [[0.9, -0.1, 0], [-0.4, -0.4, 0]], atol=1e-6)
    np.testing.assert_allclose(split.start, [0, 1.3], atol=1e-6)


def test_fields_are_grouped_by_what_they_say():
    fields = (
        Field("mood", "artist", "tags"),
        Field("style", "artist", "category", "genre"),
        Field("land", "artist", "category", "region"),
        Field("fame", "artist", "number", "popularity"),
        Field("tempo", "artist", "number"),
        Field("relations", "artist", "number"),
    )
    names = ["content", "interaction", *(x.name for x in fields)]
    assert data.groups_of(names, fields) == {
        "audio": ("content",),
        "listeners": ("interaction",),
        "genres and tags": ("mood", "style"),
        "region": ("land",),
        "popularity": ("fame",),
        "tempo": ("tempo",),
        "field relations": ("relations",),
    }


def call(*words, code=0):
    result = CliRunner().invoke(cli, [str(x) for x in words])
    assert result.exit_code == code, result.output
    return result


def test_the_command_shows_the_reasons(home, opened):
    shown = call("explain", home / "run", "artist 03", "ANDERUNG").stdout
    assert shown.startswith("Artist 03 (a03) and Änderung (a83): cosine ")
    found = json.loads(call("explain", home / "run", "a03", "a83", "--json").stdout)
    why = Model(opened[0]).explain("a03", "a83")
    assert found == json.loads(json.dumps(asdict(why)))
    assert f"{why}\n" == shown
    parts = [float(x) for x in re.findall(r"^   (?:for|against) +(\d+)%", shown, re.M)]
    assert 95 <= sum(parts) <= 105
    assert call("explain", home / "run", "a03", "a83", "--details").stdout == (
        f"{why}\n\n{why.details()}\n"
    )
    assert f"{why.start:+8.3f}              starting point" in why.details()
    assert why.frame()["share"].sum() == pytest.approx(why.score - why.start)
    assert why._repr_html_().startswith("<div><p>Artist 03 (a03) and Änderung (a83): cosine ")
    assert call("explain", home / "run", "a03", "a83", "--paper").stdout == shown


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("a03", "Artist O3"), "no item 'Artist O3' among 85; did you mean"),
        (("a03", "Artist 03"), "'a03' is not compared with itself"),
        (("a84", "a03"), "nothing is known about 'a84'"),
        (("a03", "a05", "--long-tail", "0.5"), "long_tail is 0.5"),
        (("a03-0", "a05-1", "--tracks"), "trained on artists and can explain these alone"),
    ],
)
def test_a_question_without_an_answer_is_refused_in_one_line(home, words, message):
    result = call("explain", home / "run", *words, code=1)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_ambiguous_name_is_said(tmp_path):
    world = small_world()
    twice = world.artists.with_columns(
        pl.when(pl.col("id") == "a05").then(pl.lit("artist 07")).otherwise("name").alias("name")
    )
    tables.write_catalogue(replace(world, artists=twice), tmp_path / "catalogue")
    (tmp_path / "quick.toml").write_text(QUICK_SETTINGS)
    settings = read_settings(tmp_path / "quick.toml")
    train_run(tmp_path / "catalogue", tmp_path / "run", settings=settings)
    result = call("explain", tmp_path / "run", "ARTIST 07", "a09")
    assert "'ARTIST 07' may also be: " in result.stderr


def broken(home, tmp_path, name, content):
    folder = tmp_path / "run"
    shutil.copytree(home / "run", folder)
    file = folder / "generations" / "1" / name
    manifest = json.loads((file.parents[1] / "manifest.json").read_text())
    del manifest["sum"]  # it is edited on purpose
    if content is None:
        del manifest["files"][name]
    else:
        content(file)
        from undersong.io.files import sha256

        manifest["files"][name] = sha256(file)
    (file.parents[1] / "manifest.json").write_text(json.dumps(manifest))
    return runs.read(folder)


def test_a_run_from_before_reasons_says_what_to_do(home, tmp_path):
    run = broken(home, tmp_path, data.ITEMS, None)
    with pytest.raises(ArtifactError, match="published before answers had reasons; train again"):
        data.read_background(run, "artist")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (data.ITEMS, lambda x: x.write_bytes(b"PK"), "cannot be read"),
        (
            data.ITEMS,
            lambda x: pl.read_parquet(x).write_parquet(x),
            "format None, but this version reads 1",
        ),
        (data.WITHOUT, lambda x: x.write_bytes(b"\x80\x04K."), "cannot be read"),
        (
            data.WITHOUT,
            lambda x: np.save(x, np.zeros((3, 5, 12), np.float16)),
            r"is of shape \(3, 5, 12\), but .* speaks of 84 items and 5 sources",
        ),
    ],
)
def test_a_damaged_file_of_reasons_is_refused(home, tmp_path, name, content, message):
    run = broken(home, tmp_path, name, content)
    with pytest.raises(ArtifactError, match=message):
        data.read_background(run, "artist")


def test_an_unknown_name_says_which_are_like_it(opened):
    model = Model(opened[0])
    with pytest.raises(UnknownItem, match="did you mean 'Änderung'"):
        model.explain("Anderunk", "a03")
    with pytest.raises(DataError, match="name two items"):
        model.explain("a03", "a03")


def test_an_item_added_after_the_training_has_no_reasons_yet(opened):
    _, index, known = opened
    old = replace(known, table=known.table.filter(pl.col("id") != "a03"))
    asked, answered = index.embeddings.index["a05"], index.embeddings.index["a03"]
    with pytest.raises(DataError, match="'a03' was added after the training, .* train again"):
        explain_pairs(index, old, asked, np.array([answered]))
