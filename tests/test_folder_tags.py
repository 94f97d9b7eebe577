import zlib

import av
import mutagen
import numpy as np
import pytest
import soundfile

import tagged
from undersong.importers.music import tag_readers as tag_reading, tags
from undersong.importers.music.credits import credits_of
from undersong.importers.music.tag_readers import tag_readers
from undersong.importers.music.tags import Unreadable

ANN = "0383dadf-2a4e-4d10-a46a-e9e041da8eb3"
BOB = "65f4f0c5-ef9e-490c-aee3-909e7ae6b2ab"
RECORDING = "9c8a3f3e-5f0f-4d57-8f0b-5a1b6bd9a2f1"
RELEASE_TRACK = "1f1f1f1f-0000-4000-8000-000000000001"


@pytest.mark.parametrize("kind", tagged.FORMATS)
def test_every_format_tells_the_same(tmp_path, kind):
    path = tagged.write(
        tmp_path / f"a.{kind}",
        seconds=2.5,
        title="Bjo\u0308rk  Song",
        artist="Ann & Bob",
        artists=["Ann", "Bob"],
        artist_id=[ANN.upper(), BOB],
        recording_id=RECORDING,
        release_track_id=RELEASE_TRACK,
        albumartist="Ann",
        album="First",
        genre="Dream Pop; Shoegaze",
        date="2011-05-03",
        originaldate="1994",
        artistcountry="IS",
        releasecountry="GB",
        compilation="1",
    )
    found = tags.read(path)
    assert found.seconds == pytest.approx(2.5, abs=0.15)
    assert vars(found) | {"seconds": 0} == {
        "titles": (),
        "artist": ("Ann & Bob",),
        "artists": ("Ann", "Bob"),
        "artist_ids": (ANN, BOB),
        "album_artist": "Ann",
        "title": "Bj\xf6rk Song",
        "album": "First",
        "recording": RECORDING,
        "genres": ("dream pop", "shoegaze"),
        "year": 1994,
        "country": "IS",
        "release_country": "GB",
        "compilation": True,
        "cue": False,
        "seconds": 0,
    }


@pytest.mark.parametrize("kind", tagged.FORMATS)
def test_a_file_without_tags_gives_its_length_alone(tmp_path, kind):
    found = tags.read(tagged.write(tmp_path / f"a.{kind}", seconds=1.5))
    assert found.seconds == pytest.approx(1.5, abs=0.15)
    assert vars(found) | {"seconds": None} == vars(tags.Tags())


def test_the_id_of_a_release_track_is_no_recording(tmp_path):
    path = tagged.write(tmp_path / "a.flac", title="A", release_track_id=RELEASE_TRACK)
    assert tags.read(path).recording is None


def test_several_ids_in_one_value_are_parted(tmp_path):
    path = tagged.write(tmp_path / "a.mp3", artist_id=f"{ANN}/{BOB}; {ANN}")
    assert tags.read(path).artist_ids == (ANN, BOB)


def test_numbers_of_genres_are_words_and_empty_words_none(tmp_path):
    path = tagged.write(tmp_path / "a.mp3", genre=["(17)", "Other", "rock", "Folk, Unknown"])
    assert tags.read(path).genres == ("rock", "folk")


@pytest.mark.parametrize(
    ("date", "year"), [("3 May 1987", 1987), ("1723", 1723), ("0000", None), ("19991", None)]
)
def test_a_year_is_four_digits_of_a_time_that_had_music(tmp_path, date, year):
    assert tags.read(tagged.write(tmp_path / "a.ogg", date=date)).year == year


def test_a_value_of_a_megabyte_is_cut(tmp_path):
    path = tagged.write(tmp_path / "a.flac", title="x" * 1_000_000, genre=["y"] * 5_000)
    found = tags.read(path)
    assert (len(found.title), len(found.genres)) == (tags.LONGEST, 1)


def test_a_wrong_end_of_the_name_does_not_matter(tmp_path):
    path = tagged.write(tmp_path / "a.flac", title="Right")
    assert tags.read(path.rename(tmp_path / "a.mp3")).title == "Right"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"all that glitters is not gold " * 40, "damaged, or no audio"),
        (b"OggS" + bytes(200), "damaged, or no audio"),
    ],
)
def test_what_is_no_audio_says_why(tmp_path, content, reason):
    (tmp_path / "a.ogg").write_bytes(content)
    with pytest.raises(Unreadable, match=reason):
        tags.read(tmp_path / "a.ogg")


