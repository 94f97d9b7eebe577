"""Who is the same in several catalogues: names, evidence, and what merging must never do."""

from itertools import permutations

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given, settings, strategies as st

from undersong.catalogue import tables
from undersong.catalogue.check import check_catalogue
from undersong.catalogue.tables import ITEMS, PLAYS, RELATIONS, Catalogue, Field, Origin
from undersong.cli.main import cli
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.linkage.items import LinkedItem, main_artist, spell, together
from undersong.linkage.matching import match
from undersong.linkage.merge import merge
from undersong.linkage.records import Correction

MBIDS = [f"{x:08x}-aaaa-4bbb-8ccc-0123456789ab" for x in range(7)]
FIELDS = (
    Field("genre", "artist", "tags", "genre"),
    Field("country", "artist", "category", "region"),
    Field("year", "artist", "number", "year"),
    Field("mbid", "artist", "category", withheld=True),
)
SCHEMA = ITEMS["artist"] | {
    "genre": pl.List(pl.String),
    "country": pl.String,
    "year": pl.Float64,
    "mbid": pl.String,
}


def catalogue(rows, *, plays=(), pairs=(), tracks=(), features=None, origins=()):
    """Rows of artists are (id, name, genres, country, year, mbid), as many of them as are known."""
    whole = [(*row, *[None] * (6 - len(row))) for row in rows]
    artists = [(i, name, None, genre, place, year, m) for i, name, genre, place, year, m in whole]
    return Catalogue(
        artists=pl.DataFrame(artists, schema=SCHEMA, orient="row"),
        tracks=pl.DataFrame(
            [(i, artist, title, None, None, None) for i, artist, title in tracks],
            schema=ITEMS["track"],
            orient="row",
        ),
        plays=pl.LazyFrame([("artist", *x) for x in plays], schema=PLAYS, orient="row"),
        relations=pl.DataFrame([("artist", *x) for x in pairs], schema=RELATIONS, orient="row"),
        fields=FIELDS,
        features=features or {},
        origins=origins,
    )


def parts(merged, kind="artist"):
    """Groups of source:id, whatever their ids are."""
    rows = merged.identities.filter(pl.col("kind") == kind, pl.col("source") != "former")
    together = rows.group_by("id").agg(pl.concat_str("source", pl.lit(":"), "source_id"))
    return {frozenset(x) for x in together["source"]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Beatles", "Beatles, The"),
        ("AC/DC", "ac dc"),
        ("AC/DC", "ACDC"),
        ("Simon & Garfunkel", "Simon and Garfunkel"),
        ("Sigur Rós", "sigur ros"),
        ("Bjørn Berge", "Bjorn Berge"),
        ("Кино", "Kino"),
        ("T’Pau", "T'Pau"),
    ],
)
def test_one_name_in_two_spellings_has_one_key(one, other):
    assert spell(one).key == spell(other).key


def test_other_names_have_other_keys():
    assert spell("Nirvana (UK)").key != spell("Nirvana").key
    assert spell("!!!").key != spell("???").key
    assert spell("The The").key == "the"
    assert spell("Bach, Johann Sebastian").turned == spell("Johann Sebastian Bach").key


def test_likeness_falls_from_the_same_letters_to_the_key_alone():
    names = [spell(x) for x in ("The AC/DC", "The ac-dc", "AC/DC", "ACDC")]
    assert [names[0].likeness(x) for x in names] == [3, 2, 1, 0]


def test_guests_are_parted_from_the_main_artist_and_bands_only_perhaps():
    assert main_artist("Madonna feat. Gogol Bordello") == "Madonna"
    assert main_artist("Placebo (Feat. David Bowie)") == "Placebo"
    assert main_artist("Featherstone") == ""
    assert together("Simon & Garfunkel") == ("Simon", "Garfunkel")
    assert together("Simon") == ()


