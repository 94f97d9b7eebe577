"""Names from files as people see them: no terminal, log or spreadsheet is commanded by one."""

import csv
import json
import re
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from exported import make_run
from undersong.catalogue import write_failures
from undersong.cli.group import echo
from undersong.cli.main import cli
from undersong.io.display import harmless, harmless_json, one_line, text_of
from undersong.io.files import SUM, sha256, write_json

SOURCE = Path(__file__).parent.parent / "src" / "undersong"
# Colours, the title of the window, the clipboard, a line overwritten, C1, writing turned around.
HOSTILE = "A\x1b[31mB\x07\x1b]0;title\x07\rC\x9b2J\u202eD\n=E\tF"
RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
LETTERS = (
    "ó, ハル\u3000バ, \u0930\u093e\u091c\u093e, \u0645\u200c\u062e, \U0001f469\u200d\U0001f3a4"
)


def test_one_line_has_nothing_that_commands_or_breaks():
    assert one_line(HOSTILE) == (r"A\x1b[31mB\x07\x1b]0;title\x07\x0dC\x9b2J\u202eD\x0a=E\x09F")
    assert text_of(["a\nb", "c"]) == "a\\x0ab\nc"


def test_names_of_any_script_stay_as_they_are():
    assert one_line(LETTERS) == LETTERS == harmless(LETTERS)


def test_json_means_the_same():
    text = harmless_json(json.dumps({"name": HOSTILE}, ensure_ascii=False))
    assert not RAW.search(text)
    assert json.loads(text) == {"name": HOSTILE}


def test_a_terminal_gets_nothing_raw(capsys):
    echo(HOSTILE)
    echo(HOSTILE, err=True)
    written = capsys.readouterr()
    assert written.out == written.err == harmless(HOSTILE) + "\n"
    assert not RAW.search(written.out)


def read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "＝", " =", "\t", "'="])
def test_what_was_left_out_is_no_formula_in_a_spreadsheet(tmp_path, begin):
    name = f"{begin}HYPERLINK(1) V\u00e9nus \x1b[2J"
    rows = pl.DataFrame({"file": [name], "line": [7], "reason": ["plain"]})
    write_failures(tmp_path / "failures.csv", rows)
    assert (tmp_path / "failures.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    guarded = f"'{begin}HYPERLINK(1) V\u00e9nus \\x1b[2J"
    assert read(tmp_path / "failures.csv") == [["file", "line", "reason"], [guarded, "7", "plain"]]


def test_every_csv_is_written_by_one_function():
    writers = {
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if re.search(r"\.write_csv\(|sink_csv\(|csv\.(writer|DictWriter)", path.read_text("utf-8"))
    }
    # A stream for PostgreSQL's COPY, and tables that are read again, with names we invent.
    assert writers == {"io/table_files.py", "export/vector_databases.py", "lab/synthetic/world.py"}


def test_every_command_prints_by_one_function():
    printing = {
        path.name
        for path in (SOURCE / "cli").glob("*.py")
        if re.search(r"click\.s?echo\(|(?<![\w.])print\(", path.read_text("utf-8"))
    }
    assert printing == {"group.py", "answers.py"}  # answers: one line of JSON


def test_answers_about_hostile_names_command_no_terminal(tmp_path):
    run = make_run(tmp_path / "run", nul=False)
    items = pl.read_parquet(run.home / "items.parquet")
    assert items.height > 20
    hostile = pl.format(f"{HOSTILE} {{}}", pl.col("id"))
    items.with_columns(name=hostile).write_parquet(run.home / "items.parquet")
    manifest = json.loads((run.home / "manifest.json").read_text())
    manifest.pop(SUM, None)
    manifest["files"]["items.parquet"] = sha256(run.home / "items.parquet")
    write_json(run.home / "manifest.json", manifest)
    first, second = items["id"][1], items["id"][4]
    for words in (("similar", first), ("path", first, second), ("similar", first, "--json")):
        done = CliRunner().invoke(cli, [words[0], str(run.folder), *words[1:]])
        assert done.exit_code == 0, done.output
        assert "31mB" in done.output
        assert not RAW.search(done.output)
