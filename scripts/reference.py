"""Pages of the site that are made from the code while it is built: every command, every module.

A hook of MkDocs (`mkdocs.yml`). Commands are those that click knows; docstrings are read by
mkdocstrings without importing a module, so building needs no PyTorch.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "undersong"
COMMANDS = """# Every command

Made from the command line itself; `--help` prints the same, also for groups such as
`undersong import --help`.

## Completion

bash, zsh and fish complete commands, options and file names. For bash, as a line of `~/.bashrc`:

```sh
eval "$(_UNDERSONG_COMPLETE=bash_source undersong)"
```

For zsh say `zsh_source`, in `~/.zshrc`; for fish, in `~/.config/fish/completions/undersong.fish`:

```sh
_UNDERSONG_COMPLETE=fish_source undersong | source
```
"""
MODULES = """# Python reference

Made from the docstrings. Data flows in the order of [figure 2](../concepts.md); whatever
stands here may be imported, names that begin with `_` may change.

| module | what it is |
|---|---|
"""
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!#)([^)]+)\)")


def pages() -> dict[str, str]:
    """Text of each page that is made: its address below docs/ -> Markdown."""
    made = {"cli.md": COMMANDS + "".join(_sections())}
    index = MODULES
    for place in sorted(PACKAGE.iterdir()):
        modules = list(_modules(place))
        if not modules:
            continue
        made[f"api/{place.stem}.md"] = _page(place.stem, modules)
        index += f"| [`undersong.{place.stem}`]({place.stem}.md) | {_summary(place)} |\n"
    return made | {"api/index.md": index}


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """All commands below a group, each with its whole name."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def _sections() -> Iterator[str]:
    """One section for each command, with its help."""
    from undersong.cli.main import cli

    for name, command in commands(cli, "undersong"):
        context = click.Context(command, info_name=name, max_content_width=100)
        title = name.removeprefix("undersong ")
        yield f"\n## {title}\n\n```text\n{command.get_help(context)}\n```\n"


def _modules(place: Path) -> Iterator[Path]:
    """The modules of a package in the order of their names, or a module itself."""
    if place.suffix == ".py" and not place.stem.startswith("__"):
        yield place
    elif place.is_dir():
        yield from sorted(x for x in place.rglob("*.py") if x.stem != "__init__")


def _page(name: str, modules: list[Path]) -> str:
    names = (x.relative_to(PACKAGE.parent).with_suffix("") for x in modules)
    blocks = "\n".join(f"::: {'.'.join(x.parts)}\n" for x in names)
    return f"# undersong.{name}\n\n{blocks}"


def _summary(place: Path) -> str:
    """First line of a docstring, so that a table can hold it."""
    file = place / "__init__.py" if place.is_dir() else place
    lines = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()
    return lines[0].replace("|", "\\|") if lines else ""


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for address, text in pages().items():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Show what lies outside of docs/ as a path of the repository: the site does not hold it."""
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)
