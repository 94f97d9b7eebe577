"""What a listener may like: tastes take turns, seeds are no answers, every answer has its seed."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from planted import small_world
from undersong import runs
from undersong.catalogue import attributes, tables
from undersong.catalogue.names import Names
from undersong.cli.main import cli
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError, UnknownItem
from undersong.retrieval.index import Index
from undersong.retrieval.query import Query
from undersong.retrieval.recommend import (
    Seeds,
    group,
    listeners_of,
    read_seeds,
    recommend,
    seeds_of_user,
)

WORLD = small_world()
IDS = WORLD.ids("artist")[:84]
LABEL = np.arange(84) % 5


def planted_index(*, spread=0.2, seed=8):
    """Vectors of 84 artists around the centres of their five groups."""
    generator = np.random.default_rng(seed)
    centre = unit(generator.normal(size=(5, 11)).astype(np.float32))
    vectors = centre[LABEL] + spread * generator.normal(size=(84, 11)).astype(np.float32)
    return Index(Embeddings(IDS, unit(vectors.astype(np.float32))))


def ids_of_group(label, count):
    return [IDS[x] for x in np.flatnonzero(label == LABEL)[:count]]


def test_tastes_take_turns_in_proportion_and_no_seed_is_an_answer():
    index = planted_index()
    own = ids_of_group(1, 4) + ids_of_group(3, 4)
    seeds = Seeds(tuple(own), (20.0,) * 4 + (2.0,) * 4)
    found = recommend(index, seeds, query=Query(k=12), tastes=2)
    share = np.log1p(20) / (np.log1p(20) + np.log1p(2))
    assert LABEL[found.rows].tolist().count(1) == round(12 * share) == 9
    assert LABEL[found.rows].tolist().count(3) == 3
    assert not {IDS[x] for x in found.rows} & set(own)
    assert (LABEL[found.seeds] == LABEL[found.rows]).all()
    assert (found.tastes == (LABEL[found.rows] == 3)).all()


def listening_of(world):
    """Each item of the index -> {user: ln(1 + plays)} of unit length."""
    rows = {item: {} for item in IDS}
    for kind, user, item, plays in world.plays.collect().rows():
        if kind == "artist" and item in rows and plays > 0:
            rows[item][user] = np.log1p(plays)
    found = []
    for own in rows.values():
        length = np.sqrt(sum(x * x for x in own.values())) or 1.0
        found.append({user: x / length for user, x in own.items()})
    return found


def dot(one, other):
    return sum(x * other.get(user, 0.0) for user, x in one.items())


@pytest.mark.parametrize("heard", [True, False])
def test_scores_of_one_taste_are_those_of_the_slow_loop(heard):
    index = planted_index(spread=0.7)
    seeds = Seeds((IDS[2], IDS[30], IDS[44]), (9.0, 3.0, 1.0))
    units = listeners_of(WORLD, "artist", IDS) if heard else None
    found = recommend(index, seeds, query=Query(k=7), heard=units, tastes=1)
    listens = listening_of(WORLD)
    own = [index.embeddings.index[x] for x in seeds.ids]
    scores, best = {}, {}
    for row, plays in zip(own, seeds.plays, strict=True):
        cosine = index.embeddings.vectors @ index.embeddings.vectors[row]
        cosine[own] = -np.inf
        for rank, item in enumerate(np.argsort(-cosine)[:81], start=1):
            alike = dot(listens[row], listens[item]) if heard else 0.0
            part = np.log1p(plays) * (alike + 3 / (10 + rank))
            scores[item] = scores.get(item, 0) + part
            best[item] = max(best.get(item, (0, 0)), (part, row))
    expected = sorted(scores, key=lambda x: -scores[x])[:7]
    assert found.rows.tolist() == expected
    np.testing.assert_allclose(found.scores, [scores[x] for x in expected], rtol=1e-9)
    assert found.seeds.tolist() == [best[x][1] for x in expected]


def test_tastes_are_groups_of_near_seeds_and_those_without_a_vector_join_the_heaviest():
    vectors = np.array([[1, 0], [0, 1], [0.99, 0.1], [0, 0], [0.1, 0.99], [0.98, 0.2]], np.float32)
    weights = np.array([1.0, 2.0, 1.0, 9.0, 3.0, 1.0])
    groups = group(unit(vectors), weights, most=2)
    assert [x.tolist() for x in groups] == [[1, 3, 4], [0, 2, 5]]
    assert [x.tolist() for x in group(unit(vectors), weights, most=1)] == [[0, 1, 2, 3, 4, 5]]
    assert len(group(unit(vectors[:1]), weights[:1], most=3)) == 1


def test_filters_choose_among_the_answers_and_say_why_there_is_none():
    index = planted_index()
    known = attributes.Attributes(
        attributes.make_attributes(WORLD).filter(pl.col("kind") == "artist")
    ).of(IDS)
    seeds = Seeds((IDS[1],), (1.0,))
    request = Query(k=5, regions=frozenset({"x"}))
    found = recommend(index, seeds, query=request, attributes=known)
    assert set(known.table["region"].gather(found.rows)) == {"x"}
    elsewhere = known.table.filter(pl.col("region") == "y")["id"][0]
    alone = Query(k=5, regions=frozenset({"x"}), library=frozenset({elsewhere}))
    nothing = recommend(index, seeds, query=alone, attributes=known)
    assert len(nothing.rows) == 0
    assert nothing.note
    assert len(recommend(index, seeds, query=Query(k=10**6)).rows) == 83
    own = Query(k=5, library=frozenset({IDS[1]}))
    with pytest.raises(DataError, match="are excluded, too; nothing is left"):
        recommend(index, seeds, query=own)


def test_seeds_that_nothing_is_known_of_are_refused():
    index = planted_index()
    with pytest.raises(DataError, match="nothing is known of the 1 seeds but their names"):
        recommend(index, Seeds(("a84",), (1.0,)), query=Query())
    with pytest.raises(DataError, match="tastes is 0"):
        recommend(index, Seeds(("a01",), (1.0,)), query=Query(), tastes=0)


def names():
    bare = {"about": pl.lit(""), "relations": pl.lit(1), "popularity": pl.col("fame")}
    return Names(WORLD.artists.head(84).select("id", "name", **bare))


def test_plays_are_read_by_id_or_name_and_unknown_words_are_listed(tmp_path):
    path = tmp_path / "plays.csv"
    path.write_text("name,plays\nArtist 07,3\nanderung,5\nNobody,9\nartist 07,4\nArtist 09,0\n")
    assert read_seeds(path, names()) == Seeds(("a07", "a83"), (7.0, 5.0), ("Nobody",))
    pl.read_csv(path).rename({"name": "id"}).write_parquet(tmp_path / "plays.parquet")
    assert read_seeds(tmp_path / "plays.parquet", names()).ids == ("a07", "a83")
    path.rename(tmp_path / "LOUD.CSV")
    assert read_seeds(tmp_path / "LOUD.CSV", names()).plays == (7.0, 5.0)
    (tmp_path / "plays.txt").write_text("a05\n\nArtist 06\n")
    assert read_seeds(tmp_path / "plays.txt", names()) == Seeds(("a05", "a06"), (1.0, 1.0))


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("whom,plays\nx,1\n", DataError, "no column 'id' or 'name'; it has whom, plays"),
        ("id,plays\na05,-2\n", DataError, "-2 plays of 'a05'"),
        ("id,plays\na05,many\n", DataError, "many plays of .a05.; plays are 0 or more"),
        ("id,plays\nNobody,2\n", UnknownItem, "none of 1 words is an id or a name here"),
    ],
)
def test_plays_that_cannot_be_used_are_refused(tmp_path, content, error, message):
    path = tmp_path / "plays.csv"
    path.write_text(content)
    with pytest.raises(error, match=message):
        read_seeds(path, names())


def test_listeners_stand_by_the_order_of_the_index_and_nobody_is_all_zeros():
    strange = (IDS[3], "not in the catalogue", IDS[83], IDS[0])
    units = listeners_of(WORLD, "artist", strange)
    listens = listening_of(WORLD)
    users = sorted(set(WORLD.plays.collect()["user"]))
    assert units.shape == (4, len(users))
    expected = [[listens[row].get(user, 0.0) for user in users] for row in (3, 83, 0)]
    np.testing.assert_allclose(units.toarray()[[0, 2, 3]], expected)
    assert units[1].nnz == 0


def test_an_artist_has_no_more_answers_than_its_cap():
    tracks = WORLD.tracks["id"].to_list()
    vectors = np.random.default_rng(3).normal(size=(len(tracks), 11)).astype(np.float32)
    index = Index(Embeddings(tuple(tracks), unit(vectors)))
    known = attributes.Attributes(
        attributes.make_attributes(WORLD).filter(pl.col("kind") == "track")
    ).of(tuple(tracks))
    seeds = Seeds((tracks[0], tracks[40]), (3.0, 2.0))
    request = Query(k=30, per_artist=1)
    found = recommend(index, seeds, query=request, attributes=known)
    artists = [tracks[x].partition("-")[0] for x in found.rows]
    assert len(artists) == len(set(artists)) == 30


def test_a_user_of_the_catalogue_has_their_own_plays_as_seeds():
    own = WORLD.plays.collect().filter(pl.col("user") == "u7")
    found = seeds_of_user(WORLD, "artist", "u7")
    played = dict(own.select("item", "plays").rows())
    assert dict(zip(found.ids, found.plays, strict=True)) == played
    assert list(found.plays) == sorted(found.plays, reverse=True)
    with pytest.raises(DataError, match="no user 'u77' plays artists in .*; did you mean 'u7'"):
        seeds_of_user(WORLD, "artist", "u77")
    with pytest.raises(DataError, match="'u7' is no file, and the catalogue"):
        seeds_of_user(None, "artist", "u7")


@pytest.mark.parametrize("catalogue", [WORLD, None], ids=["known", "gone"])
def test_a_mistyped_file_of_plays_is_no_user(tmp_path, catalogue):
    (tmp_path / "plays.csv").touch()
    (tmp_path / "song.wav").touch()
    for name in ("plsy.csv", "plays"):
        said = rf"there is no file .*{name}, nor a user of that name; did you mean 'plays.csv'\?"
        with pytest.raises(DataError, match=said):
            seeds_of_user(catalogue, "artist", str(tmp_path / name))
    with pytest.raises(DataError, match="there is no file x.parquet, nor"):
        seeds_of_user(catalogue, "artist", "x.parquet")


def test_a_user_may_be_called_like_a_file():
    plays = WORLD.plays.with_columns(pl.lit("ann/plays.csv").alias("user")).head(3)
    found = seeds_of_user(replace(WORLD, plays=plays), "artist", "ann/plays.csv")
    assert len(found.ids) > 0


def test_the_command_answers_for_a_file_and_for_a_user(tmp_path):
    tables.write_catalogue(WORLD, tmp_path / "catalogue")
    items = WORLD.artists.select(
        "id",
        name=pl.col("name").fill_null("?"),
        kind=pl.lit("artist"),
        about=pl.lit(""),
        part=pl.lit("train"),
        relations=pl.Series([x % 2 for x in range(85)]),
        popularity="fame",
    )
    about = {"kind": "artist", "catalogue_folder": str(tmp_path / "catalogue")}
    with runs.publishing(tmp_path / "run", about) as home:
        planted_index().embeddings.write(home / "embeddings/artist.general.parquet")
        items.write_parquet(home / "items.parquet")
        attributes.write_attributes(
            home / attributes.ATTRIBUTES_FILE, attributes.make_attributes(WORLD)
        )
    plays = tmp_path / "plays.csv"
    plays.write_text("name,plays\nArtist 06,9\nArtist 11,4\nNobody,2\n")

    def call(*words, code=0):
        result = CliRunner().invoke(cli, ["recommend", str(tmp_path / "run"), *map(str, words)])
        assert result.exit_code == code, result.output
        return result

    said = call("--user", plays, "-k", 6, "--json")
    answers = [json.loads(x) for x in said.stdout.splitlines()]
    assert [x["rank"] for x in answers] == [1, 2, 3, 4, 5, 6]
    assert {int(x["item"][1:]) % 5 for x in answers} == {1}
    assert {x["because"] for x in answers} <= {"Artist 06", "Artist 11"}
    assert "left out 1 that nobody is called: 'Nobody'" in said.stderr
    shown = call("--user", plays, "-k", 3).stdout
    assert shown.count("near Artist") == 3
    assert "  long tail" in call("--user", "u7", "-k", 30).stdout
    everything = call("--user", "u7", "-k", 99, "--json").stdout.splitlines()
    own = set(seeds_of_user(WORLD, "artist", "u7").ids)
    assert {json.loads(x)["item"] for x in everything} == set(IDS) - own
    assert "no user 'nobody' plays artists" in call("--user", "nobody", code=1).output
    (tmp_path / "catalogue").rename(tmp_path / "moved")
    assert "catalogue is not where it was" in call("--user", plays, "-k", 3).stderr
    moved = ("--catalogue", tmp_path / "moved")
    assert call("--user", plays, "-k", 3, *moved).stdout == shown


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Name,Plays\na07,7\na83,5\n"),
        ("a.csv", "artist,playcount\na07,7\na83,5\n"),
        ("A.CSV", "\ufeffsep=;\r\nname;plays\r\na07;7\r\na83;5\r\n"),
        ("a.tsv", "id\tplays\na07\t7\na83\t5\n"),
        ("a.csv", "id,plays\n\u200ba07,7\na83\u00a0,5\n"),
    ],
)
def test_what_somebody_plays_is_read_as_tables_are(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content.encode())
    assert read_seeds(path, names()) == Seeds(("a07", "a83"), (7.0, 5.0))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name,plays\na07,"1,200"\n', "a.csv: 1,200 plays of 'a07'; plays are 0 or more, as 1200"),
        ("name,plays\nMØ,3\n".encode("latin-1"), "a.csv line 2: is not UTF-8 near .*iconv"),
    ],
)
def test_what_cannot_be_read_of_plays_is_said_in_one_line(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_seeds(path, names())
    assert "\n" not in str(error.value)
