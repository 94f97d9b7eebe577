"""Formats that libsndfile does not know, read by FFmpeg through PyAV (section 2.1).

FFmpeg reads from an open file without knowing its name, and only formats of sound: a playlist that
names other files or addresses is none of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from numpy.typing import NDArray

from undersong.audio.logmel import AudioFile, Undecodable

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
    """Open the first sound of a file.

    Raises
    ------
    Undecodable
        If FFmpeg knows no sound in it, or finds it damaged; here or while it is read.
    """
    try:
        with av.open(
            file, "r", container_options={"format_whitelist": FORMATS}, metadata_errors="replace"
        ) as container:
            if not container.streams.audio:
                raise Undecodable("holds no sound", "give the path of an audio file")
            yield _source(container, container.streams.audio[0])
    # ValueError: rate or channels change midway. OSError: it seeks where no file can.
    except (av.FFmpegError, ValueError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Undecodable(f"no audio that can be decoded ({reason})", REMEDY) from error


def _source(container: InputContainer, stream: AudioStream) -> AudioFile:
    if stream.codec_context is None:
        raise Undecodable("sound of a kind that FFmpeg does not decode", REMEDY)
    stream.codec_context.thread_type = "NONE"
    rate = stream.rate
    if not rate or not stream.time_base:
        raise Undecodable("its header states no rate", REMEDY)
    unit, begin = stream.time_base, stream.start_time or 0

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