@pytest.mark.parametrize("kind", tagged.FORMATS)
def test_a_file_cut_or_changed_anywhere_is_read_or_refused(tmp_path, kind):
    whole = tagged.write(tmp_path / f"a.{kind}", seconds=0.5, title="A", artist="B").read_bytes()
    generator = np.random.default_rng(7)
    path = tmp_path / f"b.{kind}"
    reasons = []
    for _ in range(40):
        data = bytearray(whole[: generator.integers(1, len(whole))])
        for place in generator.integers(0, min(len(data), 600), size=6):
            data[place] = generator.integers(256)
        path.write_bytes(data)
        try:
            found = tags.read(path)
        except Unreadable as error:
            reasons.append(error.reason)
        else:
            assert found.seconds is None or 0 < found.seconds < 172_800
    assert all(x.startswith("damaged, or no audio (") for x in reasons)


def test_a_death_of_the_reader_costs_one_file(tmp_path, monkeypatch):
    """With stand-ins: a file that hangs its reader, and one that the system kills it for."""
    stand_in = (
        "import signal, time\n"
        "import mutagen, mutagen.flac\n"
        "class Flac(mutagen.flac.FLAC):\n"
        "    def __init__(self, file):\n"
        "        if 'hang' in file.name: time.sleep(60)\n"
        "        if 'kill' in file.name: signal.raise_signal(signal.SIGKILL)\n"
        "        super().__init__(file)\n"
        "mutagen.flac.FLAC = Flac\n"
    )
    monkeypatch.setattr(tag_reading, "CHILD", stand_in + tag_reading.CHILD)
    names = ["a", "hang", "b", "kill", "c", "d", "e"]
    paths = [tagged.write(tmp_path / f"{x}.flac", title=x) for x in names]
    with tag_readers(2, seconds=2) as read:
        answers = read(paths)
    titles = [x.reason if isinstance(x, Unreadable) else x.title for x in answers]
    assert titles == [
        *("a", "its tags were not read within 2 s", "b"),
        *("the reader died of it (exit code -9)", "c", "d", "e"),
    ]


def test_tags_that_unpack_to_gigabytes_cost_one_file(tmp_path):
    def synchsafe(number):
        return bytes((number >> shift) & 127 for shift in (21, 14, 7, 0))

    packer = zlib.compressobj(1)
    packed = packer.compress(b"\x03")
    packed += b"".join(packer.compress(bytes(1 << 20)) for _ in range(1 << 8)) + packer.flush()
    # ID3v2.4, one title, compressed with its length before it
    frame = b"TIT2" + synchsafe(len(packed) + 4) + b"\x00\x09" + synchsafe(1 << 27) + packed
    header = b"ID3\x04\x00\x00" + synchsafe(len(frame))
    sound = tagged.write(tmp_path / "sound.mp3").read_bytes()
    (tmp_path / "bomb.mp3").write_bytes(header + frame + sound)
    assert len(packed) < 2_000_000
    good = tagged.write(tmp_path / "good.mp3", title="Good")
    with tag_readers(1, memory=200 << 20) as read:
        bomb, other = read([tmp_path / "bomb.mp3", good])
    assert isinstance(bomb, Unreadable)
    assert "memory" in bomb.reason
    assert other.title == "Good"


def riff_info(path, **words):
    """Put a LIST INFO behind the sound of a WAV file, as editors do."""
    info = b"INFO"
    for key, value in words.items():
        data = value + b"\0" * (2 - len(value) % 2)
        info += key.encode() + (len(value) + 1).to_bytes(4, "little") + data
    raw = path.read_bytes() + b"LIST" + len(info).to_bytes(4, "little") + info
    path.write_bytes(raw[:4] + (len(raw) - 8).to_bytes(4, "little") + raw[8:])


