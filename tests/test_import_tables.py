import gzip
import os
import re
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest

from undersong.catalogue.tables import Catalogue
from undersong.errors import DataError, SettingsError
from undersong.importers.tables import conversion
from undersong.importers.tables.mapping import (
    ArtistsMapping,
    FeaturesMapping,
    FieldMapping,
    PlaysMapping,
    RelationsMapping,
    TracksMapping,
    read_mapping,
)

HERE = Path(__file__).parent.parent
DATA = Path(os.environ.get("UNDERSONG_DATA", HERE.parent / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not (DATA / "multisource").is_dir(), reason=f"no real data in {DATA}; set UNDERSONG_DATA"
)


@pytest.fixture
def write(tmp_path):
    def put(**files: str | bytes) -> Path:
        for name, content in files.items():
            raw = content if isinstance(content, bytes) else content.encode()
            stem, _, suffix = name.rpartition("_")
            (tmp_path / f"{stem}.{suffix}").write_bytes(raw)
        return tmp_path / "mapping.toml"

    return put


def imported(mapping: Path) -> Catalogue:
    return conversion.import_tables(mapping)[0]


ARTISTS = '[artists]\nfile = "artists.csv"\nname = "name"\n'


def test_ids_stay_text_and_names_are_composed(write):
    mapping = write(mapping_toml=ARTISTS, artists_csv="id,name\n007,Bjo\u0308rk\n1.0,Ärzte\n 7,\n")
    catalogue = imported(mapping)
    assert catalogue.ids("artist") == ("007", "1.0", "7")
    assert catalogue.names("artist") == ("Björk", "Ärzte", "7")


def test_tables_are_read_as_spreadsheets_save_them(tmp_path):
    (tmp_path / "ARTISTS.CSV").write_bytes("\ufeffsep=;\r\nid;name\r\n1;Ann\r\n2;Bob\r\n".encode())
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[artists]\nfile = "ARTISTS.CSV"\nname = "name"\n')
    assert imported(mapping).names("artist") == ("Ann", "Bob")


def test_who_is_nobody_stays_in_a_table_and_is_named(write):
    rows = "id,name\n1,Ann\nva,Various Artists\n89ad4ac3-39f7-470e-963a-56509c546377,Divers\n"
    mapping = write(mapping_toml=ARTISTS, artists_csv=rows)
    catalogue, summary = conversion.import_tables(mapping)
    assert len(catalogue.artists) == 3
    assert (
        conversion.text(summary)
        .splitlines()[-1]
        .startswith(
            "2 artists are nobody's name, and stay since the data say so: Various Artists (va), "
        )
    )
    write(artists_csv="id,name\n1,Ann\n2,Various Production\n")
    assert len(conversion.text(conversion.import_tables(mapping)[1]).splitlines()) == 1


@pytest.mark.parametrize("unseen", ["\u200b1", "1\u00a0", " 1", "\ufeff1", "1\u202f"])
def test_ids_that_look_alike_are_one_and_so_a_fault(write, unseen):
    mapping = write(mapping_toml=ARTISTS, artists_csv=f"id,name\n1,Ann\n{unseen},Bob\n2,Cy\n")
    with pytest.raises(DataError, match="artists.csv line 3: .*'1'"):
        imported(mapping)


@pytest.mark.parametrize(
    "content",
    [
        '\ufeffid,name\na,Ann\nb,"Bob, the ""Great"""\n',
        'id;name\na;Ann\nb;"Bob, the ""Great"""\n',
        'id\tname\r\na\tAnn\r\nb\tBob, the "Great"\r\n',
        'id,name\n\na,Ann\n\nb,"Bob, the ""Great"""',
        'name,id\nAnn,a\n"Bob, the ""Great""",b\n',
    ],
    ids=["byte order mark", "semicolon", "tab and stray quotes", "blank lines", "other order"],
)
def test_csv_of_many_programs_reads_the_same(write, content):
    catalogue = imported(write(mapping_toml=ARTISTS, artists_csv=content))
    assert catalogue.names("artist") == ("Ann", 'Bob, the "Great"')


def test_a_single_quote_sign_within_a_value_does_not_swallow_the_next_lines(write):
    content = 'id,name\na,12" mix\nb,Bob\nc,7" mix\nd,Dan\n'
    catalogue = imported(write(mapping_toml=ARTISTS, artists_csv=content))
    assert catalogue.names("artist") == ('12" mix', "Bob", '7" mix', "Dan")


def test_gzip_and_another_delimiter_are_read(write, tmp_path):
    content = gzip.compress(b"id|name\na|Ann\n")
    (tmp_path / "artists.csv.gz").write_bytes(content)
    text = '[artists]\nfile = "artists.csv.gz"\nname = "name"\ndelimiter = "|"\n'
    assert imported(write(mapping_toml=text)).names("artist") == ("Ann",)


FIELDS = (
    ARTISTS
    + """
empty = ["NA", "?"]
[artists.fields.style]
column = "genre"
role = "genre"
[artists.fields.tags]
type = "tags"
separator = ";"
withheld = true
[artists.fields.year]
type = "number"
role = "popularity"
"""
)


def test_fields_have_their_type_role_and_missing_values(write):
    catalogue = imported(
        write(
            mapping_toml=FIELDS,
            artists_csv="id,name,genre,tags,year\n"
            "NA,Ann,rock, b; a;;b ,1990\nb,Bob,NA,;,?\nc,Cy,, , 2.5e1 \n",
        )
    )
    assert catalogue.artists["style"].to_list() == ["rock", None, None]
    assert catalogue.artists["tags"].to_list() == [["b", "a"], None, None]
    assert catalogue.artists["year"].to_list() == [1990, None, 25]
    assert catalogue.ids("artist")[0] == "NA"  # `empty` never touches ids
    style, tags, year = catalogue.fields
    assert (style.role, tags.withheld, year.role) == ("genre", True, "popularity")
    assert catalogue.artists.columns == ["id", "name", "split", "style", "tags", "year"]


def test_tags_with_votes_lose_them_and_stand_in_their_order(write):
    text = FIELDS.replace('separator = ";"', 'separator = ";"\nvotes = ":"')
    cells = ("a:1;b : 12;2:1:c;d:9", "e;f:0.5; f:3 ;a:b", ":4")
    rows = "".join(f"{x},n,g,{cell},1\n" for x, cell in enumerate(cells))
    catalogue = imported(write(mapping_toml=text, artists_csv="id,name,genre,tags,year\n" + rows))
    wanted = [["b", "d", "a", "2:1:c"], ["f", "e", "a:b"], None]
    assert catalogue.artists["tags"].to_list() == wanted
    with pytest.raises(SettingsError, match="votes is given, but type is 'number'"):
        imported(write(mapping_toml=FIELDS.replace('"number"', '"number"\nvotes = ":"')))


def test_a_semicolon_file_writes_numbers_with_a_comma(write):
    text = FIELDS.replace('separator = ";"', "")
    content = "id;name;genre;tags;year\na;Ann;x;t|u;3,25\n"
    catalogue = imported(write(mapping_toml=text, artists_csv=content))
    assert catalogue.artists["year"].to_list() == [3.25]


def test_a_word_after_ten_thousand_numbers_is_found_on_its_line(write):
    rows = "".join(f"{x},n{x},g,t,{x}\n" for x in range(11_003))
    mapping = write(
        mapping_toml=FIELDS, artists_csv="id,name,genre,tags,year\n" + rows + "z,Z,g,t,many\n"
    )
    with pytest.raises(DataError, match=r"artists.csv line 11005: year is 'many', not a number"):
        conversion.import_tables(mapping)


def test_parquet_keeps_whole_number_ids_lists_and_vectors(write, tmp_path):
    pl.DataFrame({"id": [7, 12], "tags": [["x", "y", "x"], []]}).write_parquet(
        tmp_path / "artists.parquet"
    )
    pl.DataFrame(
        {"id": [12, 7], "vector": [[1.0, 2.0, 3.0], [4.0, float("nan"), 6.0]]}
    ).write_parquet(tmp_path / "audio.parquet")
    catalogue, summary = conversion.import_tables(
        write(
            mapping_toml='[artists]\nfile = "artists.parquet"\n'
            '[artists.fields.tags]\ntype = "tags"\n'
            '[[features]]\nname = "sound"\nfile = "audio.parquet"\nvector = "vector"\n'
        )
    )
    assert catalogue.ids("artist") == ("7", "12")
    assert catalogue.artists["tags"].to_list() == [["x", "y"], None]
    assert catalogue.features["sound", "artist"].ids == ("12",)
    assert catalogue.features["sound", "artist"].vectors.tolist() == [[1, 2, 3]]
    assert summary.tables[-1].left_out == (("with a value missing", 1),)


WHOLE = """
[artists]
file = "artists.csv"
name = "name"
split = "part"
split_values = { val = "validation" }
where = { inside = true, country = ["NO", "SE"] }
[tracks]
file = "tracks.csv"
artist = "by"
path = "path"
audio_root = "audio"
popularity = "listeners"
unknown = "leave out"
[[plays]]
file = "plays.csv"
item = "artist"
plays = "count"
[[plays]]
file = "log.csv"
kind = "track"
item = "track"
[[relations]]
file = "relations.csv"
source_column = "from"
sources = ["press"]
[[features]]
name = "sound"
file = "sound.csv"
prefix = "f"
[[features]]
name = "sound"
kind = "track"
file = "tracks.csv"
columns = ["f2", "f1"]
unknown = "leave out"
"""


@pytest.fixture
def whole(write, tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "t1.ogg").write_bytes(b"")
    return write(
        mapping_toml=WHOLE,
        artists_csv="id,name,part,inside,country\na,A,train,True,NO\nb,B,val,true,SE\n"
        "c,C,,1,SE\nout,O,test,False,NO\nfar,F,test,True,US\n",
        tracks_csv="id,by,path,listeners,f1,f2\nt1,a,t1.ogg,5,.1,.2\nt2,b,,,.3,\nt3,out,x,1,1,1\n"
        "t4,ghost,y,1,1,1\n,,,,1,1\n",
        plays_csv="user,artist,count\nu1,a,2\nu1,a,3\nu1,out,9\nu2,b,0\nu2,c,1.5\n",
        log_csv="user,track\nu1,t1\nu1,t1\nu3,t2\n",
        relations_csv="a,b,from\nb,a,press\na,b,press\nc,a,press\na,b,fans\na,out,press\n",
        sound_csv="id,f1,f2,g\na,1,2,9\nc,3,4,9\nout,5,6,9\n",
    )


def test_where_keeps_rows_and_all_that_belongs_to_the_others_is_counted_and_left_out(whole):
    catalogue, summary = conversion.import_tables(whole)
    assert catalogue.ids("artist") == ("a", "b", "c")
    assert catalogue.artists["split"].to_list() == ["train", "validation", None]
    assert catalogue.tracks.select("id", "artist", "popularity").rows() == [
        ("t1", "a", 5),
        ("t2", "b", None),
    ]
    assert catalogue.plays.collect().rows() == [
        ("artist", "u1", "a", 5),
        ("artist", "u2", "c", 1.5),
        ("track", "u1", "t1", 2),
        ("track", "u3", "t2", 1),
    ]
    assert catalogue.relations.rows() == [
        ("artist", "a", "b", "press"),
        ("artist", "a", "c", "press"),
    ]
    left_out = {x.table: dict(x.left_out) for x in summary.tables}
    assert left_out["artists"] == {"other inside": 1, "other country": 1}
    assert left_out["tracks"] == {"of an unknown artist": 2, "of artists left out": 1}
    assert left_out["plays of artists"] == {"of artists left out": 1, "without a play": 1}
    assert left_out["relations of artists"] == {
        "from other sources": 1,
        "of artists left out": 1,
        "given twice, or both ways": 1,
    }
    assert "-2 of an unknown artist" in conversion.text(summary)


def test_features_are_in_the_order_of_the_mapping_and_rows_with_a_gap_are_left_out(whole):
    catalogue = imported(whole)
    artist, track = catalogue.features["sound", "artist"], catalogue.features["sound", "track"]
    assert artist.ids == ("a", "c")
    assert artist.vectors.tolist() == [[1, 2], [3, 4]]
    assert track.ids == ("t1",)
    assert track.vectors.tolist() == [[pytest.approx(0.2), pytest.approx(0.1)]]


def test_audio_paths_begin_at_the_audio_root_below_the_data(whole, tmp_path):
    catalogue = imported(whole)
    assert catalogue.audio_root == (tmp_path / "audio").resolve()
    moved = whole.rename(tmp_path / "audio" / "m.toml")
    again, _ = conversion.import_tables(moved, data=tmp_path)
    assert again.audio_root == catalogue.audio_root


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[artits]\n", r"no table 'artits'; did you mean 'artists'\?"),
        ("[plays]\nfile = 'p.csv'\n", r"no table \[artists\]"),
        ("[artists]\nid = 'id'\n", r"\[artists\] needs `file`"),
        (ARTISTS + "nmae = 'x'\n", r"has no 'nmae'; did you mean 'name'\?"),
        (ARTISTS + "where = 'x'\n", r"where is 'x', expected a table like"),
        (ARTISTS + "[artists.fields.g]\ntype = 'tag'\n", r"fields.g\] type 'tag'; did you mean 't"),
        (ARTISTS + "[artists.fields.g]\nrole = 'gener'\n", r"role 'gener'; did you mean 'genre'\?"),
        (ARTISTS + "[artists.fields.g]\nrole = 'popularity'\n", "popularity is a number"),
        (ARTISTS + "[artists.fields.g]\ntype = 'tags'\nrole = 'album'\n", "a track has one"),
        (ARTISTS + "[artists.fields.name]\n", "'name' is a column of every artist"),
        (
            ARTISTS + "[artists.fields.g]\nrole = 'genre'\n[artists.fields.h]\nrole = 'genre'\n",
            "'g' and 'h' both have the role 'genre'",
        ),
        (ARTISTS + "split_values = { x = 'tset' }\n", r"x = 'tset'; did you mean 'test'\?"),
        (ARTISTS + "[plays]\nfile = 'p.csv'\nkind = 'artis'\n", r"did you mean 'artist'\?"),
        (ARTISTS + "[[relations]]\nfile = 'r.csv'\n", "one of `source`, a name, and"),
        (ARTISTS + "[[features]]\nname = 'x y'\nfile = 'f.csv'\n", "found 'x y'"),
        (ARTISTS + "[[features]]\nname = 'x'\nfile = 'f.csv'\n", "one of `columns`, `prefix`"),
        (ARTISTS + 2 * "[[features]]\nname = 'x'\nfile = 'f'\nprefix = 'p'\n", "named 'x'"),
    ],
)
def test_a_mapping_at_fault_names_the_nearest_known_word(write, text, message):
    with pytest.raises(SettingsError, match=message):
        read_mapping(write(mapping_toml=text))


