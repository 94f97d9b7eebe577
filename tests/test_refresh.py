"""`undersong refresh`: every stage in its order, again and again, and what a mistake costs."""

import json
import re
import shutil
import sys
import threading

import psutil
import pytest
from click.testing import CliRunner
from starlette.testclient import TestClient

from media_servers import PASSWORD, Jellyfin, answering
from undersong import runs
from undersong.catalogue import read_catalogue
from undersong.cli.main import cli
from undersong.cli.models import read_plan, write_plan
from undersong.errors import SettingsError
from undersong.io.files import locked
from undersong.runs import RunReader
from undersong.service.app import make_app
from undersong.service.options import ServiceSettings
from undersong.service.snapshot import open_answers

ARTISTS, SONGS = 11, 3
SETTINGS = """
[content]
input = "none"
"""
PLAN = """
[import.home]
kind = "jellyfin"
from = "{url}"
login = "login.txt"

[import.plays]
kind = "lastfm"
from = "scrobbles.csv"
user = "bob"

[merge]
same-users = true

[train]
settings = "settings.toml"

[playlist."Daily & good"]
like = ["Band 2", "Band 7"]
n = 4
to = "{url}"
login = "login.txt"
"""


def item(artist, number):
    return {
        "Id": f"{artist * 100 + number:032x}",
        "Name": f"Song {artist}-{number}",
        "Album": f"Of {artist}",
        "ArtistItems": [{"Name": f"Band {artist}", "Id": f"a{artist:031x}"}],
        "Genres": [["Rock", "Jazz", "Folk", "Ska"][artist % 4]],
        "ProductionYear": 1960 + artist,
        "RunTimeTicks": (100 + number) * 10_000_000,
    }


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder that was refreshed once, the server it reads, and what was printed."""
    folder = tmp_path_factory.mktemp("refreshed")
    songs = [item(artist, number) for artist in range(ARTISTS) for number in range(SONGS)]
    server = Jellyfin(songs, {"ann": PASSWORD})
    (folder / "login.txt").write_text(f"ann:{PASSWORD}\n")
    (folder / "login.txt").chmod(0o600)
    (folder / "settings.toml").write_text(SETTINGS)
    lines = ["uts,utc_time,artist,artist_mbid,album,album_mbid,track,track_mbid"]
    lines += [f'{170000000 + x},"x",Band {x % 5},,,,Song {x % 5}-1,' for x in range(23)]
    (folder / "scrobbles.csv").write_text("\n".join(lines))
    with answering(server) as url:
        (folder / "undersong.toml").write_text(PLAN.format(url=url))
        yield folder, server, refresh(folder)


def refresh(folder, code=0):
    result = CliRunner().invoke(cli, ["refresh", str(folder)])
    assert result.exit_code == code, result.output
    assert PASSWORD not in result.output
    return [re.sub(r"\d+ s,", "N s,", x) for x in result.output.splitlines()]


def status(folder):
    return json.loads((folder / "shelf" / "refresh.json").read_text())


def test_every_stage_is_done_in_its_order(home):
    folder, server, lines = home
    assert [x.partition(":")[0] for x in lines] == [
        *("import home", "import plays", "merge", "train", "train", "publish"),
        *("playlist Daily & good", "refreshed"),
    ]
    assert lines[0] == "import home: N s, 11 artists, 33 tracks, 0 plays, 0 relations"
    assert lines[3] == "train: for the first time"
    assert lines[-1] == "refreshed: 33 new songs, 11 new artists"
    ((*songs,),) = server.contents("Daily & good")
    assert len(set(songs)) == 4
    assert set(runs.read(folder / "shelf").trained_items("artist")["id"]) == {
        f"a{x:031x}" for x in range(ARTISTS)
    }
    assert PASSWORD not in (folder / "refresh.log").read_text()


def test_without_news_nothing_is_trained_and_a_new_song_has_neighbours_at_once(home):
    folder, server, _ = home
    lines = refresh(folder)
    assert [x.partition(":")[0] for x in lines][3:] == [
        *("publish", "playlist Daily & good", "refreshed")
    ]
    assert "is up to date" in lines[3]
    assert lines[-1] == "refreshed: 0 new songs, 0 new artists"
    server.songs.append(item(4, 9))
    lines = refresh(folder)
    assert lines[-1] == "refreshed: 1 new songs, 0 new artists"
    assert len(server.contents("Daily & good")) == 1
    assert "add: N s, 1 new to the run" in lines
    about = status(folder)
    assert about["new"] == {"artist": 0, "track": 1}
    assert about["trained"] == ""
    answers = CliRunner().invoke(cli, ["similar", str(folder / "shelf"), "Song 4-9", "--tracks"])
    assert answers.exit_code == 0, answers.output
    reader = RunReader(folder / "shelf", opening=open_answers)
    with TestClient(make_app(reader, ServiceSettings())) as client:
        reply = client.get("/api/status").json()
    assert reply["refreshed"] == {x: y for x, y in about.items() if x != "format"}


def test_a_server_that_is_away_costs_its_news_alone(home):
    folder, server, _ = home
    plan = (folder / "undersong.toml").read_text()
    with answering(lambda *_: (503, {}, b"")) as url:
        (folder / "undersong.toml").write_text(PLAN.format(url=url))
        lines = refresh(folder, code=3)
    (folder / "undersong.toml").write_text(plan)
    assert lines[0].startswith("import home: N s, FAILED, Error: http://127.0.0.1:")
    assert "503 Service Unavailable" in lines[0]
    failed = f"failed: import home, playlist Daily & good; {folder / 'refresh.log'} says why"
    assert lines[-1] == failed
    assert "503 Service Unavailable" in status(folder)["failed"]["import home"]
    assert len(read_catalogue(folder / "imports" / "home").tracks) == len(server.songs)


def test_what_cannot_go_on_ends_with_one_line_and_what_was_published_stays(home):
    folder, _, _ = home
    before = (folder / "shelf" / "current.json").read_bytes()
    settings = (folder / "settings.toml").read_text()
    (folder / "settings.toml").write_text("[content]\ninput = 'nothing known'\n")
    (folder / "run").rename(folder / "run-before")
    lines = refresh(folder, code=1)
    shutil.rmtree(folder / "run")
    (folder / "run-before").rename(folder / "run")
    (folder / "settings.toml").write_text(settings)
    assert "train ended with exit code 1: [content] input 'nothing known'" in lines[-1]
    assert (folder / "shelf" / "current.json").read_bytes() == before
    assert "nothing known" in status(folder)["failed"]["refresh"]


def test_who_ends_a_refresh_ends_the_command_that_it_waits_for(home, tmp_path):
    asked, answered = threading.Event(), threading.Event()

    def slow(*_):
        asked.set()
        answered.wait(60)
        return 503, {}, b""

    shutil.copy(home[0] / "login.txt", tmp_path)
    (tmp_path / "scrobbles.csv").write_text("")
    (tmp_path / "settings.toml").write_text("")
    with answering(slow) as url:
        (tmp_path / "undersong.toml").write_text(PLAN.format(url=url))
        command = [sys.executable, "-m", "undersong", "refresh", str(tmp_path)]
        process = psutil.Popen(command)
        assert asked.wait(60)
        (child,) = process.children()
        process.terminate()
        assert process.wait(30) == 128 + 15
        assert not child.is_running()
        answered.set()


def test_one_refresh_runs_at_a_time(home):
    folder, _, _ = home
    held, done = threading.Event(), threading.Event()

    def hold():
        with locked(folder):
            held.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    lines = refresh(folder, code=1)
    done.set()
    thread.join()
    assert f"another process writes to {folder}; wait for it" in lines[-1]


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("[import.home]", "[imports.home]", "has no 'imports'; did you mean 'import'?"),
        ('kind = "jellyfin"', 'kind = "jelyfin"', "[import.home] kind is 'jelyfin'; did you mean"),
        ("user =", "usr =", "[import.plays] has no 'usr'; did you mean 'user'?"),
        ("same-users", "same-user", "[merge] has no 'same-user'; did you mean 'same-users'?"),
        ("n = 4", 'n = "four"', "[playlist.Daily & good]: Invalid value for '-n': 'four'"),
        ("[import.home]", "[import.'../x']", "[import.../x] is no name of a folder"),
        ("from =", "form =", "[import.home] lacks `from`; write kind"),
        ("[merge]", "[refresh]\ndays = 0\n[merge]", "[refresh] days is 0, expected a number"),
        ("[merge]", "[refresh]\nday = 3\n[merge]", "[refresh] has no 'day'; did you mean 'days'?"),
        ("[merge]", "[merge", "undersong.toml: "),
    ],
)
def test_a_mistake_in_the_file_is_one_line_before_anything_is_done(before, after, fault, tmp_path):
    (tmp_path / "scrobbles.csv").write_text("")
    text = PLAN.format(url="http://127.0.0.1:9").replace(before, after, 1)
    (tmp_path / "undersong.toml").write_text(text)
    (line,) = refresh(tmp_path, code=1)
    assert fault in line
    assert {x.name for x in tmp_path.iterdir()} == {"undersong.toml", "scrobbles.csv"}


def test_without_its_file_a_folder_is_not_refreshed(tmp_path):
    (line,) = refresh(tmp_path, code=1)
    assert line == f"Error: {tmp_path / 'undersong.toml'} is missing; give the path of a TOML file"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_music_writes_the_file_once(tmp_path):
    music, folder = tmp_path / 'A "B" \\ ♪', tmp_path / "new" / "own"
    with pytest.raises(SettingsError, match="is no folder; name the one that holds your music"):
        write_plan(folder, music)
    music.mkdir()
    write_plan(folder, music)
    plan = read_plan(folder)
    assert plan.imports == {"music": ["folder", str(music)]}
    assert plan.extract == []
    write_plan(folder, music)  # the same command every night
    (folder / "undersong.toml").write_text("[import.plays]\n")
    with pytest.raises(SettingsError, match="exists and is another plan; change it, or leave"):
        write_plan(folder, music)
