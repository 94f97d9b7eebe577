"""The tags of one audio file -> a typed row: ID3, Vorbis comments, MP4, ASF and APE alike.

Keys are compared without regard to case. ``MUSICBRAINZ_TRACKID`` and its like hold the id of the
*recording*, in spite of the name; the id of a track on a release is of no use here.
"""

import os
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import mutagen
from mutagen.aac import AAC
from mutagen.aiff import AIFF
from mutagen.apev2 import APEv2
from mutagen.asf import ASF
from mutagen.dsdiff import DSDIFF
from mutagen.dsf import DSF
from mutagen.flac import FLAC
from mutagen.id3 import ID3, TCON, UFID
from mutagen.monkeysaudio import MonkeysAudio
from mutagen.mp3 import MP3, BitrateMode
from mutagen.mp4 import MP4
from mutagen.musepack import Musepack
from mutagen.oggflac import OggFLAC
from mutagen.oggopus import OggOpus
from mutagen.oggspeex import OggSpeex
from mutagen.oggvorbis import OggVorbis
from mutagen.trueaudio import TrueAudio
from mutagen.wave import WAVE
from mutagen.wavpack import WavPack

Parser = Callable[[Any], Any]
# By the end of the name.
PARSERS: dict[str, Parser] = {
    ".flac": FLAC,
    ".ogg": OggVorbis,
    ".opus": OggOpus,
    ".oga": OggFLAC,
    ".spx": OggSpeex,
    ".m4a": MP4,
    ".m4b": MP4,
    ".m4r": MP4,
    ".mp4": MP4,
    ".wma": ASF,
    ".asf": ASF,
    ".wav": WAVE,
    ".wave": WAVE,
    ".aif": AIFF,
    ".aiff": AIFF,
    ".aifc": AIFF,
    ".wv": WavPack,
    ".ape": MonkeysAudio,
    ".mpc": Musepack,
    ".dsf": DSF,
    ".dff": DSDIFF,
    ".tta": TrueAudio,
    ".mp3": MP3,
    ".mp2": MP3,
    ".aac": AAC,
}
# First bytes of files that mutagen cannot read: Matroska and WebM, CAF, AU, Wave64.
ELSEWHERE = (b"\x1a\x45\xdf\xa3", b"caff", b".snd", b"riff")
# Of RIFF's INFO, which editors and shops write.
INFO = {b"INAM": "title", b"IART": "artist", b"IPRD": "album", b"ICRD": "date", b"IGNR": "genre"}
RIFF_CHUNKS = 1_000  # looked at, and bytes of a list: more is damage
RIFF_LIST = 1 << 20
OGG_PAGE, OGG_SERIAL = 65_307, slice(14, 18)  # bytes at most, and which stream a page is of
APE_TAIL = 192  # bytes at the end that hold the footer of APE tags, also before ID3v1
LOOSE = (MP3, AAC)  # they look for a beginning anywhere, and may find one in what is damaged
# Meaning -> keys, the best first; those of the MusicBrainz programs, and plain ones.
_APPLE = "----:com.apple.itunes:"
KEYS = {
    "artist": ("artist", "tpe1", "©art", "author"),
    "artists": ("artists", "txxx:artists", f"{_APPLE}artists", "wm/artists"),
    "artist_ids": (
        "musicbrainz_artistid",
        "txxx:musicbrainz artist id",
        f"{_APPLE}musicbrainz artist id",
        "musicbrainz/artist id",
    ),
    "album_artist": ("albumartist", "album artist", "tpe2", "aart", "wm/albumartist"),
    "title": ("title", "tit2", "©nam"),
    "album": ("album", "talb", "©alb", "wm/albumtitle"),
    "recording": (
        "musicbrainz_trackid",
        "ufid:http://musicbrainz.org",
        f"{_APPLE}musicbrainz track id",
        "musicbrainz/track id",
    ),
    "genres": ("genre", "tcon", "©gen", "wm/genre"),
    "date": (
        *("originaldate", "originalyear", "tdor", "txxx:originaldate", "txxx:originalyear"),
        *(f"{_APPLE}originaldate", f"{_APPLE}originalyear"),
        *("wm/originalreleasetime", "wm/originalreleaseyear"),
        *("date", "year", "tdrc", "tdrl", "©day", "wm/year"),
    ),
    "country": (
        *("artistcountry", "txxx:artistcountry", f"{_APPLE}artistcountry", "wm/artistcountry"),
        *("country", "txxx:country", f"{_APPLE}country"),
    ),
    "release_country": (
        *("releasecountry", "txxx:releasecountry"),
        "txxx:musicbrainz album release country",
        f"{_APPLE}musicbrainz album release country",
        "musicbrainz/album release country",
    ),
    "compilation": ("compilation", "tcmp", "cpil", "wm/iscompilation"),
    "cue": ("cuesheet", "txxx:cuesheet"),
}
_WANTED = frozenset(key for keys in KEYS.values() for key in keys)

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)
# Also in one piece with month and day: 20190503, 201905, 19990000, 03052019.
_MONTH, _DAY = r"(?:0\d|1[0-2])", r"(?:[0-2]\d|3[01])"
YEAR = re.compile(
    rf"(?<!\d)(?:{_DAY}{_MONTH})?((?:1[5-9]|20)\d\d)(?!\d)"
    rf"|(?<!\d)((?:1[5-9]|20)\d\d){_MONTH}{_DAY}?(?!\d)"
)
TWO_DAYS = 172_800.0  # seconds; a header that says more is damaged
LONGEST = 300  # characters of a value, and values of a key: a title of megabytes is none
NO_GENRE = frozenset({"genre", "misc", "other"})
NOTHING = re.compile(
    r"[<\[(]?(?:none|n/?a|not available|undefined|unknown(?: (?:album|genre))?|no (?:album|genre))"
    r"[>\])]?|\?{2,}",
    re.I,
)
# What mutagen raises over damaged files beside its own errors (benchmarks/fuzz_tags.py).
DAMAGED = (
    *(mutagen.MutagenError, EOFError, ValueError, LookupError, ArithmeticError, RecursionError),
    *(AttributeError, TypeError, AssertionError, struct.error, zlib.error),
)


