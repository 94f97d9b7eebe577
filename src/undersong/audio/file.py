"""One audio file -> the sound of a track, read by seeking (section 2.1).

Only the chunks of a long file are read, so ten hours cost no more memory than ten minutes. The
content of a file tells its format, never its name. Where its header does not tell the length, or
the sound ends before it, or a decoder fails, FFmpeg decodes all of it and passes damage over.
"""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from undersong.audio.logmel import (
    CHUNK_SAMPLES,
    CHUNKS,
    LOUDNESS,
    RATE,
    AudioFile,
    Damaged,
    Sound,
    Undecodable,
    starts,
)
from undersong.errors import install

SHORTEST = 0.5  # seconds; less is no music
LOST = 0.5  # seconds that may lack at the end: headers of MP3 files guess, encoders add padding
SILENCE = 1e-4  # peak amplitude, 80 dB below full scale
LOUDEST = 1e9  # of a sample; whole numbers of 24 bits written as floats are 8e6
RATES = (4_000, 768_000)  # Hz, that a header may claim
UNKNOWN = 1 << 62  # frames, which libsndfile answers of a FLAC file from a pipe
OGG_PAGE = 65_307  # bytes at most
# The first frame of an MP3 file may count those behind it: flags, frames and bytes; or bytes.
COUNTED = re.compile(rb"(?:Xing|Info)...([\0-\xff])(....)(....)|VBRI.{6}(....)", re.DOTALL)
BLOCK = 1 << 22  # samples of all channels read at a time, 16 MB: soundfile seeks after each read

CONVERT = "convert it to FLAC, OGG, MP3 or WAV"
FETCH = "get the file again"


def read(path: Path) -> Sound:
    """Read up to ``CHUNKS`` chunks spread evenly over a file, from its beginning to its end.

    A file shorter than one chunk is repeated to fill it. Silent chunks are left out. The gain of
    the file is removed, for it tells little of the music; dynamics within it stay.

    Raises
    ------
    Undecodable
        If the file is missing, not readable, empty, no audio, too short or silent, or holds
        samples that are not finite.
    """
    with _regular(path) as file:
        try:
            return _heard(file)
        except OSError as error:
            raise Undecodable(f"cannot be read ({error.strerror})", FETCH) from error
        except MemoryError as error:
            raise Undecodable("decoding needs more memory than it may use", CONVERT) from error


def _heard(file: BinaryIO) -> Sound:
    """Read parts of a file by seeking; where that fails, decode all of it."""
    promised = 0.0
    try:
        with _opened(file) as source:
            promised = source.frames / source.rate
            return _sound(source)
    except soundfile.LibsndfileError as error:
        refused = _damaged(error)
    except Damaged as error:
        refused = error
    try:
        from undersong.audio import ffmpeg
    except ImportError:
        raise refused from None
    try:
        with ffmpeg.decoded(file) as source:
            lacking = round(promised * source.rate) - source.frames
            return _sound(replace(source, lost=max(source.lost, lacking)))
    except Damaged:
        raise refused from None


def _sound(source: AudioFile) -> Sound:
    """Take the chunks of an open file, at one loudness."""
    _check_header(source)
    seconds = source.frames / source.rate
    loud = [x for x in _chunks(source, seconds) if _peak(x) > SILENCE]
    if not loud:
        raise Undecodable("silence in every part that was read", "remove the track")
    level = np.sqrt(np.mean([float(np.dot(x, x)) / CHUNK_SAMPLES for x in loud]))
    chunks, gain = np.stack(loud), float(LOUDNESS / level)
    chunks *= gain
    lost = source.lost / source.rate
    return Sound(chunks, gain, seconds, f"{lost:.1f} s cannot be decoded" if lost > LOST else "")


def _peak(samples: NDArray[np.float32]) -> float:
    return float(max(samples.max(), -samples.min()))


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file; never a pipe or a device, for that may wait for ever."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Undecodable("not a file", "give the path of an audio file")
        file = path.open("rb")
    except FileNotFoundError as error:
        raise Undecodable(
            "no such file", "correct the path, or the folder where audio paths begin"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a zero byte within
        raise Undecodable(
            f"cannot be opened ({getattr(error, 'strerror', None) or error})",
            "make the file readable",
        ) from error
    with file:
        if status.st_size == 0:
            raise Undecodable("empty (0 bytes)", FETCH)
        yield file


@contextmanager
def _opened(file: BinaryIO) -> Iterator[AudioFile]:
    """Open with libsndfile or, where PyAV is installed, with FFmpeg."""
    try:
        sound = soundfile.SoundFile(file.fileno(), closefd=False)
    except soundfile.LibsndfileError as error:
        refused = error
    else:
        with sound:
            if not _tells_its_length(sound, file):
                raise Damaged("its header does not tell its length", install("av"))
            yield _source(sound)
        return
    file.seek(0)
    head = file.read(512)
    file.seek(0)
    if all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head):
        raise Undecodable("text, not audio", f"{FETCH}, or correct the path")
    try:
        from undersong.audio import ffmpeg
    except ImportError:
        raise _guess(head, refused) from refused
    with ffmpeg.opened(file) as source:
        yield source


