"""Files in archives, read as a stream: nothing is ever unpacked to a disk.

A name in an archive is only compared and shown, never opened, so one that points outside means
nothing. Links and archives within archives are passed over. What unpacks to more than
``LARGEST_RATIO`` times its own size is refused as a bomb.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import zstandard

from undersong.errors import DataError
from undersong.importers.result import Failures, shown

LARGEST_RATIO = 300  # of unpacked to packed bytes; listens pack to about a tenth
ALWAYS_ALLOWED = 1 << 28  # bytes unpacked, whatever the ratio
LARGEST_WHOLE = 1 << 29  # bytes of a file that has to be read at once
LONGEST_LINE = 1 << 20  # bytes
LONGEST_NAME = 4_096  # characters, of a file with its folders
MOST_MEMBERS = 250_000  # tarfile keeps a header of each
CHUNK = 1 << 17  # bytes read at a time: more falls out of a core's cache between two copies
NEWLINE = 10
ZIP_ENCRYPTED = 1  # bit of the flags of a member
DAMAGED = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, zstandard.ZstdError),
    *(EOFError, OSError, NotImplementedError, UnicodeDecodeError),
)
LONG_NAMES = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)
ARCHIVE = re.compile(r"\.(zip|tar(\.\w+)?|t[bgx]z)$", re.I)


@dataclass(frozen=True)
class Member:
    """One file: its name in the archive, and its bytes, to be read before the next."""

    name: str
    stream: IO[bytes]

    def lines(self, failures: Failures, *, before: int = 0) -> Iterator[tuple[int, bytes]]:
        """Read each line that is not empty, with its number from 1; ``before`` were read."""
        number = before
        while line := self.stream.readline(LONGEST_LINE):
            number += 1
            if self._is_cut(line):
                reason = f"a line of more than {LONGEST_LINE >> 20} MiB"
                failures.add(self.name, number, reason, remedy="ask the source for the file again")
            elif not line.isspace():
                yield number, line

    def texts(
        self, failures: Failures, *, before: int = 0, encoding: str = "utf-8"
    ) -> Iterator[tuple[int, str]]:
        """Read each line as ``lines`` does, as text; one in another encoding is left out.

        Raises
        ------
        DataError
            If the file is in another encoding: a line is not UTF-8, and none before it has letters
            beyond ASCII that are.
        """
        proven = False
        for number, line in self.lines(failures, before=before):
            try:
                text = line.decode(encoding).removeprefix("\ufeff" if number == 1 else "")
            except UnicodeDecodeError as error:
                if not proven:
                    raise _other_encoding(self.name, line, error, f"line {number}") from error
                near = _near(line, error)
                failures.add(self.name, number, f"is not UTF-8 near {near!r}", remedy=TO_UTF_8)
                continue
            proven = proven or not text.isascii()
            yield number, text

    def whole_text(self) -> str:
        """Read all of it as text; a DataError if it is not UTF-8."""
        data = self.whole()
        try:
            return data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = f"line {data.count(NEWLINE, 0, error.start) + 1}"
            raise _other_encoding(self.name, data, error, line) from error

    def blocks(self) -> Iterator[bytes]:
        """Read all lines, many at a time; one that is too long is cut, and its rest passed over."""
        while data := self.stream.read(CHUNK):
            end = b"" if data[-1] == NEWLINE else self.stream.readline(LONGEST_LINE)
            self._is_cut(end)
            yield data + end

    def _is_cut(self, line: bytes) -> bool:
        """Return whether a line is longer than what was read of it, and pass over the rest."""
        cut = len(line) == LONGEST_LINE and line[-1] != NEWLINE
        while cut and (rest := self.stream.readline(LONGEST_LINE)) and rest[-1] != NEWLINE:
            pass
        return cut

    @contextmanager
    def unpacked(self) -> Iterator["Member"]:
        """Open a member that is packed itself, as one file; another stays as it is.

        Raises DataError if it is damaged, or unpacks to more than ``ALWAYS_ALLOWED``.
        """
        with _unpacked(self.stream, _Allowance(ALWAYS_ALLOWED, self.name)) as file:
            yield Member(self.name, file)

    def whole(self) -> bytes:
        """Read all of it; a DataError if it is larger than ``LARGEST_WHOLE``."""
        data = self.stream.read(LARGEST_WHOLE + 1)
        if len(data) > LARGEST_WHOLE:
            raise DataError(
                f"{shown(self.name)} is larger than the {LARGEST_WHOLE >> 20} MiB that are read "
                "at once; split it"
            )
        return data


TO_UTF_8 = "save it as UTF-8: iconv -f latin1 -t utf-8 FILE > NEW; if it is Cyrillic, -f cp1251"


def _near(data: bytes, error: UnicodeDecodeError) -> str:
    return data[max(error.start - 20, 0) : error.end + 20].decode("latin1").strip()


def _other_encoding(name: str, data: bytes, error: UnicodeDecodeError, where: str) -> DataError:
    near = shown(repr(_near(data, error)))
    return DataError(f"{shown(name)} {where} is not UTF-8 near {near}; {TO_UTF_8}")


class _Recoded(io.RawIOBase):
    """A stream of UTF-16 as UTF-8."""

    def __init__(self, stream: Any, encoding: str, name: str):
        self._text = io.TextIOWrapper(stream, encoding, newline="")
        self._name = name
        self._left = b""

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, as ``io.RawIOBase`` wants it."""
        if not self._left:
            try:
                self._left = self._text.read(CHUNK).encode("utf-8")
            except UnicodeError as error:
                raise _damaged(self._name, error) from error
        data, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


