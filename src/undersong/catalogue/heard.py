"""What pretrained ears heard of a catalogue's files, beside its tables and no part of them.

    audio/ears/ears.json               format; whether words are a field of the tracks; of each
                                       ears: sha256, licence, training, the file of
                                       the vectors and that file's sha256
    audio/ears/NAME.SUM.track.parquet  id, vector, words; under a new name each time, so that a
                                       crash leaves the old ones or the new ones

Extraction writes it (``undersong.audio.extract``). A new import of the tables leaves it alone, and
a track that has left them is left out when it is read.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from undersong import embeddings
from undersong.catalogue.schema import Field
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.io.files import read_json, sha256, write_json
from undersong.io.table_files import read_table

FORMAT = 1
EARS, ABOUT = "ears", "ears.json"
SOUNDS = "sounds like"  # field of the words that ears heard
WORDS = (Field(SOUNDS, "artist", "tags"), Field(SOUNDS, "track", "tags"))
COMMONEST = 3  # words of an artist at most, those of most tracks
HINT = "run `undersong extract` again"


@dataclass(frozen=True)
class Heard:
    """Vectors of tracks by one pretrained encoder.

    Parameters
    ----------
    name : of the encoder, such as "musicnn", and of the source that E_C reads
    sha256 : of its weights and how they are asked; vectors of another cannot be compared
    licence, training : of the weights, and what they were trained on, for the model card
    vectors : of tracks
    words : of each of these, the likeliest first
    """

    name: str
    sha256: str
    licence: str
    training: str
    vectors: Embeddings
    words: tuple[tuple[str, ...], ...] = ()

    @property
    def key(self) -> str:
        """Name and weights: what is heard by equal keys can be compared."""
        return f"{self.name} {self.sha256}"

    @property
    def about(self) -> dict[str, str]:
        """What a manifest says of them."""
        return {x: getattr(self, x) for x in ("name", "sha256", "licence", "training")}


def write_heard(extracted: Path, ears: Sequence[Heard], *, words: bool | None = None) -> None:
    """Write what was heard, in place of what is there.

    Parameters
    ----------
    words : whether those that ears heard are a field of the tracks; None leaves that as it is
    """
    folder = extracted / EARS
    rows: list[dict[str, Any]] = []
    for ear in ears:
        digest = hashlib.sha256(repr((ear.about, ear.vectors.ids, ear.words)).encode())
        digest.update(ear.vectors.vectors.tobytes())
        file = f"{ear.name}.{digest.hexdigest()[:16]}.track.parquet"
        ear.vectors.write(folder / file, words=ear.words or None)
        rows.append({**ear.about, "file": file, "sum": sha256(folder / file)})
    if rows or folder.exists():
        shown = has_words(extracted) if words is None else words
        about = {"format": FORMAT, "words": shown, "ears": rows}
        write_json(folder / ABOUT, about, summed=True)
    for other in folder.glob("*.parquet"):
        if other.name not in {x["file"] for x in rows}:
            other.unlink()


def read_heard(extracted: Path, tracks: Collection[str]) -> tuple[Heard, ...]:
    """Read what was heard of tracks; nothing where no ear was there.

    Raises
    ------
    ArtifactError
        If a file is absent, or was changed since it was written.
    """
    folder = extracted / EARS
    ears = []
    for row in _about(extracted).get("ears", ()):
        file = folder / str(row["file"])
        if not file.exists() or sha256(file) != row["sum"]:
            raise ArtifactError(f"{file} is missing or was changed since it was written; {HINT}")
        every = embeddings.read(file)
        there = [place for place, item in enumerate(every.ids) if item in tracks]
        vectors = Embeddings(tuple(every.ids[x] for x in there), every.vectors[there])
        table = read_table(file, hint=HINT)
        lists = table["words"].to_list() if "words" in table.columns else []
        words = tuple(tuple(lists[x]) for x in there) if lists else ()
        about = {x: str(row[x]) for x in ("name", "sha256", "licence", "training")}
        ears.append(Heard(**about, vectors=vectors, words=words))
    return tuple(ears)


def has_words(extracted: Path) -> bool:
    """Whether the words that ears heard are a field of the tracks."""
    return bool(_about(extracted).get("words"))


def with_words(
    artists: pl.DataFrame, tracks: pl.DataFrame, ears: Sequence[Heard]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Add the words that ears heard to artists and tracks, each said to be of the sound."""
    words: dict[str, list[str]] = {}
    for ear in ears:
        for item, heard in zip(ear.vectors.ids, ear.words, strict=False):
            words.setdefault(item, []).extend(f"sounds {x}" for x in heard)
    common: dict[str, Counter[str]] = {}
    for track, artist in tracks.select("id", "artist").iter_rows():
        common.setdefault(artist, Counter()).update(words.get(track, ()))
    of_artists = {x: [y for y, _ in n.most_common(COMMONEST)] for x, n in common.items()}
    return _column(artists, of_artists), _column(tracks, words)


def _column(items: pl.DataFrame, words: Mapping[str, Sequence[str]]) -> pl.DataFrame:
    lists = [words.get(x) or None for x in items["id"]]
    return items.with_columns(pl.Series(SOUNDS, lists, dtype=pl.List(pl.String)))


def heard_sums(extracted: Path) -> dict[str, str]:
    """Return the sums of what was heard, by the name of the ears, for the fingerprint of all."""
    about = _about(extracted)
    note = " and their words" if about.get("words") else ""
    return {f"{row['name']}{note}": str(row["sum"]) for row in about.get("ears", ())}


def _about(extracted: Path) -> dict[str, Any]:
    path = extracted / EARS / ABOUT
    return read_json(path, version=FORMAT, hint=HINT) if path.exists() else {}
