"""Audio files of the catalogue that may be played: local files below its folder, no others."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from undersong.catalogue import read_catalogue
from undersong.errors import DataError


@dataclass(frozen=True)
class Media:
    """Where each track and artist can be heard.

    Parameters
    ----------
    root : folder below which the files lie, with no links left in its path
    files : path of each item, by kind and id; of an artist its best known track
    """

    root: Path
    files: dict[tuple[str, str], str]

    def has(self, kind: str, item: str) -> bool:
        """Whether a file is named for an item."""
        return (kind, item) in self.files

    def find(self, kind: str, item: str) -> Path | None:
        """Find the file of an item; None where there is none, or it lies outside of the root."""
        named = self.files.get((kind, item))
        if named is None:
            return None
        path = (self.root / named).resolve()
        return path if path.is_relative_to(self.root) and path.is_file() else None


def read_media(folder: Path) -> Media:
    """Read from a catalogue which files there are.

    Raises
    ------
    DataError
        If the catalogue does not say where its audio files are.
    ArtifactError
        If the folder holds no catalogue.
    """
    catalogue = read_catalogue(folder)
    if catalogue.audio_root is None:
        raise DataError(f"{folder} names no folder of audio files; import it with its audio")
    named = catalogue.tracks.filter(pl.col("path").is_not_null())
    known = named.sort("popularity", descending=True, nulls_last=True, maintain_order=True)
    files: dict[tuple[str, str], str] = {}
    for track, artist, path in known.select("id", "artist", "path").iter_rows():
        files[("track", track)] = path
        files.setdefault(("artist", artist), path)
    return Media(catalogue.audio_root.resolve(), files)