@dataclass(frozen=True)
class Tags:
    """What one file says of itself; None or empty where it says nothing.

    Parameters
    ----------
    artist : the credit, one value as a rule ("A feat. B")
    artists : the names in it, where each has a value of its own
    artist_ids : of MusicBrainz, of the artists in their order
    album_artist, title, album : str or None
    titles : all of them where a file has several, else none
    recording : id of MusicBrainz
    genres : lower case, the main one first
    year : of the first release where known, else of this one
    country : of the artist, as written
    release_country : of the release, as written
    compilation : bool
    cue : whether it has a cue sheet, and so is an album in one file
    seconds : above 0 and below two days, or None
    """

    artist: tuple[str, ...] = ()
    artists: tuple[str, ...] = ()
    artist_ids: tuple[str, ...] = ()
    album_artist: str | None = None
    title: str | None = None
    titles: tuple[str, ...] = ()
    album: str | None = None
    recording: str | None = None
    genres: tuple[str, ...] = ()
    year: int | None = None
    country: str | None = None
    release_country: str | None = None
    compilation: bool = False
    cue: bool = False
    seconds: float | None = None


class Unreadable(Exception):
    """A file whose tags cannot be read: why, and what to do.

    ``damaged`` is whether its content is to blame; else what was known of it may still hold.
    """

    def __init__(self, reason: str, remedy: str, *, damaged: bool = False):
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy
        self.damaged = damaged


def read(path: Path) -> Tags:
    """Read the tags of one file; a file that is sound but has no tags gives none but its length.

    Raises
    ------
    Unreadable
        If the file cannot be opened, is empty, damaged, or no audio of a known kind.
    """
    try:
        with path.open("rb") as opened:
            head = opened.read(12)
            if head.startswith(ELSEWHERE):
                return _by_ffmpeg(opened)
            try:
                file = _parse(opened, path.suffix.lower())
            except DAMAGED:
                if head[:4] != b"RIFF":  # whose sizes are 0 where a pipe wrote them
                    raise
                return _by_ffmpeg(opened)
            others = _other_containers(opened, head, file)
            return _tags([_texts_by_key(x) for x in (file.tags, *others)], _length(opened, file))
    except DAMAGED as error:
        message = str(error).splitlines() or [type(error).__name__]
        reason = f"damaged, or no audio ({message[0][:100]})"
        raise Unreadable(reason, "get the file again", damaged=True) from error
    except OSError as error:
        reason = f"cannot be opened ({error.strerror or error})"
        raise Unreadable(reason, "make the file readable") from error
    except MemoryError as error:
        raise Unreadable("its tags need more memory than they may", "remove the tags") from error