def test_import_names_the_first_faults_and_how_to_see_all(write):
    mapping = write(
        mapping_toml=FIELDS, artists_csv="id,name,genre,tags,year\na,A,x,y,inf\n,B,,,\n"
    )
    with pytest.raises(DataError, match="year is inf.*\n.*line 3: has no id"):
        conversion.import_tables(mapping)


@needs_data
@pytest.mark.parametrize(
    ("name", "artists", "pairs", "without"),
    [("multisource-A", 5289, 14859, 0.446), ("multisource-B", 8365, 27823, 0.376)],
)
def test_real_artists_are_those_that_their_readme_counts(name, artists, pairs, without):
    catalogue, _ = conversion.import_tables(
        HERE / "examples" / f"{name}.toml", data=DATA / "multisource"
    )
    related = catalogue.pairs("artist").select("a", "b").unique()
    linked = pl.concat([related["a"], related["b"]]).n_unique()
    assert (len(catalogue.artists), len(related)) == (artists, pairs)
    assert 1 - linked / artists == pytest.approx(without, abs=0.0005)
    assert set(catalogue.artists["split"].drop_nulls()) == {"train", "validation", "test"}


@needs_data
def test_real_songs_have_their_audio_files():
    catalogue, _ = conversion.import_tables(HERE / "examples" / "lieder.toml", data=DATA / "lieder")
    assert (len(catalogue.artists), len(catalogue.tracks)) == (81, 446)
    assert (catalogue.audio_root / catalogue.tracks["path"][0]).is_file()


