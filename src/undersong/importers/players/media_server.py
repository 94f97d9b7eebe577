"""A media server's library -> a catalogue whose ids are the server's, so that players can ask by
them.

All songs are read each time, in large pages: of 100,000 that takes seconds, and whatever changed
on the server is seen. A star counts as a play where there is none. Files of one recording are one
track, as in a music folder, and so are spellings of one artist; ``identities`` lists all ids.
"""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from typing import BinaryIO, cast

import polars as pl

from undersong.audio.logmel import Undecodable
from undersong.catalogue import (
    PLAYS,
    Catalogue,
    Field,
    Origin,
    read_catalogue,
    recorded_source,
)
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.importers.music.credits import (
    NO_ALIASES,
    Aliases,
    Credit,
    credits_of,
    is_somebody,
    renamed,
)
from undersong.importers.music.library import keep
from undersong.importers.music.tags import UUID, Tags
from undersong.importers.players.collection import (
    COLLECTION,
    TOTALS,
    Listing,
    catalogue_of,
    file_row,
    mbid,
)
from undersong.importers.result import Failures, Imported
from undersong.io.table_files import read_table
from undersong.progress import Progress, silent
from undersong.servers import Server
from undersong.servers.connection import Refused, Song

MBIDS = tuple(Field("mbid", kind, "category", withheld=True) for kind in ("artist", "track"))
ROWS = COLLECTION | {"place": pl.String(), "main": pl.String()}
STAR = 1.0  # plays that a star counts as, at least
REMEDY = "tag it, and let the server scan again"


LARGEST_SOUND = 256 << 20  # bytes of one song


@dataclass(frozen=True)
class Music:
    """Where the files of a server lie on this machine.

    Parameters
    ----------
    folder : here
    prefix : how paths of the server begin that lie in it; empty if its paths begin in the folder
    """

    folder: Path
    prefix: str = ""

    def place(self, path: str) -> str | None:
        """Return a server's path as one below the folder; None for one that is not."""
        place = PurePosixPath(path)
        try:
            below = place.relative_to(self.prefix) if self.prefix else place
        except ValueError:
            return None
        return None if below.is_absolute() or ".." in below.parts else str(below)


def read(
    servers: Sequence[Server],
    failures: Failures,
    *,
    folder: Path,
    music: Music | None = None,
    forget: bool = False,
    aliases: Aliases = NO_ALIASES,
    progress: Progress = silent,
) -> Imported:
    """Read a library.

    Parameters
    ----------
    servers : one server, as one login or several see it, whose plays and stars are read
    folder : of the catalogue, of which features, relations and splits stay
    music : where files lie here; without it no track has a path
    forget : also if the server has lost most of its songs
    aliases : of artists

    Raises
    ------
    DataError
        If the server has no song, or less than half of those that it had, and not ``forget``.
    """
    place, kind = servers[0].place, servers[0].kind
    artists, stars = _artists(servers)
    songs, totals = _songs(servers, artists, failures, progress=progress)
    if songs.is_empty():
        raise DataError(f"{place} has no song that names an artist and a title; nothing is written")
    old = read_catalogue(folder) if recorded_source(folder) == kind else None
    notes = _compare(songs, folder, place=place, forget=forget) if old else []
    origin = Origin(kind.capitalize(), "personal data", "tracks, tags, plays")
    files = renamed(songs.select(list(COLLECTION)), aliases)
    plain, ids = catalogue_of(files, totals, origin=origin)
    made, identities = _with_their_ids(plain, songs, ids)
    made = _with_places(_with_stars(made, stars, identities), songs, music)
    if lacking := made.tracks["path"].null_count():
        where = f"in {music.folder}" if music else "here; --music says where they lie"
        notes.append(f"{lacking:,} tracks are no files {where}")
    return Imported(_kept(made, old) if old else made, identities, tuple(notes))


def _artists(servers: Sequence[Server]) -> tuple[dict[str, str], pl.DataFrame]:
    """Read the MusicBrainz ids of artists, by the server's, and who has starred whom."""
    mbids, stars = dict[str, str](), []
    for server in servers:
        for user, name in server.users.items():
            for page in server.artists(user):
                mbids |= {x.id: known for x in page if (known := mbid(x.mbid))}
                stars += [(name, x.id) for x in page if x.starred]
    return mbids, pl.DataFrame(
        stars, schema={"user": pl.String, "source_id": pl.String}, orient="row"
    )


