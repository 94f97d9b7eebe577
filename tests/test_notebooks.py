from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

EXAMPLES = Path(__file__).parent.parent / "examples"
MISTAKES = {  # cells that end with an error, and the one line that is shown of each
    "library": ["UnknownItem: no item 'Quite Harbor' among 72; did you mean 'Quiet Harbour', "],
    "research": [],
}
PICTURES = {"library": 0, "research": 1}


def read(name):
    return nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)


def test_every_notebook_is_run_here():
    assert {x.stem for x in EXAMPLES.rglob("*.ipynb")} == set(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_notebook_is_kept_without_outputs(name):
    cells = [x for x in read(name).cells if x.cell_type == "code"]
    assert len(cells) > 5
    assert all(not x.outputs and x.execution_count is None for x in cells)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_notebook_runs_from_top_to_bottom_and_shows_tables(name, tmp_path):
    book = read(name)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(book, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [x for cell in book.cells for x in cell.get("outputs", ())]
    assert [x.text for x in outputs if x.output_type == "stream"] == []
    lines = [line for x in outputs if x.output_type == "error" for line in x.traceback]
    assert [x[: len(y)] for x, y in zip(lines, MISTAKES[name], strict=True)] == MISTAKES[name]
    shown = [x.data for x in outputs if x.output_type in ("display_data", "execute_result")]
    assert sum("image/png" in x for x in shown) == PICTURES[name]
    tables = [x["text/html"] for x in shown if "text/html" in x]
    assert len(tables) >= 4
    assert all(x.count("<tr>") > 1 for x in tables)
    assert list(tmp_path.iterdir()) == []


ERROR = """\
import undersong as us
us.load("nowhere")
"""


def test_a_mistake_is_one_line_in_a_notebook_and_a_bug_keeps_its_traceback():
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(x) for x in (ERROR, "us.load(7.5)")]
    )
    NotebookClient(book, timeout=120, kernel_name="python3", allow_errors=True).execute()
    mistake, bug = (x.outputs[0] for x in book.cells)
    assert len(mistake.traceback) == 1
    assert mistake.traceback[0].startswith("ArtifactError: nowhere/current.json is missing: there")
    assert "\n" not in mistake.traceback[0]
    assert bug.ename == "TypeError"
    assert len("\n".join(bug.traceback).splitlines()) > 5
