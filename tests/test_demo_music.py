import json

import numpy as np
import polars as pl
import pytest
import soundfile

from undersong.errors import ArtifactError, SettingsError
from undersong.lab.synthetic import music, world
from undersong.lab.synthetic.music import REGIONS, plain
from undersong.lab.synthetic.world import make_demo

SECONDS = 6.0
FILE_SECONDS = 1.7
TRACKS = 3
ARTISTS = 23


@pytest.fixture(scope="module")
def sounds():
    """Three tracks of each style: name -> (3, samples)."""
    return {
        style.name: np.stack(
            [
                music.render(style, np.random.default_rng([row, track]), seconds=SECONDS)
                for track in range(TRACKS)
            ]
        )
        for row, style in enumerate(music.STYLES)
    }


@pytest.fixture(scope="module", autouse=True)
def _short_tracks():
    """Files of 1.7 s instead of 8, since their number is what the tests of folders are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "TRACK_SECONDS", FILE_SECONDS)
        yield


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world") / "demo"
    make_demo(folder, seed=7, artists=ARTISTS)
    return folder


def spectrum_frames(sound):
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::512] * np.hanning(1024)
    return np.abs(np.fft.rfft(frames, axis=1))


def centroid(sounds):
    power = np.mean([spectrum_frames(x).mean(axis=0) for x in sounds], axis=0)
    return float((power * np.fft.rfftfreq(1024, 1 / music.RATE)).sum() / power.sum())


def rhythm(sound, hertz):
    """How strongly the onsets of a track come back, at most, with one of some frequencies."""
    flux = np.maximum(np.diff(np.log(spectrum_frames(sound) + 1e-3), axis=0), 0).sum(axis=1)
    time = np.arange(len(flux)) * 512 / music.RATE
    return np.abs((flux - flux.mean()) @ np.exp(-2j * np.pi * np.outer(time, hertz))).max()


def chroma(sound):
    """Loudness of the twelve pitch classes, by the strongest of which a key is known."""
    power = np.abs(np.fft.rfft(sound)) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / music.RATE)
    heard = (hertz > 60) & (hertz < 1000)
    notes = np.rint(69 + 12 * np.log2(hertz[heard] / 440)).astype(int) % 12
    return np.bincount(notes, weights=power[heard], minlength=12)


def test_no_track_clips_is_silent_or_clicks_at_its_ends(sounds):
    for name, tracks in sounds.items():
        assert tracks.shape == (TRACKS, round(SECONDS * music.RATE)), name
        assert (np.abs(tracks).max(axis=1) <= 0.851).all(), name
        assert (np.abs(tracks).max(axis=1) >= 0.499).all(), name
        assert (np.sqrt((tracks**2).mean(axis=1)) > 0.02).all(), name
        assert np.abs(tracks[:, [0, -1]]).max() == 0, name


def test_no_second_of_a_track_is_silent(sounds):
    for name, tracks in sounds.items():
        middle = tracks[:, : 5 * music.RATE].reshape(TRACKS, 5, music.RATE)
        assert (np.sqrt((middle**2).mean(axis=2)) > 0.005).all(), name


def test_bright_styles_are_brighter_than_dull_ones(sounds):
    found = {name: centroid(tracks) for name, tracks in sounds.items()}
    assert min(found["metal"], found["rock"], found["swing"]) > 1.5 * max(
        found["folk"], found["bossa nova"]
    )


def test_the_beat_of_a_track_is_the_tempo_of_its_style(sounds):
    by_name = {style.name: style for style in music.STYLES}
    for name in ("techno", "house", "rock", "dub", "hip hop", "chiptune"):
        beat = by_name[name].tempo / 60
        near = np.linspace(0.94, 1.06, 25)
        elsewhere = np.concatenate((np.linspace(0.78, 0.9, 25), np.linspace(1.1, 1.22, 25)))
        for track in sounds[name]:
            assert rhythm(track, 2 * beat * near) > 1.3 * rhythm(track, 2 * beat * elsewhere), name


def test_a_track_keeps_to_the_scale_of_its_key():
    style = next(x for x in music.STYLES if x.name == "folk")
    scale = np.array(music.SCALES[style.scale])
    for seed in range(5):
        score = music.compose(style, np.random.default_rng(seed), seconds=SECONDS)
        sound = music.render(style, np.random.default_rng(seed), seconds=SECONDS)
        inside = np.isin(np.arange(12), (scale + score.key) % 12)
        found = chroma(sound)
        assert found[inside].sum() > 0.9 * found.sum()


def test_tracks_of_a_style_are_nearer_to_each_other_than_to_other_styles(sounds):
    features = []
    for tracks in sounds.values():
        for track in tracks:
            bands = np.log(spectrum_frames(track)[:, 1:] + 1e-3).reshape(-1, 32, 16).mean(axis=2)
            features.append(np.concatenate((bands.mean(axis=0), bands.std(axis=0))))
    points = np.array(features)
    points = (points - points.mean(axis=0)) / points.std(axis=0)
    apart = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    same = apart.argmin(axis=1) // TRACKS == np.arange(len(points)) // TRACKS
    assert same.mean() > 0.8


def test_swing_moves_the_off_beat_eighth_and_nothing_on_the_beat():
    assert [music._swung(step, 0) for step in range(8)] == list(range(8))
    swung = [music._swung(step, 1 / 3) for step in range(16)]
    assert swung[::4] == [0, 4, 8, 12]
    assert swung[2] == pytest.approx(4 * 2 / 3)
    assert swung == sorted(swung)


def test_a_blend_lies_between_two_styles():
    first, second = music.STYLES[0], music.STYLES[10]
    none, whole = music.blend(first, second, 0), music.blend(first, second, 1)
    assert (none.tempo, none.kick) == (pytest.approx(first.tempo), first.kick)
    assert (whole.tempo, whole.kick) == (pytest.approx(second.tempo), second.kick)
    half = music.blend(first, second, 0.5)
    assert half.tempo == pytest.approx((first.tempo * second.tempo) ** 0.5)
    assert half.drive == pytest.approx((first.drive + second.drive) / 2)
    assert half.scale == first.scale
    assert music.loudness(half.kick).sum() == pytest.approx(
        music.loudness(second.kick).sum() / 2, rel=0.2
    )


def test_every_pattern_has_a_digit_or_a_dot_for_each_of_16_steps():
    for style in music.STYLES:
        for name in music.PATTERNS:
            pattern = getattr(style, name)
            assert len(pattern) == music.STEPS, (style.name, name)
            assert set(pattern) <= set(".123456789"), (style.name, name)
        assert style.scale in music.SCALES


def test_37_percent_of_the_artists_have_no_relation_and_they_are_the_less_known():
    artists = world.make_artists(300, np.random.default_rng(3))
    pairs = np.array(world.make_relations(artists, np.random.default_rng(4)))
    degree = np.bincount(pairs.ravel(), minlength=300)
    assert (degree == 0).sum() == 111
    assert 5 <= degree[degree > 0].mean() <= 8
    assert np.median(artists.popularity[degree > 0]) > 2 * np.median(
        artists.popularity[degree == 0]
    )
    assert (pairs[:, 0] < pairs[:, 1]).all()
    assert len({tuple(x) for x in pairs}) == len(pairs)


def test_listeners_play_what_is_popular_and_what_they_like_and_never_play_some():
    artists = world.make_artists(300, np.random.default_rng(3))
    plays = world.make_plays(artists, np.random.default_rng(5))
    listeners = np.bincount([artist for _, artist, _ in plays], minlength=300)
    assert (listeners == 0).sum() == 36
    order = np.argsort(-artists.popularity)
    assert listeners[order[:30]].sum() > 2 * listeners[order[-150:]].sum()
    assert len({(listener, artist) for listener, artist, _ in plays}) == len(plays)
    heard = {}
    for listener, artist, _ in plays:
        heard.setdefault(listener, []).append(artist)
    spread = np.mean([artists.taste[x].std(axis=0).sum() for x in heard.values()])
    assert spread < 0.95 * artists.taste.std(axis=0).sum()


def test_no_source_alone_tells_the_relations_but_each_tells_something():
    artists = world.make_artists(300, np.random.default_rng(3))
    related = np.zeros((300, 300), dtype=bool)
    for a, b in world.make_relations(artists, np.random.default_rng(4)):
        related[a, b] = related[b, a] = True
    regions = np.array([list(REGIONS).index(x) for x in artists.region])
    users = np.zeros((300, 510))
    for listener, artist, _ in world.make_plays(artists, np.random.default_rng(5)):
        users[artist, listener] = 1
    users /= np.maximum(np.linalg.norm(users, axis=1, keepdims=True), 1)
    same_style = (artists.first[:, None] == artists.first).astype(float)
    sources = {
        "style and region": same_style + 0.5 * (regions[:, None] == regions),
        "plays": users @ users.T,
        "the hidden truth": -((artists.taste[:, None] - artists.taste) ** 2).sum(axis=2),
    }
    found = {name: recall(scores, related) for name, scores in sources.items()}
    chance = recall(np.zeros((300, 300)), related)
    assert 3 * chance < found["plays"] < 0.5
    assert 3 * chance < found["style and region"] < 0.5
    assert found["the hidden truth"] > 0.55


def recall(scores, related):
    ties = np.random.default_rng(6).random(scores.shape) * 1e-6
    scores = scores + ties - 1e9 * np.eye(len(scores))
    asked = np.flatnonzero(related.any(axis=1))
    top = np.argsort(-scores[asked], axis=1)[:, :10]
    hits = np.take_along_axis(related[asked], top, axis=1).sum(axis=1)
    return float((hits / np.minimum(related[asked].sum(axis=1), 10)).mean())


def test_names_differ_even_without_accents_and_some_have_accents():
    names = world.make_artists(300, np.random.default_rng(3)).names
    assert len({plain(x) for x in names}) == 300
    assert 30 < sum(not x.isascii() for x in names) < 270


def test_the_folder_holds_what_its_tables_say(demo):
    tracks = pl.read_csv(demo / "tracks.csv")
    artists = pl.read_csv(demo / "artists.csv")
    assert len(artists) == ARTISTS
    assert set(tracks["artist"]) == set(artists["id"])
    assert set(tracks.group_by("artist").len()["len"]) == {3, 4}
    for path in tracks["path"]:
        about = soundfile.info(demo / path)
        assert (about.samplerate, about.channels) == (22050, 1)
        assert about.duration == pytest.approx(FILE_SECONDS, abs=1e-4)
    for file, columns in (("plays.csv", ["artist"]), ("relations.csv", ["a", "b"])):
        table = pl.read_csv(demo / file)
        for column in columns:
            assert set(table[column]) <= set(artists["id"])
    assert "generated by `undersong demo` with seed 7" in (demo / "README.txt").read_text()


def test_every_audio_file_names_its_artist_and_title(demo):
    names = dict(pl.read_csv(demo / "artists.csv").select("id", "name").iter_rows())
    for artist, title, path in (
        pl.read_csv(demo / "tracks.csv").select("artist", "title", "path").iter_rows()
    ):
        with soundfile.SoundFile(demo / path) as file:
            assert (file.artist, file.title) == (names[artist], title)


def test_a_complete_folder_is_left_as_it_is(demo):
    before = {x: x.stat().st_mtime_ns for x in demo.rglob("*")}
    make_demo(demo, seed=7, artists=ARTISTS)
    assert {x: x.stat().st_mtime_ns for x in demo.rglob("*")} == before


def test_an_interrupted_folder_is_completed_and_equals_one_made_at_once(demo, tmp_path):
    folder = tmp_path / "again"

    class Interrupted(Exception):
        pass

    def interrupt(stage, done, total, note=""):
        if done == 11:
            raise Interrupted

    with pytest.raises(Interrupted):
        make_demo(folder, seed=7, artists=ARTISTS, progress=interrupt)
    assert not (folder / "demo.json").exists()
    kept = {x: x.stat().st_mtime_ns for x in folder.rglob("*.ogg")}
    assert kept
    make_demo(folder, seed=7, artists=ARTISTS)
    assert {x: x.stat().st_mtime_ns for x in kept} == kept
    whole = sorted(x.relative_to(demo) for x in demo.rglob("*"))
    assert sorted(x.relative_to(folder) for x in folder.rglob("*")) == whole
    for file in whole:
        if file.suffix == ".ogg":  # the container has a serial number of its own
            np.testing.assert_array_equal(
                soundfile.read(folder / file)[0], soundfile.read(demo / file)[0]
            )
        elif (demo / file).is_file():
            assert (folder / file).read_bytes() == (demo / file).read_bytes()


def test_another_world_in_the_folder_is_refused(demo):
    with pytest.raises(ArtifactError, match=r"another demo .*'seed': 7.*choose another folder"):
        make_demo(demo, seed=8, artists=ARTISTS)


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ArtifactError, match="missing; choose another folder, or delete this one"):
        make_demo(tmp_path, seed=1, artists=ARTISTS)
    assert [x.name for x in tmp_path.iterdir()] == ["thesis.txt"]


def test_another_seed_is_another_world(demo, tmp_path):
    names = world.make_artists(ARTISTS, np.random.default_rng([8, 0])).names
    assert names != pl.read_csv(demo / "artists.csv")["name"].to_list()
    assert json.loads((demo / "demo.json").read_text())["seed"] == 7


@pytest.mark.parametrize(("artists", "seed"), [(19, 1), (21, -1)])
def test_too_small_a_world_is_refused(tmp_path, artists, seed):
    with pytest.raises(SettingsError, match=f"{artists} artists with seed {seed}: take 20"):
        make_demo(tmp_path / "small", seed=seed, artists=artists)
    assert not (tmp_path / "small").exists()