def _songs(
    servers: Sequence[Server],
    artists: Mapping[str, str],
    failures: Failures,
    *,
    progress: Progress,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read every song once, and what each user played: columns ``ROWS`` and ``TOTALS``."""
    rows, totals, seen = [pl.DataFrame(schema=ROWS)], [pl.DataFrame(schema=TOTALS)], set[str]()
    for server in servers:
        for user, name in server.users.items():
            count = 0
            for page in server.songs(user):
                new = [x for x in page if x.id not in seen]
                seen.update(x.id for x in new)
                rows.append(_rows(new, artists, failures))
                plays = [(name, x.id, _plays(x)) for x in page if _plays(x)]
                totals.append(pl.DataFrame(plays, schema=TOTALS, orient="row"))
                count += len(page)
                progress(f"songs of {name}", count, max(count + 1, len(seen)))
            progress(f"songs of {name}", count, count)
    return pl.concat(rows), pl.concat(totals).group_by("user", "source_id").agg(pl.max("plays"))


def _plays(song: Song) -> float:
    return max(float(song.plays), STAR if song.starred else 0.0)


def _rows(songs: Sequence[Song], artists: Mapping[str, str], failures: Failures) -> pl.DataFrame:
    named = []
    for song in songs:
        credits = _credits(song, artists)
        if not credits or not song.title:
            shown = song.path or song.title or song.id
            failures.add(shown, None, "names no artist or title", remedy=REMEDY)
            continue
        row = file_row(
            source_id=song.id,
            path=song.id,
            credits=credits,
            title=song.title,
            album=song.album,
            recording=mbid(song.recording),
            genres=song.genres,
            year=song.year,
            seconds=song.seconds,
            compilation=False,
        )
        main = next((x for name, x in song.artists if name.startswith(credits[0].name)), None)
        named.append(row | {"place": song.path, "main": main or None})
    return pl.DataFrame(named, schema=ROWS)


def _credits(song: Song, artists: Mapping[str, str]) -> tuple[Credit, ...]:
    pairs = [(name, artists.get(x, "")) for name, x in song.artists if is_somebody(name)]
    if len(pairs) == 1 and not pairs[0][1]:  # which may be several artists in one text
        return credits_of(Tags(artist=(pairs[0][0],)))
    return tuple(Credit(*x) for x in dict(pairs).items())


def _compare(songs: pl.DataFrame, folder: Path, *, place: str, forget: bool) -> list[str]:
    """Compare the server's songs with those of the last import, in words.

    Raises
    ------
    DataError
        If it has less than half as many, and not ``forget``.
    """
    known = read_table(folder / "identities.parquet", hint=f"import {folder} again")
    before = known.filter(pl.col("kind") == "track")["source_id"]
    now = songs["source_id"]
    if 2 * len(now) < len(before) and not forget:
        raise DataError(
            f"{place} has {len(now):,} songs, of {len(before):,} last time; is its music there? "
            "Nothing is written. --forget takes the others as gone"
        )
    same = before.is_in(now.implode()).sum()
    new, gone = len(now) - same, len(before) - same
    notes = [f"{new:,} new, {gone:,} gone, {same:,} still there"]
    if 2 * same < len(before) and not forget:
        notes.append("most ids are new: the server made its songs anew; train and publish again")
    return notes


def _with_their_ids(
    plain: Catalogue, songs: pl.DataFrame, identities: pl.DataFrame
) -> tuple[Catalogue, pl.DataFrame]:
    """Call artists and tracks as the server does, and keep MusicBrainz ids as a field."""
    tracks = plain.tracks.select("artist", track="id", theirs="path")
    each = songs.select("source_id", "main").join(
        identities.select("source_id", track="id"), on="source_id"
    )
    each = each.join(tracks, on="track")
    mains = each.drop_nulls("main").group_by("artist", "main").len()
    mains = mains.sort("len", "main", descending=[True, False])
    frequent = mains.unique("artist", keep="first", maintain_order=True)
    frequent = frequent.unique("main", keep="first", maintain_order=True)
    names: dict[str, dict[str, str]] = {
        "artist": dict(frequent.select("artist", "main").iter_rows()),
        "track": dict(tracks.select("track", "theirs").iter_rows()),
    }
    known = pl.when(pl.col("id").str.contains(f"^{UUID.pattern}$")).then("id").alias("mbid")
    artist = pl.col("artist").replace(names["artist"])
    plays = plain.plays.collect()
    made = replace(
        plain,
        artists=plain.artists.with_columns(known)
        .with_columns(pl.col("id").replace(names["artist"]))
        .sort("id"),
        tracks=plain.tracks.with_columns(known).with_columns(artist, id="path"),
        plays=pl.concat(
            plays.filter(pl.col("kind") == kind).with_columns(pl.col("item").replace(own))
            for kind, own in names.items()
        ).lazy(),
        fields=(*plain.fields, *MBIDS),
    )
    source = identities["source"][0]
    theirs = pl.concat(
        rows.select(
            pl.lit(kind).alias("kind"), "id", pl.lit(source).alias("source"), "source_id"
        ).unique()
        for kind, rows in (
            ("artist", each.drop_nulls("main").select(artist.alias("id"), source_id="main")),
            ("track", each.select("source_id", id="theirs")),
        )
    )
    return made, theirs.sort(theirs.columns)


def _with_stars(made: Catalogue, stars: pl.DataFrame, identities: pl.DataFrame) -> Catalogue:
    """Count a starred artist whose songs a user has never played as played."""
    own = identities.filter(pl.col("kind") == "artist").select("source_id", item="id")
    rows = stars.join(own, on="source_id").select(
        pl.lit("artist").alias("kind"), "user", "item", pl.lit(STAR).alias("plays")
    )
    plays = made.plays.collect()
    new = rows.unique().join(plays, on=["kind", "user", "item"], how="anti")
    return replace(made, plays=pl.concat([plays, new]).sort("kind", "user", "item").lazy())


def _with_places(made: Catalogue, songs: pl.DataFrame, music: Music | None) -> Catalogue:
    """Find where tracks lie on this machine, if ``music`` says where."""
    listing = Listing(music.folder) if music else None
    places = dict(songs.select("source_id", "place").iter_rows())
    paths = [
        listing.find(place) if music and listing and (place := music.place(places[x])) else None
        for x in made.tracks["path"]
    ]
    tracks = made.tracks.with_columns(pl.Series("path", paths, dtype=pl.String))
    return replace(made, tracks=tracks, audio_root=music.folder.resolve() if music else None)


def _kept(made: Catalogue, old: Catalogue) -> Catalogue:
    """Add what the catalogue before knew beyond the server, of tracks that are still there."""
    fields = tuple(x for x in old.fields if x not in MBIDS)
    whole = keep(made, replace(old, plays=pl.LazyFrame(schema=PLAYS), fields=fields))
    ids = made.tracks["id"]
    there = pl.col("a").is_in(ids.implode()) & pl.col("b").is_in(ids.implode())
    return replace(
        whole,
        tracks=whole.tracks.filter(pl.col("id").is_in(ids.implode())),
        relations=whole.relations.filter(there | (pl.col("kind") == "artist")),
        features={
            key: _of(x, set(ids)) if key[1] == "track" else x for key, x in whole.features.items()
        },
        plays=made.plays,
        origins=made.origins,
    )


def _of(features: Embeddings, ids: Collection[str]) -> Embeddings:
    rows = [row for row, item in enumerate(features.ids) if item in ids]
    return Embeddings(tuple(features.ids[x] for x in rows), features.vectors[rows])


class Sounds:
    """Gets the sound of songs from a server: one at a time, and not too many a second.

    Parameters
    ----------
    server : whose ids the tracks have
    rate : most songs a second
    """

    def __init__(self, server: Server, *, rate: float) -> None:
        self._server, self._pause, self._next = server, 1 / rate, time.monotonic()

    @contextmanager
    def __call__(self, song: str) -> Iterator[Path]:
        """Yield a file with the sound of a song, which is deleted at the end of the block.

        Raises
        ------
        Undecodable
            If the server sends none of this song.
        DataError
            If the server cannot be reached.
        """
        time.sleep(max(0.0, self._next - time.monotonic()))
        self._next = time.monotonic() + self._pause
        with NamedTemporaryFile(prefix="undersong-") as file:
            try:
                self._server.fetch_sound(song, cast(BinaryIO, file), largest=LARGEST_SOUND)
            except Refused as error:
                raise Undecodable(str(error), "see that the server has its file") from error
            file.flush()
            yield Path(file.name)