def test_tags_in_any_container_go_before_the_path(tmp_path):
    ape = mutagen.apev2.APEv2()
    ape.update({"Artist": "Ape", "Title": "Tail", "Year": "1999"})
    ape.save(tagged.write(tmp_path / "a.mp3"))
    riff_info(tagged.write(tmp_path / "b.wav"), INAM=b"Caf\xe9", IART="Öl".encode(), ICRD=b"2001")
    sound = np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32)
    with av.open(str(tmp_path / "c.aac"), "w", format="adts") as out:
        stream = out.add_stream("aac", rate=32_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = 32_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    id3 = mutagen.id3.ID3()
    tagged.put_id3(id3, "TPE1", ["Rip"])
    tagged.put_id3(id3, "TIT2", ["Per"])
    id3.save(tmp_path / "c.aac")
    read = [tags.read(tmp_path / x) for x in ("a.mp3", "b.wav", "c.aac")]
    assert [(x.artist, x.title, x.year) for x in read] == [
        *((("Ape",), "Tail", 1999), (("Öl",), "Café", 2001), (("Rip",), "Per", None)),
    ]


def test_a_wav_file_of_a_pipe_is_read(tmp_path):
    path = tagged.write(tmp_path / "a.wav", seconds=3)
    data = bytearray(path.read_bytes())
    place = data.index(b"data")
    data[4:8] = data[place + 4 : place + 8] = bytes(4)
    path.write_bytes(data)
    assert tags.read(path).title is None


def test_the_first_container_counts_and_others_fill_up(tmp_path):
    path = tagged.write(tmp_path / "a.mp3", title="Of ID3", artist="Ann")
    ape = mutagen.apev2.APEv2()
    ape.update({"Title": "Of APE", "Album": "First"})
    ape.save(path)
    read = tags.read(path)
    assert (read.title, read.album, read.artist) == ("Of ID3", "First", ("Ann",))


@pytest.mark.parametrize(
    ("date", "year"),
    [
        ("20190503", 2019),
        ("201905", 2019),
        ("19990000", 1999),
        ("03052017", 2017),
        ("03/05/2018", 2018),
        ("2016-05-03T10:00:00Z", 2016),
        ("c1985", 1985),
        ("0000", None),
        ("20199999", None),
        ("198?", None),
    ],
)
def test_a_date_tells_its_year_also_in_one_piece(tmp_path, date, year):
    path = tagged.write(tmp_path / "a.flac", title="A", artist="B", date=date)
    assert tags.read(path).year == year


@pytest.mark.parametrize(
    ("ending", "kind"), [("webm", "webm"), ("mka", "matroska"), ("mp4", "mp4")]
)
def test_music_of_downloaders_names_itself(tmp_path, ending, kind):
    path = tmp_path / f"a.{ending}"
    sound = np.random.default_rng(0).normal(0, 0.1, 48_000).astype(np.float32)
    with av.open(str(path), "w", format=kind) as out:
        out.metadata.update({"artist": "Web", "title": "Site", "date": "20110203"})
        stream = out.add_stream("aac" if kind == "mp4" else "libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        resampler = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=48_000,
            frame_size=stream.codec_context.frame_size,
        )
        for part in resampler.resample(frame):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    read = tags.read(path)
    assert (read.artist, read.title, read.year) == (("Web",), "Site", 2011)
    assert read.seconds == pytest.approx(1, abs=0.1)


def test_words_that_tell_nothing_are_no_words(tmp_path):
    path = tagged.write(
        tmp_path / "a.flac",
        title="None",
        artist="Ann",
        album="???",
        genre=["(none)", "N/A", "Folk"],
    )
    read = tags.read(path)
    assert (read.title, read.album, read.genres) == ("None", None, ("folk",))
    tagged.write_tags(path, title="N/A", artist="(none)")
    assert (tags.read(path).title, credits_of(tags.read(path))) == (None, ())


def test_a_length_that_an_mp3_only_suggests_is_not_known(tmp_path):
    path = tmp_path / "a.mp3"
    sound = np.concatenate([np.zeros(60_000), np.random.default_rng(0).normal(0, 0.2, 90_000)])
    soundfile.write(path, sound, 44_100, bitrate_mode="VARIABLE", compression_level=0.3)
    data = path.read_bytes()
    assert tags.read(path).seconds == pytest.approx(150_000 / 44_100, abs=0.1)
    path.write_bytes(data[data.find(data[:2], max(data.find(b"Xing"), data.find(b"Info"))) :])
    assert tags.read(path).seconds is None
    path.write_bytes(data * 3)  # the count of frames at its beginning is of a third
    assert tags.read(path).seconds is None
    path.write_bytes(data[: len(data) // 2])
    assert tags.read(path).seconds is None


def test_the_length_of_the_first_of_two_ogg_streams_is_not_that_of_the_file(tmp_path):
    path = tagged.write(tmp_path / "a.ogg", seconds=2)
    one = path.read_bytes()
    other = tagged.write(tmp_path / "b.ogg", seconds=3)
    path.write_bytes(one + other.read_bytes())
    assert (tags.read(path).seconds, tags.read(other).seconds) == (None, pytest.approx(3))


def test_a_wav_file_that_promises_more_than_it_holds_tells_no_length(tmp_path):
    path = tagged.write(tmp_path / "a.wav", seconds=2)
    data = bytearray(path.read_bytes())
    place = data.index(b"data") + 4
    data[4:8] = data[place : place + 4] = b"\xff" * 4  # as a program writes into a pipe
    path.write_bytes(data)
    assert tags.read(path).seconds is None