def _tells_its_length(sound: soundfile.SoundFile, file: BinaryIO) -> bool:
    """Whether the number of frames by libsndfile can be relied on.

    Bytes are read beside it: libsndfile shares the place in the file, and would lose its own.
    """
    number = file.fileno()
    if sound.format == "MP3":
        return _tells_its_bytes(number, _after_tags(number))
    if sound.format == "OGG":  # of streams one behind another it knows the first alone
        first = os.pread(number, 18, 0)[14:]
        tail = os.pread(number, OGG_PAGE, max(os.fstat(number).st_size - OGG_PAGE, 0))
        last = tail.rfind(b"OggS")
        return last < 0 or tail[last + 14 : last + 18] == first
    return bool(0 < sound.frames < UNKNOWN)


def _tells_its_bytes(number: int, start: int) -> bool:
    """Whether an MP3 file counts its frames, and has not been joined to another since."""
    counted = COUNTED.search(os.pread(number, 2048, start))
    if counted is None:
        return False
    flags = counted[1][0] & 3 if counted[1] else 3
    stated = {2: counted[2], 3: counted[4] or counted[3]}.get(flags)
    there = os.fstat(number).st_size - start
    return stated is None or int.from_bytes(stated, "big") > there / 2


def _after_tags(number: int) -> int:
    """Return where sound begins behind ID3v2 tags, of an open file by its number."""
    place = 0
    while True:
        head = os.pread(number, 10, place)
        if len(head) < 10 or head[:3] != b"ID3":
            return place
        a, b, c, d = (x & 127 for x in head[6:])
        place += 10 + (a << 21 | b << 14 | c << 7 | d)


def _source(sound: soundfile.SoundFile) -> AudioFile:
    if not sound.seekable():
        raise Undecodable("cannot be read in parts", CONVERT)
    weights = np.full(sound.channels, 1 / sound.channels, dtype=np.float32)
    room = np.empty((max(BLOCK // sound.channels, 1), sound.channels), dtype=np.float32)

    def mono(first: int, count: int) -> NDArray[np.float32]:
        sound.seek(first)
        mixed = np.empty(count, dtype=np.float32)
        done = 0
        while done < count:
            block = sound.read(out=room[: count - done])
            if not len(block):
                break
            # A hundred times as fast as the mean over so short an axis.
            np.matmul(block, weights, out=mixed[done : done + len(block)])
            done += len(block)
        return mixed[:done]

    return AudioFile(sound.samplerate, sound.frames, mono)


def _chunks(source: AudioFile, seconds: float) -> list[NDArray[np.float32]]:
    """Read the chunks: of a short file all at once, of a long one each by itself."""
    begin = starts(seconds)
    if seconds <= CHUNKS * CHUNK_SAMPLES / RATE:
        whole = _read_part(source, 0, source.frames)
        first = np.round(begin * RATE).astype(int)
        return [np.resize(whole[x : x + CHUNK_SAMPLES], CHUNK_SAMPLES) for x in first]
    length = -(-CHUNK_SAMPLES * source.rate // RATE)
    first = np.minimum(np.round(begin * source.rate).astype(int), source.frames - length)
    return [np.resize(_read_part(source, int(x), length), CHUNK_SAMPLES) for x in first]


def _read_part(source: AudioFile, first: int, count: int) -> NDArray[np.float32]:
    """Read part of a file at ``RATE`` Hz."""
    mono = source.read(first, count)
    if len(mono) < max(count - LOST * source.rate, 1):
        heard, promised = ((x / source.rate) for x in (first + len(mono), source.frames))
        raise Damaged(
            f"cut off: sound ends after {heard:.1f} s of the {promised:.1f} s in its header", FETCH
        )
    if not _peak(mono) < LOUDEST:  # also where it is not a number
        raise Undecodable("holds samples that are not finite, or of no meaning", CONVERT)
    if source.rate == RATE:
        return mono
    return np.asarray(soxr.resample(mono, source.rate, RATE), dtype=np.float32)


def _check_header(source: AudioFile) -> None:
    if not RATES[0] <= source.rate <= RATES[1]:
        raise Undecodable(f"its header claims a rate of {source.rate} Hz", CONVERT)
    if source.frames / source.rate < SHORTEST:
        raise Undecodable(
            f"only {max(source.frames, 0) / source.rate:.2f} s of sound",
            f"{FETCH}, or remove the track",
        )


def _damaged(error: soundfile.LibsndfileError) -> Damaged:
    reason = error.error_string.strip().rstrip(".")
    return Damaged(f"no audio that can be decoded ({reason})", f"{FETCH}, or {CONVERT}")


def _guess(head: bytes, error: soundfile.LibsndfileError) -> Undecodable:
    """Name a format that only FFmpeg reads, by the first bytes of a file."""
    for name, offset, magic in (
        ("MP4 sound (AAC or ALAC)", 4, b"ftyp"),
        ("Windows Media sound", 0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
        ("Matroska or WebM sound", 0, b"\x1a\x45\xdf\xa3"),
        ("AAC sound", 0, b"\xff\xf1"),
        ("AAC sound", 0, b"\xff\xf9"),
        ("Monkey's Audio", 0, b"MAC "),
        ("WavPack sound", 0, b"wvpk"),
    ):
        if head[offset:].startswith(magic):
            return Undecodable(f"{name}, which needs PyAV", f"{install('av')}, or {CONVERT}")
    unknown = _damaged(error)
    return Undecodable(unknown.reason, f"{unknown.remedy}, or {install('av')} to read more formats")