def test_musicbrainz_ids_go_before_names():
    one = catalogue([("p", "Prince", None, None, None, MBIDS[0]), ("q", "Air")])
    two = catalogue([(MBIDS[0].upper(), "The Artist"), (MBIDS[1], "Prince")])
    merged = merge({"one": one, "two": two})
    assert parts(merged) == {
        frozenset({"one:p", f"two:{MBIDS[0].upper()}"}),
        frozenset({"one:q"}),
        frozenset({f"two:{MBIDS[1]}"}),
    }
    assert merged.catalogue.ids("artist") == (MBIDS[0], MBIDS[1], "one:q")
    assert merged.catalogue.artists["mbid"].to_list() == [MBIDS[0], MBIDS[1], None]
    other = catalogue([("r", "Prince", None, None, None, MBIDS[2])])
    assert merge({"one": one, "three": other}).ambiguous["reason"].to_list() == ["ids"]


def test_two_bands_of_one_name_stay_two_and_are_listed():
    one = catalogue([("us", "Nirvana", ["grunge", "rock"], "US", 1987.0), ("x", "Low", ["rock"])])
    two = catalogue([("uk", "Nirvana", ["psychedelic"], "GB", 1965.0), ("y", "Low", ["slowcore"])])
    merged = merge({"one": one, "two": two})
    assert frozenset({"one:x", "two:y"}) in parts(merged)
    assert frozenset({"one:us"}) in parts(merged)
    assert merged.ambiguous.rows() == [
        ("artist", "contradiction", "one:us", "two:uk", "Nirvana", "Nirvana")
    ]


def test_where_a_source_has_two_of_a_name_evidence_chooses_or_nobody_does():
    one = catalogue([("us", "Nirvana", ["grunge"], "US"), ("uk", "Nirvana", ["folk"], "GB")])
    clear = catalogue([("n", "Nirvana", ["grunge"], "US")])
    bare = catalogue([("n", "Nirvana")])
    assert frozenset({"one:us", "two:n"}) in parts(merge({"one": one, "two": clear}))
    unsure = merge({"one": one, "two": bare})
    assert frozenset({"two:n"}) in parts(unsure)
    assert unsure.ambiguous["reason"].to_list() == ["several", "several"]


def test_of_two_spellings_in_one_source_the_nearer_one_is_meant():
    one = catalogue([("a", "Mýa"), ("b", "Mya")])
    two = catalogue([("c", "Mýa")])
    assert parts(merge({"one": one, "two": two})) == {
        frozenset({"one:a", "two:c"}),
        frozenset({"one:b"}),
    }


@pytest.mark.parametrize(
    ("one", "other"),
    [("バル", "ハル"), ("राजा", "रोजी"), ("กี", "กู"), ("ข้าว", "ข่าว"), ("й", "и"), ("陈静", "陈晶")],
)
def test_names_of_other_letters_are_others_and_in_no_doubt(one, other):
    merged = merge({"a": catalogue([("1", one)]), "b": catalogue([("2", other)])})
    assert parts(merged) == {frozenset({"a:1"}), frozenset({"b:2"})}
    assert merged.ambiguous.is_empty()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Кино", "Kino"),
        ("ガ", "カ\u3099"),
        ("Ané & Bee", "ané AND bee"),
        ("ANÉ, The", "ané"),
    ],
)
def test_latin_letters_and_other_punctuation_may_be_the_same_name(one, other):
    merged = merge({"a": catalogue([("1", one)]), "b": catalogue([("2", other)])})
    assert parts(merged) == {frozenset({"a:1", "b:2"})}


@pytest.mark.parametrize(("one", "other"), [("Zoé", "Zoe"), ("MØ", "Mo"), ("Łan, Ann", "Ann Lan")])
def test_an_accent_less_is_the_same_name_only_if_facts_agree(one, other):
    strangers = merge({"a": catalogue([("1", one)]), "b": catalogue([("2", other)])})
    assert parts(strangers) == {frozenset({"a:1"}), frozenset({"b:2"})}
    assert strangers.ambiguous["reason"].to_list() == ["accent"]
    rows = ([(item, name, ["folk"], "NO")] for item, name in (("1", one), ("2", other)))
    merged = merge(dict(zip("ab", map(catalogue, rows), strict=True)))
    assert parts(merged) == {frozenset({"a:1", "b:2"})}
    assert merged.ambiguous.is_empty()


