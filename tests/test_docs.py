"""What the documents show is true: commands, paths, links, functions and settings exist."""

import ast
import importlib.util
import re
import shlex
import sys
import tomllib
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path

import click
import pytest

from test_architecture import modules
from undersong.audio.logmel import BANDS
from undersong.cli.main import cli
from undersong.models.general.network import GeneralSettings
from undersong.models.interaction import InteractionSettings
from undersong.pipeline.run_settings import Settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "scripts"))
import reference  # noqa: E402 -- a hook of the site, outside of the package

PACKAGE = ROOT / "src" / "undersong"
PAGES = [
    str(x.relative_to(ROOT))
    for x in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md")))
]
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.M | re.S)
SPAN = re.compile(r"`([^`\n]+)`")
FOLDERS = re.compile(r"^(?:\./)?((?:src|docs|scripts|examples|tests|\.ci)/[\w./-]*[\w/])(?=\s|$)")
FILE_ENDINGS = "csv|json|md|ogg|parquet|png|py|safetensors|svg|toml|txt"
DOTTED = re.compile(r"^[a-z_]\w*(?:\.\w+)+(?=$|\()")


def fenced(text):
    """Lines of the code blocks, with lines that end in a backslash joined to the next."""
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ")
    return [line.strip().removeprefix("$ ") for line in blocks.splitlines()]


def spans(text):
    return SPAN.findall(FENCE.sub("", text))


def is_command(line):
    return re.match(r"(?:\.venv/bin/)?undersong\s+[a-z-]", line) is not None


def fault_of_command(line, *, whole):
    """Say what is wrong with a command line, or nothing; ``whole`` wants every argument too.

    Brackets of a synopsis are taken off, so what stands in them must exist as well.
    """
    words = shlex.split(re.sub(r"[\[\]]|\.\.\.", " ", line), comments=True)[1:]
    words = words[: next((i for i, x in enumerate(words) if x in ("|", ">", "&&", ";")), None)]
    words = words[2:] if words[0] == "--cluster" else words  # of all commands, with its address
    command, context = cli, click.Context(cli, info_name="undersong")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        if found is None:
            return f"no command {name!r}; known: {', '.join(command.list_commands(context))}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    if isinstance(command, click.Group):
        words = [x for x in words if x not in ("--help", "--version", "-h")]
        return f"{' '.join(words)!r} is no command" if words else None
    return fault_of_words(command, context, [x for x in words if x != "--help"], whole=whole)


def fault_of_words(command, context, words, *, whole):
    try:
        values, left, order = command.make_parser(context).parse_args(list(words))
        for parameter in order:
            value = values.get(parameter.name)
            if is_literal(value) and not isinstance(parameter.type, click.Path):
                parameter.type_cast_value(context, value)
    except click.UsageError as error:
        return error.format_message()
    if left:
        return f"unexpected {' '.join(left)!r}"
    given = {name for name, value in values.items() if value and isinstance(value, str | tuple)}
    absent = [x.name for x in command.params if x.required and x.name not in given]
    return f"{', '.join(absent)} not given" if whole and absent else None


def is_literal(value):
    """Say whether a word stands for itself, unlike the K of a synopsis."""
    return isinstance(value, str) and re.fullmatch(r"[A-Z]+", value) is None


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_parses(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    faults = {x: fault_of_command(x, whole=True) for x in fenced(text) if is_command(x)}
    faults |= {x: fault_of_command(x, whole=False) for x in spans(text) if is_command(x)}
    assert {line: fault for line, fault in faults.items() if fault} == {}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("undersong learn my/run", "no command 'learn'"),
        ("undersong import table a b", "no command 'table'"),
        ('undersong similar RUN "name or id" -k K [--josn]', "No such option"),
        ("undersong explain my/run a", "b not given"),
        ("undersong path my/run a b c", "unexpected"),
        ("undersong similar my/run a -k few", "not a valid integer"),
        ("undersong evaluate my/run --split train", "is not one of"),
    ],
)
def test_a_wrong_command_line_is_found(line, fault):
    assert fault in fault_of_command(line, whole=True)


