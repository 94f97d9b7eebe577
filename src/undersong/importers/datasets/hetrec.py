"""HetRec 2011, Last.fm-2k (GroupLens) -> artists with tags, and what 1,892 users played.

Read from the zip: artists.dat (id, name), user_artists.dat (plays of each user's top 50),
user_taggedartists.dat and tags.dat (the tags of an artist, most users first). Friends are not
read. The data are for non-commercial use.
"""

from collections import Counter, defaultdict
from pathlib import Path

import polars as pl

from undersong.catalogue import ITEMS, PLAYS, Catalogue, Field, Origin
from undersong.errors import DataError
from undersong.importers.archives import TABLE_REMEDY, members, separated
from undersong.importers.result import IDENTITIES, Failures, Imported

ORIGIN = Origin("HetRec 2011 Last.fm-2k", "non-commercial use", "plays, tags")
WIDTHS = {"artists": 4, "tags": 2, "user_artists": 3, "user_taggedartists": 6}
ENCODINGS = {"tags": "latin-1"}
WANTED = r"(^|/)(artists|tags|user_artists|user_taggedartists)\.dat$"
SOURCE = "lastfm2k"
Rows = dict[str, list[tuple[int, list[str]]]]


def read(path: Path, failures: Failures) -> Imported:
    """Read the zip as it comes, or the folder it was unpacked to."""
    rows: Rows = {}
    for member in members(path, WANTED, alone=False):
        name = Path(member.name).stem
        lines = separated(
            member, failures, mark="\t", width=WIDTHS[name], encoding=ENCODINGS.get(name, "utf-8")
        )
        rows[name] = [(number, list(values)) for number, values in lines if number > 1]
    lacking = sorted(set(WIDTHS) - set(rows))
    if lacking:
        raise DataError(f"{path} lacks {lacking[0]}.dat; give hetrec2011-lastfm-2k.zip")
    artists = pl.DataFrame(
        [(x[0], x[1].strip() or None, None) for _, x in rows["artists"]],
        schema=ITEMS["artist"],
        orient="row",
    ).unique("id", keep="first", maintain_order=True)
    artists = artists.join(_tags(rows), on="id", how="left", maintain_order="left")
    catalogue = Catalogue(
        artists=artists,
        plays=_plays(rows, set(artists["id"]), failures).lazy(),
        fields=(Field("tags", "artist", "tags", "genre"),),
        origins=(ORIGIN,),
    )
    named = (
        pl.lit("artist").alias("kind"),
        pl.lit(SOURCE).alias("source"),
        pl.col("id").alias("source_id"),
    )
    return Imported(catalogue, artists.select("id", *named).select(list(IDENTITIES)))


def _tags(rows: Rows) -> pl.DataFrame:
    words = {number: word.strip() for _, (number, word) in rows["tags"]}
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for _, (_, artist, tag, *_) in rows["user_taggedartists"]:
        if words.get(tag):
            counts[artist][words[tag]] += 1
    ordered = {x: sorted(votes, key=lambda w: (-votes[w], w)) for x, votes in counts.items()}
    schema = {"id": pl.String(), "tags": pl.List(pl.String())}
    return pl.DataFrame(list(ordered.items()), schema=schema, orient="row")


def _plays(rows: Rows, known: set[str], failures: Failures) -> pl.DataFrame:
    counts = []
    for number, (user, artist, plays) in rows["user_artists"]:
        if artist in known and (plays.isdecimal() and 0 < float(plays) < 2**53):
            counts.append(("artist", user, artist, float(plays)))
        else:
            reason = f"plays {plays!r} of artist {artist!r}: no number, or no artist"
            failures.add("user_artists.dat", number, reason, remedy=TABLE_REMEDY)
    table = pl.DataFrame(counts, schema=PLAYS, orient="row")
    return table.group_by("kind", "user", "item", maintain_order=True).agg(pl.sum("plays"))
