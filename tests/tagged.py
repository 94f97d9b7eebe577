"""Audio files with tags as the programs of MusicBrainz write them, one format as the other."""

import av
import mutagen
import numpy as np
import soundfile
from mutagen import id3
from mutagen.asf import ASFUnicodeAttribute
from mutagen.mp4 import MP4FreeForm

RATE = 8000
FORMATS = ("mp3", "flac", "ogg", "opus", "wav", "aiff", "m4a", "wma", "wv")
ENCODERS = {"m4a": "aac", "wma": "wmav2", "wv": "wavpack"}
SPELLINGS = {  # what a tag is called: (ID3, Vorbis comment, MP4, ASF, APE)
    "title": ("TIT2", "TITLE", "\xa9nam", "Title", "Title"),
    "artist": ("TPE1", "ARTIST", "\xa9ART", "Author", "Artist"),
    "artists": ("TXXX:Artists", "ARTISTS", "----:ARTISTS", "WM/ARTISTS", "Artists"),
    "albumartist": ("TPE2", "ALBUMARTIST", "aART", "WM/AlbumArtist", "Album Artist"),
    "album": ("TALB", "ALBUM", "\xa9alb", "WM/AlbumTitle", "Album"),
    "date": ("TDRC", "DATE", "\xa9day", "WM/Year", "Year"),
    "originaldate": (
        *("TDOR", "ORIGINALDATE", "----:ORIGINALDATE", "WM/OriginalReleaseTime", "ORIGINALDATE"),
    ),
    "genre": ("TCON", "GENRE", "\xa9gen", "WM/Genre", "Genre"),
    "artistcountry": (
        *("TXXX:ARTISTCOUNTRY", "ARTISTCOUNTRY", "----:ARTISTCOUNTRY", "WM/ARTISTCOUNTRY"),
        "ARTISTCOUNTRY",
    ),
    "releasecountry": (
        "TXXX:MusicBrainz Album Release Country",
        "RELEASECOUNTRY",
        "----:MusicBrainz Album Release Country",
        "MusicBrainz/Album Release Country",
        "RELEASECOUNTRY",
    ),
    "artist_id": (
        "TXXX:MusicBrainz Artist Id",
        "MUSICBRAINZ_ARTISTID",
        "----:MusicBrainz Artist Id",
        "MusicBrainz/Artist Id",
        "MUSICBRAINZ_ARTISTID",
    ),
    "recording_id": (
        "UFID:http://musicbrainz.org",
        "MUSICBRAINZ_TRACKID",
        "----:MusicBrainz Track Id",
        "MusicBrainz/Track Id",
        "MUSICBRAINZ_TRACKID",
    ),
    "release_track_id": (
        "TXXX:MusicBrainz Release Track Id",
        "MUSICBRAINZ_RELEASETRACKID",
        "----:MusicBrainz Release Track Id",
        "MusicBrainz/Release Track Id",
        "MUSICBRAINZ_RELEASETRACKID",
    ),
    "compilation": ("TCMP", "COMPILATION", "cpil", "WM/IsCompilation", "Compilation"),
}


def write(path, *, seconds=1.0, **tags):
    """Write a file of noise in the format that its name says, with tags (one text or several)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sound = np.random.default_rng(0).normal(0, 0.1, round(seconds * RATE)).astype(np.float32)
    kind = path.suffix[1:].lower()
    if kind in ENCODERS:
        write_encoded(path, sound, codec=ENCODERS[kind])
    else:
        subtype = {"opus": "OPUS", "ogg": "VORBIS"}.get(kind)
        container = {"opus": "OGG", "aif": "AIFF"}.get(kind, kind.upper())
        soundfile.write(path, sound, RATE, format=container, subtype=subtype)
    if tags:
        write_tags(path, **tags)
    return path


def write_encoded(path, sound, *, codec):
    rate = 32000
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 32_000
        samples = np.repeat(sound, rate // RATE)[None]
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=rate)
        fifo = av.AudioFifo()
        for part in resampler.resample(frame):
            fifo.write(part)
        while part := fifo.read(stream.frame_size or 1024, partial=True):
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))


def write_tags(path, **tags):
    """Give a file these tags and no others."""
    file = mutagen.File(path)
    if file.tags is None:
        file.add_tags()
    file.tags.clear()
    for meaning, value in tags.items():
        values = [value] if isinstance(value, str) else list(value)
        put(file.tags, SPELLINGS[meaning], values)
    file.save()


def put(tags, spellings, values):
    if isinstance(tags, id3.ID3):
        put_id3(tags, spellings[0], values)
    elif type(tags).__name__ == "MP4Tags":
        key = spellings[2].replace("----:", "----:com.apple.iTunes:")
        tags[key] = [MP4FreeForm(x.encode()) for x in values] if "----" in key else values
        if key == "cpil":
            tags[key] = True
    elif type(tags).__name__ == "ASFTags":
        tags[spellings[3]] = [ASFUnicodeAttribute(x) for x in values]
    else:
        tags[spellings[4 if type(tags).__name__ == "APEv2" else 1]] = values


def put_id3(tags, key, values):
    frame, _, description = key.partition(":")
    if frame == "TXXX":
        tags.add(id3.TXXX(encoding=3, desc=description, text=values))
    elif frame == "UFID":
        tags.add(id3.UFID(owner=description, data=values[0].encode()))
    else:
        tags.add(getattr(id3, frame)(encoding=3, text=values))