def _parse(opened: BinaryIO, suffix: str) -> Any:
    """Parse a file as its name says, else as anything that fits; the first complaint counts."""
    opened.seek(0)
    head = opened.read(3)
    if not head:
        raise Unreadable("empty (0 bytes)", "get the file again", damaged=True)
    likely = PARSERS.get(suffix, MP3)
    others = [
        x for x in PARSERS.values() if x not in LOOSE or head[:1] == b"\xff" or head == b"ID3"
    ]
    complaints = []
    for parse in dict.fromkeys([likely, *others]):
        try:
            opened.seek(0)
            return parse(opened)
        except DAMAGED as error:
            complaints.append(error)
    raise complaints[0]


def _by_ffmpeg(opened: BinaryIO) -> Tags:
    """Read the tags of a format that mutagen does not know; without PyAV none."""
    try:
        import av
    except ImportError:
        return Tags()
    opened.seek(0)
    try:
        with av.open(
            opened,
            "r",
            container_options={"format_whitelist": "matroska,webm,caf,au,w64,wav"},
            metadata_errors="replace",
        ) as container:
            streams = container.streams.audio
            if not streams:
                raise Unreadable("damaged, or no audio (no sound)", "remove it", damaged=True)
            pairs = [*container.metadata.items(), *streams[0].metadata.items()]
            return _tags([_texts_by_key(pairs)], (container.duration or 0) / av.time_base)
    except (av.FFmpegError, ValueError) as error:
        reason = f"damaged, or no audio ({getattr(error, 'strerror', None) or error})"
        raise Unreadable(reason, "get the file again", damaged=True) from error


def _other_containers(opened: BinaryIO, head: bytes, file: Any) -> Iterator[Any]:
    """Read the tags that a format's own reader passes over: ID3 before, INFO in, APE behind."""
    if head.startswith(b"ID3") and not isinstance(file.tags, ID3):
        yield from _read_as(ID3, opened)
    if head[:4] == b"RIFF":
        yield _riff_info(opened)
    opened.seek(max(opened.seek(0, os.SEEK_END) - APE_TAIL, 0))
    if b"APETAGEX" in opened.read() and not isinstance(file.tags, APEv2):
        yield from _read_as(APEv2, opened)


def _read_as(parse: Parser, opened: BinaryIO) -> Iterator[Any]:
    opened.seek(0)
    with suppress(*DAMAGED):
        yield parse(opened)


def _riff_info(opened: BinaryIO) -> list[tuple[str, str]]:
    """Read the list INFO of a RIFF file; text is UTF-8, else that of Western Windows."""
    opened.seek(12)
    pairs: list[tuple[str, str]] = []
    for _ in range(RIFF_CHUNKS):
        header = opened.read(8)
        if len(header) < 8:
            break
        size = int.from_bytes(header[4:], "little")
        if header[:4] != b"LIST" or size > RIFF_LIST:
            opened.seek(size + size % 2, os.SEEK_CUR)
            continue
        data = opened.read(size + size % 2)
        place = 4
        while data[:4] == b"INFO" and place + 8 <= len(data):
            key, length = struct.unpack_from("<4sI", data, place)
            value = data[place + 8 : place + 8 + length].split(b"\0")[0]
            if key in INFO:
                pairs.append((INFO[key], _text_of(value)))
            place += 8 + length + length % 2
    return pairs


def _text_of(value: bytes) -> str:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("cp1252", "replace")


def _length(opened: BinaryIO, file: Any) -> float | None:
    """Return the seconds that a header tells, if the size of the file bears it out.

    Of an MP3 of unknown bit rate they are a guess; of Ogg streams one after another, as radio is
    saved, those of the first alone.
    """
    if getattr(file.info, "bitrate_mode", None) == BitrateMode.UNKNOWN or _chained(opened):
        return None
    length = float(getattr(file.info, "length", 0) or 0)
    promised = length * (getattr(file.info, "bitrate", 0) or 0) / 8
    there = opened.seek(0, os.SEEK_END) - int(getattr(file.tags, "size", 0))
    # The frame that counts those of an MP3 stays as it was when a program cuts or joins files.
    longer = isinstance(file, MP3) and promised < there / 2
    shorter = isinstance(file, MP3 | WAVE | AIFF) and promised > 1.1 * there + APE_TAIL
    return None if longer or shorter else length


