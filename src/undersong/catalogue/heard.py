"""What pretrained ears heard of a catalogue's files, beside its tables and no part of them.

    audio/ears/ears.json               format; of each: sha256 of its weights, licence, training,
                                       the file of its vectors and that file's sha256
    audio/ears/NAME.SUM.track.parquet  id, vector; under a new name each time, so that a crash
                                       leaves the old ones or the new ones

Extraction writes it (``undersong.audio.extract``). A new import of the tables leaves it alone, and
a track that has left them is left out when it is read.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from undersong import embeddings
from undersong.embeddings import Embeddings
from undersong.errors import ArtifactError
from undersong.io.files import read_json, sha256, write_json

FORMAT = 1
EARS, ABOUT = "ears", "ears.json"
HINT = "run `undersong extract` again"


@dataclass(frozen=True)
class Heard:
    """Vectors of tracks by one pretrained encoder.

    Parameters
    ----------
    name : of the encoder, such as "musicnn", and of the source that E_C reads
    sha256 : of its weights; other weights give vectors that cannot be compared with these
    licence, training : of the weights, and what they were trained on, for the model card
    vectors : of tracks
    """

    name: str
    sha256: str
    licence: str
    training: str
    vectors: Embeddings

    @property
    def key(self) -> str:
        """Name and weights: what is heard by equal keys can be compared."""
        return f"{self.name} {self.sha256}"

    @property
    def about(self) -> dict[str, str]:
        """All but the vectors, for a manifest."""
        return {x: getattr(self, x) for x in ("name", "sha256", "licence", "training")}


def write_heard(extracted: Path, ears: Sequence[Heard]) -> None:
    """Write what was heard, in place of what is there."""
    folder = extracted / EARS
    rows: list[dict[str, Any]] = []
    for ear in ears:
        digest = hashlib.sha256(repr((ear.about, ear.vectors.ids)).encode())
        digest.update(ear.vectors.vectors.tobytes())
        file = f"{ear.name}.{digest.hexdigest()[:16]}.track.parquet"
        ear.vectors.write(folder / file)
        rows.append({**ear.about, "file": file, "sum": sha256(folder / file)})
    if rows or folder.exists():
        write_json(folder / ABOUT, {"format": FORMAT, "ears": rows}, summed=True)
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
    for row in _rows(extracted):
        file = folder / str(row["file"])
        if not file.exists() or sha256(file) != row["sum"]:
            raise ArtifactError(f"{file} is missing or was changed since it was written; {HINT}")
        every = embeddings.read(file)
        there = [place for place, item in enumerate(every.ids) if item in tracks]
        vectors = Embeddings(tuple(every.ids[x] for x in there), every.vectors[there])
        about = {x: str(row[x]) for x in ("name", "sha256", "licence", "training")}
        ears.append(Heard(**about, vectors=vectors))
    return tuple(ears)


def heard_sums(extracted: Path) -> dict[str, str]:
    """Return the sums of the vectors, by the name of the ear, for the fingerprint of all."""
    return {str(row["name"]): str(row["sum"]) for row in _rows(extracted)}


def _rows(extracted: Path) -> list[dict[str, Any]]:
    path = extracted / EARS / ABOUT
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = read_json(path, version=FORMAT, hint=HINT)["ears"]
    return rows
