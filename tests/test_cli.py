import json
import subprocess
import sys

import click
import polars as pl
import pytest
from click.testing import CliRunner

from undersong import runs
from undersong.cli.main import cli


@pytest.fixture(scope="module")
def home(reading_home):
    """A catalogue and a run made of it."""
    return reading_home


def call(*words, code=0):
    result = CliRunner().invoke(cli, [str(x) for x in words])
    assert result.exit_code == code, result.output + result.stderr
    return result


def commands(group=cli, path=()):
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


@pytest.mark.parametrize(("path", "command"), list(commands()))
def test_every_command_has_help_with_an_example(path, command):
    assert "Example:\n" in command.help
    assert f"undersong {' '.join(path)}" in command.help


@pytest.mark.parametrize("words", [[], ["import"], ["export"]])
def test_a_group_alone_shows_each_command_once_with_a_whole_line(words):
    page = call(*words).stdout
    assert max(map(len, page.splitlines())) <= 80
    assert "..." not in page.replace("ARGS]...", "").replace("v1, ...", "")
    group = cli.commands[words[0]] if words else cli
    rows = [x.split()[0] for x in page.splitlines() if x.startswith("  ") and x[2:3].isalpha()]
    assert all(rows.count(x) == 1 for x in group.commands), rows


def test_help_waits_for_no_heavy_import():
    code = (
        "import sys, undersong.cli.main; "
        "heavy = {'torch', 'numpy', 'polars', 'rich', 'scipy'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "undersong", "--version"]
    found = subprocess.run(command, check=True, capture_output=True, text=True)
    assert found.stdout.startswith("undersong, version ")


def test_similar_answers_by_name(home):
    result = call("similar", home / "run", "aenderung".replace("ae", "a"), "-k", 3)
    lines = result.stdout.splitlines()
    assert lines[0].startswith("Änderung (a83): ")
    assert [line.split()[0] for line in lines[1:]] == ["1", "2", "3"]


def test_similar_as_json_is_one_object_a_line(home):
    lines = call("similar", home / "run", "a05", "-k", 4, "--json").stdout.splitlines()
    found = [json.loads(line) for line in lines]
    assert [x["rank"] for x in found] == [1, 2, 3, 4]
    assert set(found[0]) == {
        "rank",
        "item",
        "name",
        "about",
        "score",
        "confidence",
        "relations",
    }
    assert "a05" not in {x["item"] for x in found}


def test_tracks_are_answered_too(home):
    result = call("similar", home / "run", "Song a05 1", "--tracks", "-k", 2)
    assert result.stdout.startswith("Song a05 1 (a05-1)")


def test_the_name_of_a_track_is_said_to_be_one(home):
    (line,) = call("similar", home / "run", "Song a05 1", code=1).stderr.splitlines()
    assert line.endswith("A track is called so; add --tracks.")


def test_a_run_of_tracks_is_asked_about_tracks(home, tmp_path):
    text = (home / "quick.toml").read_text()
    (tmp_path / "tracks.toml").write_text(f'[run]\nkind = "track"\n{text}')
    words = ("--settings", tmp_path / "tracks.toml")
    call("train", home / "catalogue", tmp_path / "run", *words)
    assert runs.read(str(tmp_path / "run")).manifest["kind"] == "track"
    answers = call("similar", tmp_path / "run", "Song a05 1", "-k", 2).stdout
    assert answers.startswith("Song a05 1 (a05-1)")
    call("export", "csv", tmp_path / "run", tmp_path / "items.csv")
    assert "a05-1" in pl.read_csv(tmp_path / "items.csv")["id"]


def test_an_unknown_name_is_one_line_and_exit_1(home):
    result = call("similar", home / "run", "Artist 5x", code=1)
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: no item 'Artist 5x' among 85; did you mean")


def test_neighbours_writes_the_ids_as_the_user_gave_them(home, tmp_path):
    (tmp_path / "ask.txt").write_text("a03\na07\n")
    (tmp_path / "among.csv").write_text("id\na01\na02\na03\na04\n")
    out = tmp_path / "n.parquet"
    words = ["--items", tmp_path / "ask.txt", "--among", tmp_path / "among.csv", "-k", 9]
    result = call("neighbours", home / "run", *words, "--out", out)
    assert "7 rows, 2 items" in result.stdout
    found = pl.read_parquet(out)
    assert found.columns == ["item", "rank", "neighbour", "score"]
    assert found.filter(pl.col("item") == "a03")["neighbour"].sort().to_list() == [
        "a01",
        "a02",
        "a04",
    ]
    assert found.filter(pl.col("item") == "a07")["rank"].to_list() == [1, 2, 3, 4]


def test_who_competes_is_said_once_and_by_ids_that_exist(home, tmp_path):
    (tmp_path / "some.txt").write_text("a01\na0x\n")
    words = ["neighbours", home / "run", "--out", tmp_path / "n.parquet", "--among"]
    result = call(*words, tmp_path / "some.txt", code=1)
    assert "1 of 2 ids are not in the catalogue, first 'a0x'" in result.stderr
    (tmp_path / "some.txt").write_text("a01\n")
    result = call(*words, tmp_path / "some.txt", "--library", tmp_path / "some.txt", code=1)
    assert "--among and --library both limit the answers" in result.stderr
    assert not (tmp_path / "n.parquet").exists()


def test_neighbours_of_the_whole_catalogue(home, tmp_path):
    result = call("neighbours", home / "run", "-k", 5, "--out", tmp_path / "n.parquet")
    assert len(pl.read_parquet(tmp_path / "n.parquet")) == 84 * 5
    assert "left out 1 items of which nothing but the name is known" in result.stderr


def test_describe_draws_figure_1(home, tmp_path):
    result = call("describe", home / "catalogue", "--plot", tmp_path / "f.png")
    assert "long tail" in result.stdout
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(call("describe", home / "catalogue", "--json").stdout)


def test_check_of_a_sound_catalogue(home):
    assert "no fault" in call("check", home / "catalogue").stdout


def test_check_lists_faults_and_exits_1(tmp_path):
    (tmp_path / "artists.csv").write_text("id,name\na,A\na,B\n")
    (tmp_path / "m.toml").write_text('[artists]\nfile = "artists.csv"\nname = "name"\n')
    result = call("check", tmp_path / "m.toml", code=1)
    assert "artists.csv" in result.stdout
    assert "'a'" in result.stdout
    imported = call("import", "tables", tmp_path / "m.toml", tmp_path / "c", code=1)
    assert "artists.csv line 3" in imported.stderr
    assert not (tmp_path / "c").exists()


def test_evaluate_writes_both_reports(home):
    result = call("evaluate", home / "run", "--split", "validation")
    assert "Protocol cold" in result.stdout
    assert json.loads((home / "run" / "report.json").read_text())["part"] == "validation"
    assert "GRM" in (home / "run" / "report.md").read_text()


def test_train_again_says_that_nothing_is_to_do(home):
    words = [home / "catalogue", home / "run", "--settings", home / "quick.toml"]
    assert "generation 1 is up to date" in call("train", *words).stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "{home}/nowhere", "{home}/x"], "nowhere/catalogue.json is missing"),
        (["similar", "{home}/nowhere", "x"], "there is no folder"),
        (["describe", "{home}/run"], "run/catalogue.json is missing"),
        (["neighbours", "{home}/run", "-k", "0", "--out", "{home}/n"], "k is 0; it must be 1"),
        (
            ["train", "{home}/catalogue", "{home}/x", "--settings", "{home}/no.toml"],
            "no.toml is missing",
        ),
        (["import", "tables", "{home}/no.toml", "{home}/c"], "no.toml"),
    ],
)
def test_bad_input_is_one_clear_line_and_exit_1(home, words, message):
    result = call(*[x.format(home=home) for x in words], code=1)
    assert message in result.stderr
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.exception is None or isinstance(result.exception, SystemExit)