def test_a_guest_counts_for_the_main_artist_and_a_duo_is_asked_about():
    one = catalogue(
        [("m", "Madonna"), ("g", "Madonna feat. Guest"), ("s", "Simon"), ("d", "Simon & Madonna")],
        plays=[("u", "m", 3.0), ("u", "g", 4.0), ("v", "d", 5.0)],
    )
    merged = merge({"one": one})
    assert frozenset({"one:m", "one:g"}) in parts(merged)
    assert merged.catalogue.plays.collect().select("user", "item", "plays").rows() == [
        ("one:u", "one:m", 7.0),
        ("one:v", "one:d", 5.0),
    ]
    assert dict(merged.catalogue.artists.select("id", "name").rows())["one:m"] == "Madonna"
    assert merged.ambiguous.select("reason", "a", "b").rows() == [
        ("together", "one:d", "one:m"),
        ("together", "one:d", "one:s"),
    ]


def test_tracks_are_the_same_only_of_one_artist_or_by_their_codes():
    one = catalogue([("a", "Cher"), ("b", "Low")], tracks=[("1", "a", "Believe"), ("2", "b", "Go")])
    two = catalogue([("c", "Cher"), ("d", "Air")], tracks=[("3", "c", "believe"), ("4", "d", "Go")])
    assert parts(merge({"one": one, "two": two}), "track") == {
        frozenset({"one:1", "two:3"}),
        frozenset({"one:2"}),
        frozenset({"two:4"}),
    }


def test_one_isrc_is_one_track_unless_the_recordings_have_two_ids():
    def track(source, *, mbid=None):
        ids = frozenset([mbid] if mbid else ())
        codes = frozenset(["GBAYE0000001"])
        return LinkedItem((source, "t"), spell(source), mbids=ids, codes=codes, home=source)

    assert len(match([track("a"), track("b", mbid=MBIDS[0])]).clusters) == 1
    assert len(match([track("a", mbid=MBIDS[1]), track("b", mbid=MBIDS[0])]).clusters) == 2


def test_what_sources_say_of_one_artist_is_put_together():
    one = catalogue([("a", "Low", ["rock", "slow"], "US", 1990.0)], origins=(Origin("A", "CC0"),))
    two = catalogue([("b", "Low", ["rock"], None, 1994.0)], origins=(Origin("B", "CC0"),))
    three = catalogue([("c", "LOW", ["drone", "rock"], "CA", None)])
    merged = merge({"one": one, "two": two, "three": three}).catalogue
    assert merged.artists.select("name", "country", "genre", "year").rows() == [
        ("Low", "CA", ["rock", "drone", "slow"], 1992.0)
    ]
    assert merged.origins == (Origin("A", "CC0"), Origin("B", "CC0"))


