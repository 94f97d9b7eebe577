"""What sounds like this: an uploaded file, heard in a confined child process, and its neighbours.

What is heard alone decides: the cosine of E_C (section 2.1), as nothing else is known of a file.
"""

import shutil
import tempfile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from undersong.audio.decode import decode
from undersong.audio.waveform import Undecodable
from undersong.catalogue import Kind
from undersong.errors import Unavailable
from undersong.foldin.embed import embed_track
from undersong.service.questions import Ranked
from undersong.service.snapshot import Snapshot


def sounds_like(answers: Snapshot, file: BinaryIO, *, kind: Kind, k: int) -> tuple[Ranked, ...]:
    """List what sounds most like a file, best first; nothing of the file is kept.

    The file is decoded as ``undersong add`` decodes files: in a child process that may write
    nothing, has no network, and is limited in memory and time.

    Raises
    ------
    NotHere
        If the run does not hear audio, or what decodes or embeds it is not installed.
    Undecodable
        If the file gives no sound.
    """
    if answers.hindrance:
        raise Unavailable(answers.hindrance)
    if kind not in answers.content:
        raise Unavailable(f"this run knows the sound of no {kind}; ask with an id")
    with tempfile.TemporaryDirectory(prefix="undersong-") as folder:
        path = Path(folder) / "upload"
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
        (heard,) = decode([path], workers=1)
    if isinstance(heard, Undecodable):
        raise heard
    vector = np.array(embed_track(heard.log_mel, answers.encoders), dtype=np.float32)
    items, content = answers.of(kind), answers.content[kind]
    cosines = content.vectors @ vector
    best = np.argsort(-cosines, kind="stable")[:k]
    return tuple(
        Ranked(rank, items.item(items.place[content.ids[row]]), round(float(cosines[row]), 4), None)
        for rank, row in enumerate(best, start=1)
    )
