"""Formats that libsndfile does not know, read by FFmpeg through PyAV (section 2.1).

FFmpeg reads from an open file without knowing its name, and only formats of sound: a playlist that
names other files or addresses is none of them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from undersong.audio.logmel import AudioFile, Damaged, Undecodable

FORMATS = (
    "aac,ac3,aiff,alac,amr,ape,asf,au,caf,dsf,dts,eac3,flac,iff,loas,matroska,mov,mp3,mpc,mpc8,oma,"
    "ogg,rm,shn,tak,truehd,tta,voc,w64,wav,wv"
)
# Their headers state the length; that of others is a guess from the bit rate, so we count.
STATED = {"asf", "matroska", "mov", "flac", "wav", "aiff", "caf", "ape", "wv", "tta"}
BEFORE = 0.2  # seconds decoded ahead of a part, for decoders begin with what they keep in mind
REMEDY = "get the file again, or convert it to FLAC, OGG, MP3 or WAV"


@contextmanager
def opened(file: BinaryIO) -> Iterator[AudioFile]:
    """Open the first sound of a file, to be read by seeking.

    Raises
    ------
    Undecodable
        If FFmpeg knows no sound in it, or finds it damaged; here or while it is read.
    """
    with _first_sound(file) as (container, stream):
        yield _source(container, stream)


@contextmanager
def decoded(file: BinaryIO) -> Iterator[AudioFile]:
    """Open the first sound of a file, to be decoded from its beginning to its end.

    Lengths are those of what can be decoded, whatever a header says; packets that cannot are
    passed over. Parts have to be read in their order.

    Raises
    ------
    Undecodable
        If FFmpeg knows no sound in it.
    """
    with _first_sound(file) as (container, stream):
        rate, lost = stream.rate, [0.0]
        frames = sum(len(x) for x in _all(container, stream, lost=lost))
    with _first_sound(file) as (container, stream):
        rest = _all(container, stream, lost=[0.0])
        yield AudioFile(rate, frames, _in_order(rest), round(lost[0] * rate))


def _in_order(blocks: Iterator[NDArray[np.float32]]) -> Callable[[int, int], NDArray[np.float32]]:
    """Return a function that reads parts of a row of blocks, each behind the one before."""
    place, rest = 0, np.empty(0, dtype=np.float32)

    def mono(first: int, count: int) -> NDArray[np.float32]:
        nonlocal place, rest
        parts, wanted = [], count
        while wanted:
            if first > place + len(rest) or not len(rest):
                place += len(rest)
                block = next(blocks, None)
                if block is None:
                    break
                rest = block
                continue
            part = rest[max(first - place, 0) :][:wanted]
            parts.append(part)
            wanted -= len(part)
            first += len(part)
            rest, place = rest[first - place :], first
        return np.concatenate([np.empty(0, dtype=np.float32), *parts])

    return mono


def _all(
    container: InputContainer, stream: AudioStream, *, lost: list[float]
) -> Iterator[NDArray[np.float32]]:
    """Decode packet by packet; add up in ``lost`` the seconds of those that cannot be."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):  # nothing behind it can be found
            return
        if packet is None:
            return
        try:
            blocks = [x for frame in packet.decode() for x in _mono(frame, stream.rate)]
        except (av.FFmpegError, ValueError):
            lost[0] += float((packet.duration or 0) * (packet.time_base or 0))
        else:
            yield from blocks


def _mono(frame: av.AudioFrame, rate: int) -> Iterator[NDArray[np.float32]]:
    """Mix one frame to mono at a rate; streams one behind another may differ in theirs."""
    resampler = av.AudioResampler(format="fltp", rate=rate)
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        samples = part.to_ndarray()
        yield samples.mean(axis=0, dtype=np.float32)


@contextmanager
def _first_sound(file: BinaryIO) -> Iterator[tuple[InputContainer, AudioStream]]:
    file.seek(0)
    try:
        with av.open(
            file, "r", container_options={"format_whitelist": FORMATS}, metadata_errors="replace"
        ) as container:
            if not container.streams.audio:
                raise Undecodable("holds no sound", "give the path of an audio file")
            stream = container.streams.audio[0]
            if stream.codec_context is None:
                raise Undecodable("sound of a kind that FFmpeg does not decode", REMEDY)
            stream.codec_context.thread_type = "NONE"
            if not stream.rate or not stream.time_base:
                raise Damaged("its header states no rate", REMEDY)
            yield container, stream
    # ValueError: rate or channels change midway. OSError: it seeks where no file can.
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Damaged(f"no audio that can be decoded ({reason})", REMEDY) from error


def _source(container: InputContainer, stream: AudioStream) -> AudioFile:
    rate = stream.rate
    unit, begin = stream.time_base or Fraction(1), stream.start_time or 0

    def mono(first: int, count: int) -> NDArray[np.float32]:
        wanted = begin + int((first / rate - BEFORE) / unit)
        container.seek(max(wanted, begin), stream=stream)
        mixed = np.zeros(count, dtype=np.float32)
        end = 0
        for at, block in _blocks(container, stream):
            at -= round(begin * unit * rate) + first
            low, high = max(at, 0), min(at + len(block), count)
            if low < high:
                mixed[low:high] = block[low - at : high - at]
                end = high
            if at + len(block) >= count:
                break
        return mixed[:end]

    return AudioFile(rate, round(_seconds(container, stream, unit) * rate), mono)


def _blocks(
    container: InputContainer, stream: AudioStream
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Decode onwards: yield the frame at which each block begins, and the block."""
    resampler = av.AudioResampler(format="fltp", rate=stream.rate)
    after = 0
    for frame in container.decode(stream):
        for resampled in resampler.resample(frame):
            samples = resampled.to_ndarray()  # (channels, n)
            weights = np.full(len(samples), 1 / len(samples), dtype=np.float32)
            at = after
            if resampled.pts is not None and resampled.time_base is not None:
                at = round(resampled.pts * resampled.time_base * stream.rate)
            after = at + samples.shape[1]
            yield at, np.asarray(weights @ samples, dtype=np.float32)


def _seconds(container: InputContainer, stream: AudioStream, unit: Fraction) -> float:
    """Return the length by the header; where none states it, that of all packets."""
    names = set(container.format.name.split(","))
    if names & STATED and (stream.duration or container.duration):
        if stream.duration:
            return float(stream.duration * unit)
        return (container.duration or 0) / av.time_base
    total = sum(packet.duration or 0 for packet in container.demux(stream))
    return float(total * unit)