@pytest.mark.parametrize("same_users", [False, True])
def test_plays_are_merged_in_blocks_of_users_as_all_at_once(tmp_path, monkeypatch, same_users):
    generator, sources = np.random.default_rng(4), {}
    for name, ids in (("b", "xyz"), ("a b", "uvwxy")):
        pairs = [(f"l{x}", y) for x in generator.permutation(17) for y in ids]
        kept = [x for x in pairs if generator.random() < 0.6]
        plays = [(*x, float(generator.integers(9))) for x in kept]
        sources[name] = catalogue([(x, f"Name of {x}") for x in ids], plays=plays)
    whole = merge(sources, same_users=same_users)
    now = {(s, i): x for _, s, i, x in whole.identities.rows()}
    expected = {}
    for name, one in sources.items():
        for _, user, item, plays in one.plays.collect().iter_rows():
            key = ("artist", user if same_users else f"{name}:{user}", now[name, item])
            expected[key] = expected.get(key, 0) + plays
    monkeypatch.setattr("undersong.linkage.merge.AT_ONCE", 11)
    steps = {}
    merged = merge(
        sources,
        same_users=same_users,
        scratch=tmp_path,
        progress=lambda stage, *step: steps.setdefault(stage, []).append(step),
    ).catalogue.plays
    assert list(steps) == [
        "names of artists",
        "who is who",
        "names of tracks",
        "plays of artists",
    ]
    assert len(steps["plays of artists"]) > 5
    assert all(x[-1][0] == x[-1][1] for x in steps.values())
    assert merged.collect().rows() == [(*key, expected[key]) for key in sorted(expected)]
    assert merged.collect().equals(whole.catalogue.plays.collect())
    assert len(list(tmp_path.iterdir())) > 5
    sizes = [len(pl.read_parquet(x)) for x in tmp_path.iterdir()]
    assert max(sizes) <= 11 + 2 * 5  # of the last user of a block all rows stay together


def test_features_of_one_space_are_averaged_and_of_two_widths_refused():
    def with_vectors(item, vectors):
        space = {("sound", "artist"): Embeddings((item,), np.array(vectors, dtype=np.float32))}
        return catalogue([(item, "Low")], features=space)

    one, two = with_vectors("a", [[1.0, 3.0]]), with_vectors("b", [[3.0, 9.0]])
    found = merge({"one": one, "two": two}).catalogue.features["sound", "artist"]
    assert found.vectors.tolist() == [[2.0, 6.0]]
    with pytest.raises(DataError, match="'sound' of artists have the widths 2, 3"):
        merge({"one": one, "two": with_vectors("b", [[1.0, 2.0, 3.0]])})


def test_a_correction_goes_before_everything_and_two_may_not_contradict():
    one = catalogue([("a", "Low", None, None, None, MBIDS[0]), ("b", "Air")])
    two = catalogue([("c", "Low", None, None, None, MBIDS[0]), ("d", "Sea")])
    apart = Correction("artist", "different", ("one", "a"), ("two", "c"))
    same = Correction("artist", "same", ("one", "b"), ("two", "d"))
    found = parts(merge({"one": one, "two": two}, corrections=[apart, same]))
    assert found == {frozenset({"one:a"}), frozenset({"two:c"}), frozenset({"one:b", "two:d"})}
    other = Correction("artist", "different", ("two", "d"), ("one", "b"))
    with pytest.raises(DataError, match="one:b and two:d are corrected to be the same and"):
        merge({"one": one, "two": two}, corrections=[same, other])


NAMES = st.sampled_from(
    ["Low", "low", "The Low", "Air", "Low feat. Air", "Air & Low", "Кино", "Kino"]
)
ARTIST = st.tuples(
    NAMES,
    st.one_of(st.none(), st.lists(st.sampled_from(["rock", "folk", "jazz"]), max_size=2)),
    st.sampled_from([None, "US", "GB"]),
    st.sampled_from([None, 1960.0, 1970.0, 1995.0]),
    st.sampled_from([None, None, *MBIDS[:2]]),
)


@st.composite
def worlds(draw):
    """Three catalogues of up to five artists each, with plays and relations among them."""
    sources = {}
    for name in ("s", "t", "u"):
        rows = draw(st.lists(ARTIST, min_size=1, max_size=5))
        ids = [f"{x}" for x in range(len(rows))]
        item = st.sampled_from(ids)
        plays = draw(st.dictionaries(st.tuples(st.sampled_from("pq"), item), st.integers(1, 9)))
        pairs = {tuple(sorted(x)) for x in draw(st.lists(st.tuples(item, item), max_size=4))}
        sources[name] = catalogue(
            [(i, *row) for i, row in zip(ids, rows, strict=True)],
            plays=[(*key, float(x)) for key, x in plays.items()],
            pairs=[(a, b, name) for a, b in sorted(pairs) if a != b],
        )
    return sources