def documented(heading: str) -> set[str]:
    """Keys in the first column of the tables below one heading of the docs."""
    page = (HERE / "docs" / "catalogue.md").read_text()
    (section,) = [x for x in re.split(r"^###? ", page, flags=re.M) if x.startswith(heading)]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    return {key for cell in cells for key in re.findall(r"`(\w+)`", cell)}


@pytest.mark.parametrize(
    ("heading", "kinds"),
    [
        ("`[artists]`", (ArtistsMapping, TracksMapping)),
        ("`[artists.fields", (FieldMapping,)),
        ("`[plays]`", (PlaysMapping,)),
        ("`[[relations]]`", (RelationsMapping,)),
        ("`[[features]]`", (FeaturesMapping,)),
    ],
)
def test_the_docs_list_every_key_and_no_other(heading, kinds):
    known = {x.name for kind in kinds for x in fields(kind)} - {"fields"}
    common = set() if kinds == (FieldMapping,) else documented("Keys of every table")
    assert documented(heading) | common == known


def test_the_mapping_in_the_docs_is_read(tmp_path):
    page = (HERE / "docs" / "catalogue.md").read_text()
    examples = re.findall(r"```toml\n(.*?)```", page, flags=re.S)
    assert len(examples) == 2
    for text in examples:
        (tmp_path / "mapping.toml").write_text(text)
        assert read_mapping(tmp_path / "mapping.toml").artists.file == "artists.csv"


