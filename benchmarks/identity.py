"""Precision and recall of identity: names of AllMusic against names of Last.fm, and homonyms.

    python benchmarks/identity.py DATA

DATA holds ``multisource``, ``olga`` and ``lastfm2k``. Two measurements, each with its curve over
how many contradicting facts keep two of one name apart:

names      OLGA's artists (AllMusic ids) against the artists of HetRec Last.fm-2k. Right is a pair
           that one row of ``multisource/artists.csv`` holds, wrong one of which a row says that
           another artist of the other side is meant; of the rest nobody knows.
homonyms   names in both sources are given to two artists each, whose genres (two vocabularies),
           countries and decades stay what they are: nobody can tell them apart by name.
"""

import io
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from undersong.catalogue.names import fold
from undersong.linkage.items import LinkedItem, main_artist, spell
from undersong.linkage.matching import match

CONFLICTS = (1, 2, 3, 5)
WORDS = 8  # most used tags of an artist


def words(text, *, separator="|", most=WORDS):
    """Words of a cell, folded."""
    return frozenset(fold(x.split(":")[0]) for x in (text or "").split(separator)[:most] if x)


def allmusic(data):
    """Artists of OLGA, with their tags."""
    table = pl.read_csv(data / "olga/artists.csv", infer_schema=False)
    for row in table.filter(pl.col("name").is_not_null()).iter_rows(named=True):
        genres = words(row["musicbrainz_tags"])
        yield LinkedItem(("allmusic", row["allmusic_id"]), spell(row["name"]), genres=genres)


def lastfm(data):
    """Artists of HetRec Last.fm-2k, with the tags that users gave them most."""
    with zipfile.ZipFile(data / "lastfm2k/hetrec2011-lastfm-2k.zip") as archive:
        artists = dat(archive, "artists.dat").select("id", "name")
        tags = dat(archive, "tags.dat", encoding="latin-1")
        used = dat(archive, "user_taggedartists.dat").select("artistID", "tagID")
    top = (
        used.group_by("artistID", "tagID")
        .len()
        .sort("artistID", "len", "tagID", descending=[False, True, False])
        .join(tags, on="tagID", maintain_order="left")
        .group_by("artistID", maintain_order=True)
        .agg(pl.col("tagValue").head(WORDS))
    )
    known = dict(top.iter_rows())
    for number, name in artists.iter_rows():
        genres = frozenset(map(fold, known.get(number, ())))
        yield LinkedItem(("lastfm", number), spell(name), genres=genres)


def dat(archive, name, *, encoding="utf-8"):
    """One table of the HetRec archive."""
    text = archive.read(name).decode(encoding).encode()
    return pl.read_csv(
        io.BytesIO(text), separator="\t", quote_char=None, infer_schema=False,
        truncate_ragged_lines=True,
    )  # fmt: skip


def joined(items, **settings):
    """Pairs of an item of the first source and one of the second, by their ids."""
    return {
        (a.key[1], b.key[1])
        for group in match(items, **settings).clusters
        for a in group
        for b in group
        if (a.key[0], b.key[0]) == ("allmusic", "lastfm")
    }


def measure_names(data):
    """Print how well the real names of two sources are joined."""
    items = [*allmusic(data), *lastfm(data)]
    table = pl.read_csv(data / "multisource/artists.csv", infer_schema=False)
    both = table.filter(pl.col("allmusic_id").is_not_null() & pl.col("lastfm2k_id").is_not_null())
    named = {x.key[1] for x in items if x.key[0] == "allmusic"}
    truth = {x for x in both.select("allmusic_id", "lastfm2k_id").iter_rows() if x[0] in named}
    right_of, left_of = dict(truth), {b: a for a, b in truth}
    names = {x.key: x.spelling.exact for x in items}
    print(f"names: {len(items)} artists, {len(truth)} of them known to be in both")
    for conflicts in CONFLICTS[:2]:
        whole = joined(items, conflicts=conflicts)
        found = {x for x in whole if not main_artist(names["lastfm", x[1]])}
        right = len(found & truth)
        wrong = sorted(
            (a, b) for a, b in found - truth if right_of.get(a, b) != b or left_of.get(b, a) != a
        )
        unknown = sorted(found - truth - set(wrong))
        print(
            f"  conflicts {conflicts}: precision {right / (right + len(wrong)):.4f}, recall "
            f"{right / len(truth):.4f}; {right} right, {len(wrong)} wrong, {len(unknown)} unknown, "
            f"{len(whole - found)} with a guest"
        )
    for title, listed in (
        ("missed", sorted(truth - found)),
        ("wrong", wrong),
        ("unknown", unknown),
    ):
        shown = [(names["allmusic", a], names.get(("lastfm", b), "?")) for a, b in listed]
        print(f"  {title} at {conflicts}: {shown[:25]}")
    by_name = {(a, b) for a, b in found if names["allmusic", a] == names["lastfm", b]}
    print(f"  the same letters alone: recall {len(by_name & truth) / len(truth):.4f}")


def measure_homonyms(data, *, share, seed=5):
    """Print the same where a share of the names stands for two artists each."""
    table = pl.read_csv(data / "multisource/artists.csv", infer_schema=False)
    both = table.filter(pl.col("allmusic_id").is_not_null() & pl.col("lastfm2k_id").is_not_null())
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(both))
    homonyms = int(len(both) * share) // 2 * 2
    renamed = {}
    for a, b in order[:homonyms].reshape(-1, 2):
        renamed[int(a)] = renamed[int(b)] = both["name"][int(a)]
    absent = {int(x): generator.choice(["allmusic", "lastfm", ""]) for x in order[:homonyms]}
    items, truth = [], set()
    for number, row in enumerate(both.iter_rows(named=True)):
        spelling = spell(renamed.get(number, row["name"]))
        region = words(row["country"])
        sides = (
            LinkedItem(
                ("allmusic", row["allmusic_id"]), spelling, regions=region,
                genres=words(row["musicbrainz_tags"]) | words(row["allmusic_genre"]),
                years=(float(row["first_decade"]),) if row["first_decade"] else (),
            ),
            LinkedItem(
                ("lastfm", row["lastfm2k_id"]), spelling, genres=words(row["lastfm_tags"]),
                regions=region if generator.random() < 0.5 else frozenset(),
            ),
        )  # fmt: skip
        kept = [x for x in sides if x.key[0] != absent.get(number)]
        items += kept
        if len(kept) == 2:
            truth.add((row["allmusic_id"], row["lastfm2k_id"]))
    print(f"homonyms: {homonyms} of {len(both)} artists share a name with another")
    concerned = {both["allmusic_id"][x] for x in renamed}
    for conflicts in CONFLICTS:
        found = joined(items, conflicts=conflicts)
        print(f"  conflicts {conflicts}: {rates(found, truth)}; homonyms alone:", end=" ")
        print(rates(*({x for x in some if x[0] in concerned} for some in (found, truth))))
    bare = [replace(x, genres=frozenset(), regions=frozenset(), years=()) for x in items]
    print(f"  without any fact: {rates(joined(bare), truth)}")


def rates(found, truth):
    """Precision and recall in words."""
    right = len(found & truth)
    return f"precision {right / max(len(found), 1):.4f}, recall {right / len(truth):.4f}"


if __name__ == "__main__":
    measure_names(Path(sys.argv[1]))
    for share in (0.02, 0.1):
        measure_homonyms(Path(sys.argv[1]), share=share)