@settings(max_examples=12, deadline=None)
@given(worlds())
def test_merging_loses_nothing_whatever_the_order(sources):
    merged = merge(sources)
    for order in list(permutations(sources))[1:3]:
        again = merge({name: sources[name] for name in order})
        assert again.catalogue.artists.equals(merged.catalogue.artists)
        assert again.catalogue.plays.collect().equals(merged.catalogue.plays.collect())
        assert again.identities.equals(merged.identities)
    played = sum(x.plays.collect()["plays"].sum() for x in sources.values())
    assert merged.catalogue.plays.collect()["plays"].sum() == played
    now = {(s, i): x for _, s, i, x in merged.identities.rows()}
    assert set(now) == {(s, i) for s, one in sources.items() for i in one.ids("artist")}
    assert set(now.values()) == set(merged.catalogue.ids("artist"))
    given = [
        (now[s, a], now[s, b], s)
        for s, one in sources.items()
        for _, a, b, _ in one.relations.rows()
    ]
    expected = {(min(a, b), max(a, b), s) for a, b, s in given if a != b}
    assert set(merged.catalogue.relations.drop("kind").rows()) == expected
    assert merged.between_same == sum(a == b for a, b, _ in given)


@settings(max_examples=12, deadline=None)
@given(worlds(), st.sampled_from("stu"), st.booleans())
def test_ids_stay_when_a_source_comes_and_redirects_end_at_an_item(sources, last, part):
    few = {name: one for name, one in sources.items() if name != last}
    first = merge(few)
    said = []
    if part:
        rows = first.identities.group_by("id").agg("source", "source_id").filter(
            pl.col("source").list.len() > 1
        )  # fmt: skip
        for _, names, ids in rows.sort("id").rows():
            a, b = sorted(zip(names, ids, strict=True))[:2]
            said.append(Correction("artist", "different", a, b))
    second = merge(sources, before=first.identities, corrections=said)
    third = merge(sources, before=second.identities, corrections=said)
    assert third.identities.equals(second.identities)
    assert third.catalogue.artists.equals(second.catalogue.artists)
    today = set(second.catalogue.ids("artist"))
    former = {i: x for _, s, i, x in second.identities.rows() if s == "former"}
    assert set(former.values()) <= today
    assert not set(former) & today
    assert set(first.catalogue.ids("artist")) <= today | set(former)
    back = merge(few, before=second.identities)
    led = {i: x for _, s, i, x in back.identities.rows() if s == "former"}
    assert set(led.values()) <= set(back.catalogue.ids("artist"))
    assert not set(led) & set(back.catalogue.ids("artist"))


@pytest.fixture
def home(tmp_path):
    one = catalogue(
        [("low", "Low", ["rock"], "US"), ("n", "Nirvana", None, "US")],
        plays=[("u", "low", 3.0)],
        pairs=[("low", "n", "editors")],
    )
    tables.write_catalogue(one, tmp_path / "library")
    two = catalogue([("17", "LOW"), ("18", "Nirvana", None, "GB")], plays=[("u", "17", 4.0)])
    tables.write_catalogue(two, tmp_path / "listens")
    return tmp_path


def call(*words, code=0):
    result = CliRunner().invoke(cli, [str(x) for x in words])
    assert result.exit_code == code, result.output
    return result.output