TRACKS = '[tracks]\nfile = "tracks.csv"\nartist = "artist"\n'


@needs_data
def test_set_t_has_all_its_tracks_and_relations():
    mapping = HERE / "examples" / "multisource-T.toml"
    catalogue = conversion.import_tables(mapping, data=DATA / "multisource")[0]
    assert len(catalogue.tracks) == 6592
    assert len(catalogue.pairs("track")) == 10030
    assert catalogue.tracks["artist"].n_unique() == 540
    roles = {x.role: x.name for x in catalogue.fields_of("track") if x.role}
    assert roles == {
        "genre": "spotify_genres",
        "region": "country",
        "popularity": "artist_popularity",
    }
    assert [x.name for x in catalogue.fields_of("track") if x.withheld] == ["dbpedia_genres"]


def test_artists_that_only_tracks_name_are_added_where_the_mapping_says_so(write):
    mapping = write(
        mapping_toml=ARTISTS + 'where = { kept = "y" }\n' + TRACKS + 'unknown = "add"\n',
        artists_csv="id,name,kept\na,Ann,y\nb,Bob,n\n",
        tracks_csv="id,artist\n1,a\n2,b\n3,zoe\n4,zoe\n5,\n",
    )
    catalogue, summary = conversion.import_tables(mapping)
    assert catalogue.ids("artist") == ("a", "zoe")
    assert catalogue.names("artist") == ("Ann", "zoe")
    assert list(catalogue.tracks["artist"]) == ["a", "zoe", "zoe"]
    assert dict(summary.tables[1].left_out) == {"of an unknown artist": 1, "of artists left out": 1}


