"""Playlists: rules hold for every order, seeds of both kinds, files that programs read, servers."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from media_servers import PASSWORD, Jellyfin, answering
from planted import small_world
from undersong.catalogue.names import Names
from undersong.cli.main import cli
from undersong.embeddings import Embeddings, unit
from undersong.errors import DataError, UnknownItem
from undersong.export.playlist_files import (
    SongFile,
    read_m3u8,
    songs_of,
    with_ids,
    write_playlist,
)
from undersong.model import load
from undersong.retrieval.filters import nearer
from undersong.retrieval.fusion import fuse
from undersong.retrieval.index import Index
from undersong.retrieval.playlists import Rules, Songs, arrange, read_songs
from undersong.retrieval.query import Query
from undersong.retrieval.seeds import MOST, Library, evenly

SHELF = Path(__file__).parent / "fixtures" / "shelf-1"
P = 60  # songs of 13 artists and 7 albums


def planted(*, seed=3, moods=()):
    """60 songs; every third artist is unlinked, every fifth length and seventh tempo unknown."""
    draw = np.random.default_rng(seed)
    vectors = unit(draw.normal(size=(P, 11)).astype(np.float32))
    artist = draw.integers(13, size=P)
    every = np.arange(P)
    return Songs(
        vectors,
        np.where(every % 17 == 4, -1, artist),
        draw.integers(7, size=P),
        artist % 3 == 0,
        np.where(every % 5 == 2, np.nan, draw.uniform(100, 400, size=P)),
        np.where(every % 7 == 1, np.nan, draw.uniform(60, 180, size=P)),
        np.array(moods, dtype=bool) if len(moods) else np.zeros((P, 0), dtype=bool),
    )


def rows(*parts):
    return [np.array(x, dtype=np.int64) for x in parts]


@pytest.mark.parametrize("shuffle", [None, 0, 5, 29])
@pytest.mark.parametrize("apart", [1, 2, 6])
def test_no_artist_comes_twice_among_so_many_and_caps_hold(apart, shuffle):
    songs = planted()
    chosen = arrange(
        songs,
        rows(range(P)),
        k=23,
        rules=Rules(apart=apart, shuffle=shuffle),
        per_artist=3,
        per_album=5,
    )
    assert len(chosen) == len(set(chosen)) == 23
    artists = songs.artist[chosen]
    for start in range(23):
        window = [x for x in artists[start : start + apart] if x >= 0]
        assert len(window) == len(set(window))
    known = artists[artists >= 0]
    assert np.bincount(known).max() <= 3
    assert np.bincount(songs.album[chosen]).max() <= 5


def test_what_came_before_counts_and_does_not_come_again():
    songs = planted()
    before = [int(x) for x in np.flatnonzero(songs.artist == songs.artist[0])[:2]]
    rules = Rules(apart=4, smooth=0)
    chosen = arrange(songs, rows(range(P)), k=8, rules=rules, per_artist=2, before=before)
    assert not set(chosen) & set(before)
    assert songs.artist[0] not in songs.artist[chosen]
    alone = arrange(songs, rows(range(P)), k=8, rules=rules, per_artist=2)
    assert alone[0] == 0 != chosen[0]


def test_choices_are_those_of_the_slow_loop():
    """Relevance, cosine, tempo and moods, of what is known of both songs."""
    moods = np.random.default_rng(8).random((P, 4)) < 0.4
    songs = planted(moods=moods)
    order = np.random.default_rng(2).permutation(P)
    chosen = arrange(songs, rows(order), k=9, rules=Rules(apart=1, smooth=0.7))
    place = {int(x): at for at, x in enumerate(order)}
    expected = [int(order[0])]
    while len(expected) < 9:
        last, worth = expected[-1], {}
        for x in set(range(P)) - set(expected):
            parts = [float(songs.vectors[x] @ songs.vectors[last])]
            if songs.tempo[x] > 0 and songs.tempo[last] > 0:
                octaves = abs(np.log2(songs.tempo[x] / songs.tempo[last]))
                parts.append(1 - min(octaves / 0.5, 1))
            if moods[x].any() and moods[last].any():
                parts.append((moods[x] & moods[last]).sum() / (moods[x] | moods[last]).sum())
            worth[x] = 1 - place[x] / 18 + 0.7 * np.mean(parts)
        expected.append(max(worth, key=worth.get))
    assert chosen == expected


def test_a_share_of_unlinked_artists_is_spread_over_the_list():
    songs = planted()
    linked_first = np.argsort(songs.unlinked, kind="stable")
    for share in (0.25, 0.5):
        chosen = arrange(songs, rows(linked_first), k=16, rules=Rules(unlinked=share, apart=1))
        counts = np.cumsum(songs.unlinked[chosen])
        assert (counts >= np.floor(share * np.arange(1, 17))).all()
    plain = arrange(songs, rows(linked_first), k=16, rules=Rules(apart=1))
    assert songs.unlinked[plain].sum() < 4


def test_minutes_are_filled_with_songs_of_known_length():
    songs = planted()
    chosen = arrange(songs, rows(range(P)), k=2, rules=Rules(minutes=61, apart=1))
    seconds = songs.seconds[chosen]
    assert seconds.sum() >= 61 * 60 > seconds[:-1].sum()


def test_a_number_stands_for_one_other_playlist():
    songs = planted()
    lists = [
        arrange(songs, rows(range(P)), k=12, rules=Rules(shuffle=x)) for x in (None, 1, 1, 2, None)
    ]
    assert lists[0] == lists[4] != lists[1] == lists[2] != lists[3]


def test_parts_come_one_after_the_other_in_equal_shares():
    songs = planted()
    parts = rows(range(20), range(20, 40), range(40, P))
    chosen = np.array(arrange(songs, parts, k=12, rules=Rules(apart=1)))
    assert (chosen // 20).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    short = np.array(arrange(songs, rows([3], range(20, 40)), k=8, rules=Rules(apart=1)))
    assert (short // 20).tolist() == [0] + [1] * 7


def test_rules_that_leave_too_few_end_the_list():
    songs = planted()
    own = np.flatnonzero(songs.artist == songs.artist[0])
    assert len(arrange(songs, [own], k=9, rules=Rules(apart=3))) == 1


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"minutes": 0.0}, "minutes is 0"),
        ({"minutes": float("nan")}, "minutes is nan"),
        ({"apart": 0}, "apart is 0"),
        ({"smooth": -0.5}, r"smooth is -0\.5"),
        ({"unlinked": 1.5}, r"unlinked is 1\.5"),
        ({"shuffle": -1}, "shuffle is -1"),
    ],
)
def test_a_rule_out_of_range_is_refused(rule, message):
    with pytest.raises(DataError, match=message):
        Rules(**rule)


def test_facts_are_read_as_catalogues_have_them():
    table = pl.DataFrame(
        {
            "artist": ["b", None, "a", "b"],
            "unlinked": [True, False, True, True],
            "duration": [200, None, 0, 90],
            "bpm": ["fast", "slow", None, None],
            "mood": ["calm", None, "wild", "calm"],
        }
    )
    songs = read_songs(table, np.eye(4, 5, dtype=np.float32))
    assert songs.artist.tolist() == [2, -1, 1, 2]
    assert songs.album.tolist() == [-1] * 4
    np.testing.assert_array_equal(songs.seconds, [200, np.nan, np.nan, 90])
    assert np.isnan(songs.tempo).all()
    assert songs.moods.tolist() == [[True, False], [False, False], [False, True], [True, False]]
    tags = table.with_columns(mood=pl.Series([["calm", "wild"], None, [], ["wild"]]))
    assert read_songs(tags, songs.vectors).moods.sum(axis=1).tolist() == [2, 0, 0, 1]


def test_weights_multiply_what_a_seed_gives():
    draw = np.random.default_rng(6)
    ids = tuple(f"i{x}" for x in range(31))
    index = Index(Embeddings(ids, unit(draw.normal(size=(31, 9)).astype(np.float32))))
    weights = {"i3": 0.2, "i8": 2.5}
    fused = fuse([index], ["i3", "i8"], query=Query(k=31), weights=weights, seeds_too=True)
    cosine, expected = index.embeddings.vectors @ index.embeddings.vectors.T, {}
    for seed, weight in weights.items():
        own = cosine[int(seed[1:])].copy()
        own[int(seed[1:])] = -np.inf
        for rank, item in enumerate(np.argsort(-own)[:30], start=1):
            expected[ids[item]] = expected.get(ids[item], 0) + weight / (60 + rank)
    found = dict(zip(fused.ids, fused.scores.tolist(), strict=True))
    assert found == pytest.approx(expected)
    assert {"i3", "i8"} <= set(found)


def test_what_is_nearer_to_the_disliked_is_found():
    vectors = unit(np.random.default_rng(4).normal(size=(41, 6)).astype(np.float32))
    ids = tuple(f"i{x}" for x in range(41))
    near = nearer(Embeddings(ids, vectors), ["i1", "i2"], ["i7", "i9", "i11"])
    cosine = vectors @ vectors.T
    expected = {f"i{x}" for x in range(41) if max(cosine[x, [7, 9, 11]]) > max(cosine[x, [1, 2]])}
    assert near == expected >= {"i7", "i9", "i11"}


@pytest.fixture(scope="module")
def model():
    """34 artists and 64 tracks, with a catalogue that knows files, lengths and moods."""
    opened = load(SHELF)
    tracks = small_world().tracks.filter(pl.col("id").is_in(opened.items("track")["id"].to_list()))
    number = pl.int_range(pl.len())
    catalogue = small_world()
    tracks = tracks.with_columns(
        path=pl.format("{}/{}.flac", "artist", "id"),
        seconds=pl.when(number % 9 != 5).then(150.0 + number),
        mood=pl.when(number % 4 > 0).then(pl.format("m{}", number % 3)),
    )
    object.__setattr__(catalogue, "tracks", tracks)
    object.__setattr__(catalogue, "audio_root", Path("/music"))
    vars(opened)["catalogue"] = catalogue
    return opened


def test_songs_are_like_what_is_liked_and_no_seed_is_among_them(model):
    playlist = model.playlist(["Artist 04", "Song a09 1"], k=15)
    assert [x.item.kind for x in playlist] == ["track"] * 15
    assert [x.rank for x in playlist] == list(range(1, 16))
    assert "a09-1" not in playlist.ids
    assert [x.id for x in playlist.queries] == ["a04", "a09-1"]
    assert {y for x in playlist for y in x.seeds} == {"a04", "a09-1"}
    near = model.similar("a09-1", kind="track", k=20).ids
    assert set(playlist.ids) & set(near)
    artists = [x.item.about for x in playlist]
    assert all(len(set(artists[at : at + 5])) == 5 for at in range(11))
    assert playlist == model.playlist(["Artist 04", "Song a09 1"], k=15)


def test_seeds_take_turns_although_two_of_them_agree(model):
    """Artist 09 is of another group than 04 and 14, whose tracks are near each other."""
    playlist = model.playlist(["Artist 04", "Artist 14", "Artist 20"], k=18)
    first = [x.seeds[0] for x in playlist]
    assert min(first.count(x) for x in ("a04", "a14", "a20")) >= 3


def test_nothing_is_nearer_to_what_is_not_wanted(model):
    playlist = model.playlist("Artist 04", unlike=["Artist 09", "a20-1"], k=12)
    assert not set(playlist.ids) & {"a09-0", "a09-1", "a20-1"}
    vectors = model.embeddings("track")
    own, away = (vectors.align(x)[0] for x in (("a04-0", "a04-1"), ("a09-0", "a09-1", "a20-1")))
    songs = vectors.align(playlist.ids)[0]
    assert ((songs @ own.T).max(axis=1) >= (songs @ away.T).max(axis=1)).all()
    plain = model.similar("a04", k=9)
    fewer = model.similar("a04", k=9, unlike="Artist 09")
    assert set(fewer.ids) != set(plain.ids)
    everybody = model.similar("a04", k=40)
    assert [x for x in everybody.ids if x in fewer.ids] == list(fewer.ids)


def test_what_a_listener_may_like_is_not_near_what_is_not_wanted(model):
    plays = {"a04": 5, "a14": 2}
    plain = model.recommend(plays, kind="artist", k=9)
    fewer = model.recommend(plays, unlike=["Artist 09"], kind="artist", k=9)
    assert "a09" not in fewer.ids
    vectors = model.embeddings("artist")
    own, away, near = (vectors.align(x)[0] for x in (("a04", "a14"), ("a09",), fewer.ids))
    assert ((near @ own.T).max(axis=1) >= (near @ away.T).max(axis=1)).all()
    assert set(plain.ids) != set(fewer.ids)
    unlinked = model.recommend(plays, kind="artist", k=9, only_unlinked=True)
    assert {x.item.relations for x in unlinked} == {0}


def test_a_path_keeps_its_two_ends(model):
    playlist = model.playlist(path=("a04-0", "Artist 09"), k=11, rules=Rules(apart=1))
    assert len(playlist) == 11
    assert playlist.ids[0] == "a04-0"
    assert playlist.ids[-1] in ("a09-0", "a09-1")
    assert len(set(playlist.ids)) == 11
    with pytest.raises(DataError, match="a path needs two different ends"):
        model.playlist(path=("a04-0", "a04-0"), k=11)
    with pytest.raises(DataError, match="a k of 3 or more"):
        model.playlist(path=("a04-0", "a09-0"), k=2)


def test_a_playlist_goes_on_without_what_came_and_without_what_never_comes(model):
    before = model.playlist("Artist 04", k=6).ids
    more = model.playlist(after=[*before, "gone"], never=["Artist 14", "nobody"], k=7)
    assert not set(more.ids) & {*before, "a14-0", "a14-1"}
    assert "left out 2 of which nothing is known here: 'gone', 'nobody'" in more.note
    lately = [model.of("track").names.get(x).about for x in before[-4:]]
    assert more[0].item.about not in lately


def test_plays_of_artists_and_of_tracks_make_a_playlist(model):
    playlist = model.playlist(plays={"Artist 04": 12, "a09-1": 3, "nobody": 9}, k=8)
    assert len(playlist) == 8
    assert not set(playlist.ids) & {"a04-0", "a04-1", "a09-1"}
    assert "'nobody'" in playlist.note


def test_minutes_need_lengths(model):
    playlist = model.playlist("Artist 04", k=3, rules=Rules(minutes=20))
    lengths = model.attributes(playlist.ids, kind="track")["seconds"].to_list()
    assert sum(lengths) >= 1200 > sum(lengths[:-1])
    with pytest.raises(DataError, match="of no song is known how long it is"):
        load(SHELF).playlist("Artist 04", rules=Rules(minutes=20))


def test_a_list_that_rules_leave_short_says_so(model):
    playlist = model.playlist("Artist 04", k=60, per_artist=1)
    assert 0 < len(playlist) < 60
    assert (
        playlist.note == f"{len(playlist)} songs: the rules, filters and what is near leave no more"
    )
    nothing = model.playlist("Artist 04", k=5, library=["a04-0"], never=["Artist 09"])
    assert nothing.ids == ("a04-0",)


def test_a_list_of_artists_takes_tracks_for_their_artists(model):
    playlist = model.playlist(["Song a04 0", "Artist 09"], kind="artist", k=7)
    assert {x.item.kind for x in playlist} == {"artist"}
    assert not {"a09"} & set(playlist.ids)
    assert len(playlist) == 7


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, DataError, "begins with nothing; give one of like or after, plays, path"),
        ({"like": "a04", "plays": {"a09": 1}}, DataError, "begins with like or after and plays"),
        ({"like": ["a04", "Artits 09"]}, UnknownItem, "no item 'Artits 09'"),
        ({"like": ["a32"]}, DataError, r"of 'a32' \(a32\) no track is known but by name"),
        ({"like": ["a32"], "kind": "artist"}, DataError, "of 'a32' .* nothing is known but by"),
        ({"plays": {"nobody": 3}}, UnknownItem, "of 1 words none is known here, first 'nobody'"),
    ],
)
def test_what_begins_nothing_is_one_clear_line(model, asked, error, message):
    with pytest.raises(error, match=message):
        model.playlist(**asked)


def library(kind="track"):
    world = small_world()
    bare = {"about": pl.lit(""), "relations": pl.lit(0), "popularity": pl.lit(0.0)}
    titles = world.tracks.select("id", name="title", **bare)
    names = {
        "artist": Names(world.artists.select("id", pl.col("name").fill_null("?"), **bare)),
        "track": Names(titles, "track"),
    }
    tracks = {f"a{x:02}": tuple(f"a{x:02}-{k}" for k in (1, 0)) for x in range(80)}
    known = {y for x in tracks.values() for y in x} if kind == "track" else set(tracks)
    return Library(kind, names, tracks, known)


def test_words_mean_ids_artists_titles_or_both():
    asked = {
        "a07": "a07",
        "artist 07": "a07",
        "Song a07 1": "a07-1",
        "ARTIST 07 - song A07 0": "a07-0",
    }
    assert {x: library().meaning(x).id for x in asked} == asked
    assert library().meaning("Artist 07 - Song a08 0") is None
    assert library().find(["Artist 07"]).weights == {"a07-1": 0.5, "a07-0": 0.5}
    assert library("artist").find(["a07-0", "Artist 07"]).weights == {"a07": 2.0}
    with pytest.raises(DataError, match=r"of 'Artist 82' \(a82\) no track is known but by name"):
        library().find(["Artist 82"])
    assert library().find(["Artist 82", "x"], lenient=True).unknown == ("Artist 82", "x")


def test_of_ten_thousand_seeds_some_are_asked_about(model):
    words = [f"a{x:05}" for x in range(10_000)]
    some = evenly(words)
    assert len(some) == len(set(some)) == MOST
    assert (some[0], some[-1]) == (words[0], words[-1])
    seeds = [f"a{x % 30:02}-{x % 2}" for x in range(10_000)]
    assert len(model.playlist(seeds, k=6)) == 6


SONGS = (
    SongFile("1", "Rádio <&>", "Söhne", "Al\x0bbum", "", "/music/a b/#1.flac", 61.4),
    SongFile("2", "Bell\a\ufffe", "", "", "https://musicbrainz.org/recording/x", "", None),
    SongFile("3", "Zwei", "Söhne", "", "", "https://example.net/2.ogg", 200.0),
)


def test_m3u8_names_files_from_its_own_folder_and_is_read_back(tmp_path):
    write_playlist(tmp_path / "rel.m3u8", [SongFile(location="#x/y.ogg")], title="x")
    assert (tmp_path / "rel.m3u8").read_text().splitlines()[-1] == "./#x/y.ogg"
    write_playlist(tmp_path / "rel.jspf", [SongFile(location="x/y.ogg")], title="x")
    inside = [SongFile("", "t", "a", "", "", str(tmp_path / "music" / "x.ogg"), 5.0)]
    path = tmp_path / "lists" / "mine.m3u8"
    lost = write_playlist(path, [*SONGS, *inside], title="My\nlist")
    assert lost == (SONGS[1],)
    assert path.read_text(encoding="utf-8").splitlines() == [
        "#EXTM3U",
        "#PLAYLIST:My\\x0alist",
        "#EXTINF:61,Söhne - Rádio <&>",
        "/music/a b/#1.flac",
        "#EXTINF:200,Söhne - Zwei",
        "https://example.net/2.ogg",
        "#EXTINF:5,a - t",
        "../music/x.ogg",
    ]
    read = read_m3u8(path)
    assert [x.location for x in read] == [SONGS[0].location, SONGS[2].location, inside[0].location]
    assert [(x.artist, x.title, x.seconds) for x in read][0] == ("Söhne", "Rádio <&>", 61.0)
    write_playlist(tmp_path / "again.m3u", read, title="My\nlist")
    assert read_m3u8(tmp_path / "again.m3u") == read
    with pytest.raises(DataError, match="of none is the file known"):
        write_playlist(tmp_path / "none.m3u8", SONGS[1:2], title="x")
    assert not (tmp_path / "none.m3u8").exists()


def test_xspf_and_jspf_are_what_programs_read(tmp_path):
    assert write_playlist(tmp_path / "x.xspf", SONGS, title="A & B") == ()
    tree = ElementTree.parse(tmp_path / "x.xspf").getroot()
    space = "{http://xspf.org/ns/0/}"
    tracks = tree.findall(f"{space}trackList/{space}track")
    values = [{x.tag.removeprefix(space): x.text for x in track} for track in tracks]
    assert tree.findtext(f"{space}title") == "A & B"
    assert values[0] == {
        "location": "file:///music/a%20b/%231.flac",
        "title": "Rádio <&>",
        "creator": "Söhne",
        "album": "Al\\x0bbum",
        "duration": "61400",
    }
    assert values[1]["identifier"] == "https://musicbrainz.org/recording/x"
    write_playlist(tmp_path / "x.jspf", SONGS, title="A & B")
    playlist = json.loads((tmp_path / "x.jspf").read_text(encoding="utf-8"))["playlist"]
    assert playlist["track"][2] == {
        "location": ["https://example.net/2.ogg"],
        "title": "Zwei",
        "creator": "Söhne",
        "duration": 200000,
    }


def test_foreign_playlists_are_read_within_bounds(tmp_path):
    path = tmp_path / "list.m3u"
    path.write_text(
        "\ufeff#EXTM3U\n#EXTALB:Live\n#EXTINF:-1,No dash\nC.mp3\n\nfile:///m/%C3%A4.ogg\n#end\n"
    )
    first, second = read_m3u8(path)
    assert (first.title, first.seconds, first.location) == (
        "No dash",
        None,
        str(tmp_path / "C.mp3"),
    )
    assert first.lines == ("#EXTALB:Live", "#EXTINF:-1,No dash")
    assert (second.location, second.label) == ("/m/ä.ogg", "")
    path.write_text("#EXTM3U\n" + "x.mp3\n" * 10_001)
    with pytest.raises(DataError, match="10,001 songs"):
        read_m3u8(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read"):
        read_m3u8(path)
    with pytest.raises(DataError, match="is no M3U8 file, and no other playlist is read"):
        read_m3u8(tmp_path / "x.XSPF")
    with pytest.raises(DataError, match="no playlist ends in '.pls'; known: .m3u8"):
        write_playlist(tmp_path / "x.pls", SONGS, title="x")


def test_songs_of_the_catalogue_are_known_by_their_files(model):
    items = [model.of("track").names.get(x) for x in ("a04-0", "a09-1")]
    songs = songs_of(model, items)
    assert [x.location for x in songs] == ["/music/a04/a04-0.flac", "/music/a09/a09-1.flac"]
    assert (songs[0].title, songs[0].artist) == ("Song a04 0", "Artist 04")
    files = [SongFile(location=x.location) for x in songs] + [SongFile(location="/else/a04-0.flac")]
    assert [x.id for x in with_ids(files, model)] == ["a04-0", "a09-1", ""]


def call(*words, code=0):
    result = CliRunner().invoke(cli, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def opened(model, monkeypatch):
    """The command line opens the model with its catalogue."""
    monkeypatch.setattr("undersong.model.load", lambda folder: model)


def test_the_command_prints_and_writes_the_same_playlist(opened, tmp_path):
    words = ("playlist", SHELF, "--like", "Artist 04", "--not", "Artist 09", "-n", 6, "--seed", 4)
    listed = [json.loads(x)["item"] for x in call(*words, "--json").stdout.splitlines()]
    assert len(listed) == 6
    out = tmp_path / "mine.m3u8"
    assert f"{out}: 6 songs, 6 of them new" in call(*words, "--out", out).stdout
    first = out.read_bytes()
    call(*words, "--out", out)
    assert out.read_bytes() == first
    assert [Path(x.location).stem for x in read_m3u8(out)] == listed
    out.write_bytes(first + b"#EXTINF:9,Somebody - Elsewhere\n/else/where.mp3\n")
    more = call("playlist", SHELF, "--extend", out, "-n", 3, "--out", out)
    assert f"{out}: 10 songs, 3 of them new" in more.stdout
    assert "left out 1 of which nothing is known here: 'Somebody - Elsewhere'" in more.stderr
    extended = [Path(x.location).stem for x in read_m3u8(out)]
    assert extended[:7] == [*listed, "where"]
    assert len(set(extended)) == 10
    never = tmp_path / "never.txt"
    never.write_text("Artist 14\n" + "\n".join(listed))
    others = call(*words, "--never", never, "--json").stdout
    assert not {json.loads(x)["item"] for x in others.splitlines()} & {*listed, "a14-0", "a14-1"}


def test_the_command_asks_for_a_listener(opened, tmp_path):
    plays = tmp_path / "plays.csv"
    plays.write_text("name,plays\nArtist 04,7\nNobody,2\n")
    result = call("playlist", SHELF, "--user", plays, "-n", 4, "--artists")
    assert len(result.stdout.splitlines()) == 5
    assert "left out 1 of which nothing is known here: 'Nobody'" in result.stdout
    user = small_world().plays.collect()["user"][0]
    assert len(call("playlist", SHELF, "--user", user, "-n", 4).stdout.splitlines()) > 4
    refused = call("playlist", SHELF, "--user", "u999", "-n", 4, code=1)
    assert "no user 'u999' plays artists" in refused.stderr


def test_the_command_puts_a_playlist_on_a_server(opened, tmp_path, monkeypatch):
    kept = Jellyfin(
        [{"Id": f"a{x:02}-{k}", "Name": "x"} for x in range(32) for k in (0, 1)], {"ann": PASSWORD}
    )
    login = tmp_path / "login"
    login.write_text(f"ann:{PASSWORD}\n")
    login.chmod(0o600)
    words = ("playlist", SHELF, "--like", "Artist 04", "-n", 5, "--title", "Radio")
    with answering(kept) as url:
        made = call(*words, "--to", url, "--login", login)
        assert "'Radio' made, 5 songs, 5 of them new" in made.stdout
        expected = [json.loads(x)["item"] for x in call(*words, "--json").stdout.splitlines()]
        assert kept.contents("Radio") == [expected]
        again = call(*words, "--to", url, "--login", login)
        assert "'Radio' changed, 5 songs, 0 of them new" in again.stdout
        assert kept.contents("Radio") == [expected]
        monkeypatch.delenv("UNDERSONG_LOGIN", raising=False)
        assert "the server needs a login" in call(*words, "--to", url, code=1).stderr


def test_a_wrong_end_of_a_name_is_refused_before_anything_is_read(tmp_path):
    refused = call("playlist", tmp_path, "--like", "x", "--out", tmp_path / "x.pls", code=1)
    assert "no playlist ends in '.pls'" in refused.stderr