def test_merge_writes_a_catalogue_and_identify_shows_and_corrects_it(home):
    out = home / "merged"
    said = call("merge", home / "library", home / "listens", out)
    assert "4 artists of 2 sources are 3" in said
    assert "1 doubtful pairs stay apart" in said
    assert check_catalogue(out) == ()
    assert call("identify", out, "low") == "LOW (library:low)\n  library:low\n  listens:17\n"
    assert "Nirvana (listens:18): one name, but" in call("identify", out)
    assert "are same from the next" in call("identify", out, "--same", "library:n", "listens:18")
    assert "are different" in call("identify", out, "--different", "library:low", "listens:17")
    again = call("merge", home / "listens", home / "library", out)
    assert "4 artists of 2 sources are 3" in again
    assert call("identify", out, "listens:18").splitlines()[1:] == [
        "  library:n",
        "  listens:18",
        "  formerly listens:18",
    ]
    assert tables.read_catalogue(out).plays.collect().select("item", "plays").rows() == [
        ("library:low", 3.0),
        ("listens:17", 4.0),
    ]
    call("identify", out, "--same", "listens:17", "library:low")
    call("merge", home / "listens", home / "library", out)
    assert call("identify", out, "listens:17") == (
        "LOW (library:low)\n  library:low\n  listens:17\n  formerly listens:17\n"
    )
    both = call("merge", home / "listens", home / "library", home / "people", "--same-users")
    assert "catalogue written" in both
    assert tables.read_catalogue(home / "people").plays.collect()["plays"].to_list() == [7.0]


def test_ids_of_services_that_importers_noted_lead_to_the_merged_items(home):
    """Also those that a service redirected, and those of a catalogue that was merged itself."""
    noted = [
        ("artist", "17", "musicbrainz", MBIDS[0]),
        ("artist", "17", "musicbrainz", MBIDS[1]),  # which MusicBrainz merged into the other
        ("artist", "18", "library", "n"),  # a service that is called as a folder is
        ("artist", "99", "musicbrainz", MBIDS[2]),  # of nobody in the catalogue
    ]
    table = pl.DataFrame(noted, schema=["kind", "id", "source", "source_id"], orient="row")
    table.write_parquet(home / "listens" / "identities.parquet")
    out = home / "merged"
    call("merge", home / "library", home / "listens", out)
    expected = (
        "LOW (library:low)\n  library:low\n  listens:17\n"
        f"  listens/musicbrainz:{MBIDS[0]}\n  listens/musicbrainz:{MBIDS[1]}\n"
    )
    assert call("identify", out, "low") == expected
    assert call("identify", out, f"musicbrainz:{MBIDS[1]}") == expected
    assert call("identify", out, "library:n").startswith("Nirvana (library:n)")
    assert "is no id" in call("identify", out, f"musicbrainz:{MBIDS[2]}", code=1)
    first = pl.read_parquet(out / "identities.parquet")
    assert "4 artists of 2 sources are 3" in call("merge", home / "library", home / "listens", out)
    assert pl.read_parquet(out / "identities.parquet").equals(first)
    call("merge", out, home / "library", home / "twice")
    assert call("identify", home / "twice", f"musicbrainz:{MBIDS[1]}").startswith("LOW (")
    (home / "listens" / "identities.parquet").write_bytes(b"PAR1")
    assert "import" in call("merge", home / "library", home / "listens", out, code=1)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "merged"], "name the catalogues first and the result last"),
        (["merge", "library", "library", "x"], "both called 'library'"),
        (["merge", "library", "listens", "library"], "is a source and the result"),
        (["merge", "library", "listens"], "holds a catalogue that `undersong import tables` made"),
        (["identify", "library", "Low"], "is no merged catalogue"),
    ],
)
def test_what_cannot_be_merged_is_refused(home, words, message):
    command, *folders = words
    ends = [x if x == "Low" else home / x for x in folders]
    assert message in call(command, *ends, code=1)


def test_who_is_unknown_and_corrections_that_say_nothing_are_refused(home):
    out = home / "merged"
    call("merge", home / "library", home / "listens", out)
    assert "is no id, source:id or name" in call("identify", out, "Air", code=1)
    assert "did you mean 'library:low'?" in call(
        "identify", out, "--same", "library:loww", "listens:17", code=1
    )
    assert "both mean library:low" in call(
        "identify", out, "--different", "library:low", "library:low", code=1
    )
    path = out / "corrections.csv"
    path.write_text("kind,verdict,a,b\nartist,equal,library:low,listens:17\n")
    assert "line 2: verdict 'equal'" in call("merge", home / "library", out, code=1)
    path.write_text("sep=;\nkind;verdict;a;b\nartist;same;low;listens:17\n")
    assert "line 2: 'low' is no item" in call("merge", home / "library", out, code=1)
    (out / "identities.parquet").write_bytes(b"PAR1")
    path.unlink()
    assert "cannot be read" in call("merge", home / "library", out, code=1)