def test_a_right_command_line_is_let_through():
    line = '.venv/bin/undersong similar RUN "name or id" [-k K] [--json]  # and so on'
    assert fault_of_command(line, whole=True) is None
    assert fault_of_command("undersong import tables", whole=False) is None
    assert fault_of_command("undersong --help", whole=True) is None


@pytest.mark.parametrize("page", PAGES)
def test_every_path_of_the_repository_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    named = [FOLDERS.match(x) for x in (*fenced(text), *spans(text))]
    assert [x[1] for x in named if x and not (ROOT / x[1]).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_link_to_a_file_leads_to_one(page):
    text = FENCE.sub("", (ROOT / page).read_text(encoding="utf-8"))
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", text)
    made = reference.pages() if page == "docs/index.md" else {}  # the home of the site alone
    assert [x for x in links if not ((ROOT / page).parent / x).exists() and x not in made] == []


def test_every_page_stands_in_the_site():
    named = set(re.findall(r": ([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    written = {x.name for x in (ROOT / "docs").glob("*.md")}
    assert named == written | {"cli.md", "api/index.md"}


def test_every_file_in_the_figure_exists():
    figure = (ROOT / "docs/figure-2.svg").read_text()
    files = re.findall(r"[\w/]+\.py", figure)
    assert len(files) > 9
    assert [x for x in files if not (PACKAGE / x).exists()] == []


def test_figure_3_has_the_sizes_of_the_network():
    figure = (ROOT / "docs/figure-3.svg").read_text()
    settings = GeneralSettings()
    size = settings.width // settings.fields
    pairs = settings.fields * (settings.fields - 1) // 2
    linear = f"linear {(settings.fields + pairs) * size} to {2 * settings.width}, PReLU"
    for text in (f"s x {settings.width}", f"{settings.fields} x {size}", f"{pairs} x {size}"):
        assert f">{text}<" in figure
    assert f"{linear}, linear {2 * settings.width} to {settings.out}" in figure
    assert f"{InteractionSettings().width} singular vectors" in figure
    assert f"log-mel, {BANDS} bands" in figure


def test_the_reference_has_every_command_and_every_module():
    pages = reference.pages()
    assert "## export qdrant\n" in pages["cli.md"]
    assert "undersong import folder ~/Music my/catalogue" in pages["cli.md"]
    shown = re.findall(r"^::: undersong\.(.+)$", "\n".join(pages.values()), re.M)
    assert set(shown) == {x for x, path in modules().items() if not path.stem.startswith("__")}


@pytest.mark.parametrize("name", sorted(dict(reference.commands(cli, "undersong"))))
def test_the_help_of_a_command_has_an_example_that_parses(name):
    command = dict(reference.commands(cli, "undersong"))[name]
    examples = (command.help or "").partition("Example:\n")[2].splitlines()
    examples = [x.strip() for x in examples if x.strip()]
    assert examples, "no example"
    assert all(f"{x} ".startswith(f"{name} ") for x in examples)
    assert {x: fault_of_command(x, whole=True) for x in examples} == dict.fromkeys(examples)


def test_the_page_of_commands_says_how_shells_complete():
    page = reference.pages()["cli.md"]
    assert [x for x in ("bash", "zsh", "fish") if f"{x}_source" not in page] == []


def resolves(name):
    """Say whether a dotted name is a module of undersong or something defined in one."""
    parts = name.removeprefix("undersong.").split(".")
    for cut in range(len(parts), 0, -1):
        place = PACKAGE.joinpath(*parts[:cut])
        files = (place.with_suffix(".py"), place / "__init__.py")
        file = next((x for x in files if x.exists()), None)
        if file is not None:
            return defines(ast.parse(file.read_text(encoding="utf-8")), parts[cut:])
    return False


def defines(node, names):
    if not names:
        return True
    for inner in node.body:
        targets = inner.targets if isinstance(inner, ast.Assign) else [inner]
        targets = [getattr(x, "target", x) for x in targets]
        if isinstance(inner, ast.ImportFrom):  # the face of a package
            targets = inner.names
        if names[0] in [getattr(x, "name", getattr(x, "id", None)) for x in targets]:
            return len(names) == 1 or (
                isinstance(inner, ast.ClassDef) and defines(inner, names[1:])
            )
    return False


def is_reference(span, page):
    """``undersong.x.y`` anywhere; in docs/paper.md any ``module.function`` of no other package."""
    if not DOTTED.match(span) or re.search(rf"\.(?:{FILE_ENDINGS})$", span):
        return False
    head = span.split(".")[0]
    if head == "undersong":
        return True
    return page == "docs/paper.md" and head != "np" and importlib.util.find_spec(head) is None


@pytest.mark.parametrize("page", PAGES)
def test_every_function_named_exists(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    names = [DOTTED.match(x)[0] for x in spans(text) if is_reference(x, page)]
    assert [x for x in names if not resolves(x)] == []


def test_a_wrong_function_is_found_and_a_right_one_let_through():
    assert resolves("undersong.losses")
    assert resolves("losses.multi_similarity")
    assert resolves("embeddings.Embeddings.align")
    assert resolves("catalogue.tables.Catalogue.artists")
    assert resolves("lab.synthetic.world.FORMAT")
    assert not resolves("losses.multi_similarities")
    assert not resolves("loses.multi_similarity")
    assert not resolves("embeddings.Embeddings.aligned")
    assert is_reference("loses.multi_similarity", "docs/paper.md")
    assert not is_reference("torch.nn.PReLU", "docs/paper.md")
    assert not is_reference("report.json", "docs/paper.md")


def settings_of(value, table):
    """All settings below a dataclass: ("[table] name", default)."""
    for field in fields(value):
        default = getattr(value, field.name)
        if is_dataclass(default):
            yield from settings_of(default, f"{table}.{field.name}")
        else:
            yield f"[{table}] {field.name}", default


def known_settings():
    stages = Settings()
    return dict(
        setting
        for stage in fields(stages)
        for setting in settings_of(getattr(stages, stage.name), stage.name)
    )


def stated_settings(text):
    """Rows of a table that begin with `[table] name` and `default`, the default as in TOML."""
    return re.findall(r"^\|\s*`(\[[\w.]+\] \w+)`\s*\|\s*`([^`]+)`", text, re.M)


def test_every_setting_stands_in_choices_with_its_default():
    page = ROOT / "docs/choices.md"
    if not page.exists():
        pytest.skip("docs/choices.md is not written yet")
    text = page.read_text(encoding="utf-8")
    known = known_settings()
    rows = stated_settings(text)
    stated = {name: tomllib.loads(f"x = {value}")["x"] for name, value in rows}
    expected = {k: list(v) if isinstance(v, tuple) else v for k, v in known.items()}
    assert len(stated) == len(rows), "a setting stands in two rows"
    assert stated == expected
    mentioned = set(re.findall(r"`(\[[\w.]+\] \w+)", text))
    assert mentioned - set(known) == set()


def test_settings_are_found_with_their_tables():
    known = known_settings()
    assert known["[split] validation"] == 0.1
    assert len(known) > len(asdict(Settings()))
    row = '| `[general.loss] margin` | `0.1` | why |\n| `[run] kind` | `"artist"` |\n'
    assert stated_settings(row) == [("[general.loss] margin", "0.1"), ("[run] kind", '"artist"')]


FROM_AN_INDEX = re.compile(r"pip install (?:-\S+ )*['\"]?undersong(?![-\w])(?!\[[^]]*\] @)")


@pytest.mark.parametrize("folder", ["src", "docs", "examples", "scripts", "."])
def test_nothing_is_installed_from_an_index_that_lacks_it(folder):
    files = (ROOT / folder).rglob("*") if folder != "." else ROOT.glob("*.md")
    texts = [x for x in files if x.suffix in {"", ".py", ".md", ".ipynb", ".yaml"} and x.is_file()]
    assert texts
    found = {x: FROM_AN_INDEX.findall(x.read_text(encoding="utf-8")) for x in texts}
    assert {str(x): lines for x, lines in found.items() if lines} == {}


def test_a_line_that_installs_from_an_index_is_found():
    assert FROM_AN_INDEX.search("pip install 'undersong[av]'")
    assert FROM_AN_INDEX.search("pip install undersong")
    assert not FROM_AN_INDEX.search("pip install 'undersong[av] @ file:///src'")
    assert not FROM_AN_INDEX.search("pip install 'undersong-0.1.0-py3-none-any.whl[all]'")