def test_tracks_take_over_the_fields_of_their_artist_but_no_role_twice(write):
    fields = (
        '[artists.fields.style]\nrole = "genre"\n[artists.fields.land]\nrole = "region"\n'
        "[artists.fields.judge]\nwithheld = true\n[artists.fields.mood]\n"
    )
    own = 'artist_fields = true\n[tracks.fields.genre]\nrole = "genre"\n[tracks.fields.mood]\n'
    mapping = write(
        mapping_toml=ARTISTS + fields + TRACKS + own,
        artists_csv="id,name,style,land,judge,mood\na,Ann,folk,no,x,sad\nb,Bob,,se,y,glad\n",
        tracks_csv="id,artist,genre,mood\n1,b,rock,calm\n2,a,pop,wild\n3,b,jazz,\n",
    )
    catalogue = imported(mapping)
    assert list(catalogue.tracks["style"]) == [None, "folk", None]
    assert list(catalogue.tracks["land"]) == ["se", "no", "se"]
    assert list(catalogue.tracks["mood"]) == ["calm", "wild", None]
    found = {x.name: (x.role, x.withheld) for x in catalogue.fields_of("track")}
    assert found == {
        "genre": ("genre", False),
        "mood": ("", False),
        "style": ("", False),
        "land": ("region", False),
        "judge": ("", True),
    }