def _as_utf_8(member: Member) -> Member:
    """Return a file of text in UTF-16, as spreadsheets save it, as one in UTF-8."""
    head = member.stream.peek(4)[:4]  # type: ignore[attr-defined]
    encoding = "utf-16" if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
    if len(head) == 4 and head[0] and head[2] and head[1::2] == b"\0\0":
        encoding = "utf-16-le"
    if len(head) == 4 and head[1] and head[3] and head[::2] == b"\0\0":
        encoding = "utf-16-be"
    if not encoding:
        return member
    stream = _Recoded(member.stream, encoding, member.name)
    return Member(member.name, io.BufferedReader(stream, CHUNK))


def members(path: Path, wanted: str, *, alone: bool = True, lacking: str = "") -> Iterator[Member]:
    """Read the files of an archive, of a folder, or the one file that ``path`` is.

    Zip, tar, gzip, bzip2, xz and Zstandard are known by their first bytes, not by their names.

    Parameters
    ----------
    wanted : regular expression that is searched in the names, without regard to case
    alone : a file that is no archive is wanted whatever its name
    lacking : what to say where no file is wanted; "" to say nothing

    Raises
    ------
    DataError
        If it cannot be read, is damaged, encrypted, or unpacks to far more than it should.
    """
    empty = True
    for member in _members(path, wanted, alone=alone):
        empty = False
        yield _as_utf_8(member)
    if empty and lacking:
        raise DataError(f"{path} {lacking}")


def _members(path: Path, wanted: str, *, alone: bool = True) -> Iterator[Member]:
    pattern = re.compile(wanted, re.I)
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path).as_posix()
            if file.is_file() and ARCHIVE.search(name):
                yield from (Member(f"{name}/{x.name}", x.stream) for x in _members(file, wanted))
            elif file.is_file() and _matches(pattern, name):
                yield from (Member(name, x.stream) for x in _members(file, wanted))
        return
    try:
        if zipfile.is_zipfile(path):
            yield from _zipped(path, pattern)
        else:
            yield from _streamed(path, pattern, alone=alone)
    except DAMAGED as error:
        raise _damaged(str(path), error) from error


def _zipped(path: Path, pattern: re.Pattern[str]) -> Iterator[Member]:
    allowance = _allowance(path)
    with zipfile.ZipFile(path) as archive:
        for number, info in enumerate(archive.infolist()):
            _few(path, number)
            if info.filename.endswith("/") or not _matches(pattern, info.filename):
                continue
            if info.flag_bits & ZIP_ENCRYPTED:
                raise DataError(f"{path} is encrypted; unpack it with its password and import that")
            with archive.open(info) as stream:
                yield Member(info.filename, io.BufferedReader(_Guarded(stream, allowance), CHUNK))


def _streamed(path: Path, pattern: re.Pattern[str], *, alone: bool) -> Iterator[Member]:
    """Read what is in a tar, packed or not, or else the file itself."""
    with path.open("rb") as packed, _unpacked(packed, _allowance(path)) as stream:
        if not _is_tar(stream.peek(512)[:512]):
            if alone or _matches(pattern, path.name):
                yield Member(path.name, stream)
            return
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, tarinfo=_Header) as archive:
            allowance = _allowance(path)  # of all: a sparse file may say that it is of any size
            for number, info in enumerate(archive):
                _few(path, number)
                if info.isreg() and _matches(pattern, info.name):
                    file = _Guarded(archive.extractfile(info), allowance)
                    yield Member(info.name, io.BufferedReader(file, CHUNK))


class _Header(tarfile.TarInfo):
    """A header; one that stands for long names has a limit, for tarfile reads all of it."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        """Read a header."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in LONG_NAMES and header.size > LONGEST_LINE:
            raise tarfile.ReadError(f"a name of {header.size:,} bytes")
        return header


def _matches(pattern: re.Pattern[str], name: str) -> bool:
    """Return whether a name is wanted, and one that a file may have."""
    return len(name) <= LONGEST_NAME and pattern.search(name) is not None


def _few(path: Path, number: int) -> None:
    if number >= MOST_MEMBERS:
        raise DataError(f"{path} has more than {MOST_MEMBERS:,} files in it; split it")