def _chained(opened: BinaryIO) -> bool:
    """Return whether an Ogg file ends with a page of another stream than it begins with."""
    opened.seek(0)
    head = opened.read(OGG_SERIAL.stop)
    if head[:4] != b"OggS":
        return False
    opened.seek(max(opened.seek(0, os.SEEK_END) - OGG_PAGE, 0))
    last = opened.read().rpartition(b"OggS")[2]
    return len(last) > OGG_SERIAL.stop and last[10:14] != head[OGG_SERIAL]


def _texts_by_key(tags: Any) -> dict[str, list[str]]:
    """Return every key that is wanted, with its values, whatever the format of the tags."""
    # Vorbis comments and ASF are lists of pairs; to look up key by key is quadratic.
    pairs = tags if isinstance(tags, list) else () if tags is None else tags.items()
    texts: dict[str, list[str]] = {}
    for key, value in pairs:
        if key.lower() in _WANTED:
            texts.setdefault(key.lower(), []).extend(_clean(_texts(value)))
    return texts


def _texts(value: Any) -> list[str]:
    """Values of one tag as text; pictures and the like have none."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, UFID):
        return [getattr(value, "data", b"").decode("ascii", "replace")]
    if isinstance(value, TCON):
        return list(value.genres)
    values = getattr(value, "text", value)
    if isinstance(values, (list, tuple)):
        return [x.decode("utf-8", "replace") if isinstance(x, bytes) else str(x) for x in values]
    return str(values).split("\0")  # APE parts values so; one of ASF is one


def _clean(texts: Iterable[str]) -> list[str]:
    """Bring texts into one form: NFC, single spaces, no byte that is no text, none empty."""
    sound = (x[:LONGEST].encode("utf-8", "replace").decode().replace("\0", " ") for x in texts)
    composed = (" ".join(unicodedata.normalize("NFC", x).split()) for x in sound)
    return [x for x in composed if x][:LONGEST]


def _tags(containers: Sequence[dict[str, list[str]]], length: float | None) -> Tags:
    """Join what the containers of one file say; the first that says anything counts."""

    def all_of(meaning: str) -> list[str]:
        values = (texts.get(key) for texts in containers for key in KEYS[meaning])
        return next((x for x in values if x), [])

    def first_of(meaning: str) -> str | None:
        return next(iter(all_of(meaning)), None)

    ids = [x.lower() for x in UUID.findall(" ".join(all_of("artist_ids")))]
    recording = UUID.search(" ".join(all_of("recording")))
    dates = (x for texts in containers for key in KEYS["date"] for x in texts.get(key, ()))
    year = YEAR.search(" ".join(dates))
    # A song may well be called "None"; "(none)" and "N/A" are what a program writes.
    titles = [x for x in all_of("title") if something(x) or x.replace(" ", "").isalpha()]
    return Tags(
        artist=tuple(all_of("artist")),
        artists=tuple(all_of("artists")),
        artist_ids=tuple(dict.fromkeys(ids)),
        album_artist=first_of("album_artist"),
        title=next(iter(titles), None),
        titles=tuple(titles[1:] and dict.fromkeys(titles)),
        album=something(first_of("album")),
        recording=recording[0].lower() if recording else None,
        genres=_genres(all_of("genres")),
        year=int(year[1] or year[2]) if year else None,
        country=something(first_of("country")),
        release_country=something(first_of("release_country")),
        compilation=first_of("compilation") in ("1", "True"),
        cue=bool(all_of("cue")),
        seconds=float(length) if length and 0 < length < TWO_DAYS else None,
    )


def _genres(values: list[str]) -> tuple[str, ...]:
    """Split at ``;``, ``,`` and ``|``, and leave out words that are no genre."""
    words = (x.strip().lower() for value in values for x in re.split(r"[;,|]", value))
    return tuple(dict.fromkeys(x for x in words if is_genre(x)))


def something(text: str | None) -> str | None:
    """Return a word of a tag; None for "N/A", "(none)", "???" and the like."""
    return None if text is None or NOTHING.fullmatch(text) else text


def is_genre(word: str) -> bool:
    """Return whether a word in lower case tells a genre."""
    return bool(something(word)) and word not in NO_GENRE