def test_a_field_that_is_a_number_here_and_a_word_there_is_refused():
    one = catalogue([("a", "Low")])
    two = Catalogue(
        artists=one.artists.select("id", "name", "split", pl.col("year").cast(pl.String)),
        fields=(Field("year", "artist", "category"),),
    )
    with pytest.raises(
        DataError, match="'year' of artists is number in one catalogue and category"
    ):
        merge({"one": one, "two": two})
    with pytest.raises(DataError, match="a source cannot be called 'former'"):
        merge({"former": one})


def history(folder, name, lines):
    (folder / f"{name}.csv").write_text("uts,artist,track\n" + "".join(lines))
    call("import", "lastfm", str(folder / f"{name}.csv"), str(folder / name), "--user", "pia")


def test_a_listen_that_two_sources_have_counts_once(tmp_path):
    lines = [f"{5 + 60 * x},Ann,T{x % 3}\n" for x in range(11)]
    history(tmp_path, "old", lines[:7])
    history(tmp_path, "new", lines[4:])
    sources = (str(tmp_path / "old"), str(tmp_path / "new"))
    call("merge", *sources, str(tmp_path / "whole"), "--same-users")
    plays = tables.read_catalogue(tmp_path / "whole").plays.collect()
    assert plays.group_by("kind").agg(pl.sum("plays")).sort("kind").rows() == [
        ("artist", 11),
        ("track", 11),
    ]
    assert check_catalogue(tmp_path / "whole") == ()


def test_ids_that_musicbrainz_has_merged_are_one_artist(tmp_path):
    old, new = MBIDS[:2]
    dump = tmp_path / "dump"
    (dump / "mbdump").mkdir(parents=True)
    (dump / "artist").write_text(f'{{"id": "{new}", "name": "Ann"}}\n')
    # As MusicBrainz ships it: old id, row of the artist, time; and the table of those rows.
    (dump / "artist_gid_redirect").write_text(f"{old}\t4711\t2012-05-01 10:00:00+00\n")
    history(tmp_path, "plays", ["5,Ann,One\n"])
    (tmp_path / "plays.csv").write_text(f"uts,artist,track,artist_mbid\n5,Ann,One,{old}\n")
    call("import", "lastfm", str(tmp_path / "plays.csv"), str(tmp_path / "plays"))
    lacking = call("import", "musicbrainz", str(dump), str(tmp_path / "known"))
    assert "1 merged ids lead to rows of the database: put its table `artist`" in lacking
    (dump / "mbdump" / "artist").write_text(f"4711\t{new}\tAnn\tAnn\n")
    assert "merged ids" not in call("import", "musicbrainz", str(dump), str(tmp_path / "known"))
    call("merge", str(tmp_path / "plays"), str(tmp_path / "known"), str(tmp_path / "all"))
    assert tables.read_catalogue(tmp_path / "all").ids("artist") == (new,)


def test_an_item_of_a_media_server_keeps_its_id_there_and_former_ids_lead_to_it():
    listens = catalogue([(MBIDS[1], "Zoë", ["pop"]), ("solo", "Solo Act")])
    server = catalogue([("s-21", "Zoë", ["pop"], None, None, MBIDS[1]), ("s-22", "Band of Two")])
    first = merge({"listens": listens})
    made = merge({"listens": listens, "home": server}, before=first.identities, servers={"home"})
    assert made.catalogue.ids("artist") == ("listens:solo", "s-21", "s-22")
    former = made.identities.filter(pl.col("source") == "former")
    assert former.select("source_id", "id").rows() == [(MBIDS[1], "s-21")]