def _is_tar(head: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


@contextmanager
def _unpacked(packed: Any, allowance: "_Allowance") -> Iterator[io.BufferedReader]:
    """Unpack a stream while it is read, if its first bytes say that it is packed."""
    head = packed.peek(6)
    unpack = next((x for mark, x in UNPACKING.items() if head.startswith(mark)), None)
    if unpack is None:
        plain = _Allowance(sys.maxsize, allowance.name)
        yield io.BufferedReader(_Guarded(packed, plain), CHUNK)
    else:
        with unpack(packed) as stream:
            yield io.BufferedReader(_Guarded(stream, allowance), CHUNK)


def _zstandard(packed: IO[bytes]) -> Any:
    window = 1 << 27  # bytes; what `zstd --long` needs, and the most that is allowed
    decoder = zstandard.ZstdDecompressor(max_window_size=window)
    return decoder.stream_reader(packed, read_across_frames=True)


UNPACKING: dict[bytes, Callable[[Any], Any]] = {  # by the first bytes
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstandard,
}


class _Allowance:
    """How many bytes may still be unpacked from one file."""

    def __init__(self, left: int, name: str):
        self.left = left
        self.name = name

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise DataError(
                f"{shown(self.name)} unpacks to more than {ALWAYS_ALLOWED >> 20} MiB and more than "
                f"{LARGEST_RATIO} times its size: it is damaged, or made to fill a machine; get it "
                "again, or unpack it and import that"
            )


def _allowance(path: Path) -> _Allowance:
    return _Allowance(max(ALWAYS_ALLOWED, path.stat().st_size * LARGEST_RATIO), str(path))


class _Guarded(io.RawIOBase):
    """A stream that counts what is read from it, and words what is wrong."""

    def __init__(self, stream: Any, allowance: _Allowance):
        self._stream = stream
        self._allowance = allowance

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read some bytes, as ``io.RawIOBase`` wants it."""
        try:
            data = self._stream.read(len(buffer))
        except DAMAGED as error:
            raise _damaged(self._allowance.name, error) from error
        self._allowance.take(len(data))
        buffer[: len(data)] = data
        return len(data)


def _damaged(name: str, error: Exception) -> DataError:
    message = getattr(error, "strerror", None) or str(error) or "it ends too early"
    return DataError(f"{shown(name)} cannot be read ({shown(message)}); get the file again")


START = re.compile(r'\A\s*(?:\{.*?"scrobbles"\s*:\s*)?\[', re.S)
BETWEEN = re.compile(r"[\s,]*")
NEXT = re.compile(r"\}\s*,\s*(?=\{)")  # where to go on after an entry that is no JSON
REMEDY = "nothing is lost but this entry"


class _Text(str):
    """Text whose lines nobody counts: for each error json counts those from the start."""

    __slots__ = ()

    def count(self, *args: object) -> int:
        """Return 0, that an error is in the first line."""
        return 0

    def rfind(self, *args: object) -> int:
        """Return 0, that the line of an error begins where the text does."""
        return 0


def entries(member: Member, failures: Failures) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read each object of an array (``elements``); what is none is left out."""
    for number, entry in elements(member, failures):
        if isinstance(entry, dict):
            yield number, entry
        else:
            reason = f"an entry is no object: number {number}"
            failures.add(member.name, number, reason, remedy=REMEDY)


def elements(member: Member, failures: Failures) -> Iterator[tuple[int, object]]:
    """Read each element of an array, with its number from 1.

    The array is the whole file, or under the key ``scrobbles``.
    """
    text = _Text(member.whole_text())
    start = START.match(text)
    if start is None:
        remedy = "ask the service for the export again"
        failures.add(member.name, None, "holds no JSON array of entries", remedy=remedy)
        return
    decode = json.JSONDecoder().raw_decode
    place, number = _after(BETWEEN, text, start.end()), 0
    while place < len(text) and text[place] != "]":
        number += 1
        try:
            entry, place = decode(text, place)
        except (ValueError, RecursionError) as error:
            reason = f"an entry is no JSON: number {number}, {getattr(error, 'msg', error)}"
            failures.add(member.name, number, reason, remedy=REMEDY)
            again = NEXT.search(text, place)
            if again is None:
                return
            place = again.end()
            continue
        place = _after(BETWEEN, text, place)
        yield number, entry


def _after(pattern: re.Pattern[str], text: str, place: int) -> int:
    match = pattern.match(text, place)
    return match.end() if match else place


TABLE_REMEDY = "nothing is lost but this line"


def separated(
    member: Member,
    failures: Failures,
    *,
    mark: str,
    width: int,
    encoding: str = "utf-8",
    before: int = 0,
) -> Iterator[tuple[int, Sequence[str]]]:
    """Read the values of each line with its number from 1, headers too.

    Parameters
    ----------
    mark : between values; only commas may stand within quotes
    width : values a line; another line is left out
    before : lines that were read already
    """
    for number, line in member.texts(failures, before=before, encoding=encoding):
        text = line.rstrip("\r\n")
        try:
            values = next(csv.reader([text])) if mark == "," else text.split(mark)
        except csv.Error as error:
            failures.add(member.name, number, str(error), remedy=TABLE_REMEDY)
            continue
        if len(values) == width:
            yield number, values
        else:
            reason = f"has {len(values)} values, not {width}"
            failures.add(member.name, number, reason, remedy=TABLE_REMEDY)
