"""Pages that are generated from the code when the site is built: every command, every module.

A hook of MkDocs (`mkdocs.yml`). click lists the commands; mkdocstrings reads the docstrings without
importing a module, so building needs no PyTorch.
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

Generated from the command line; `--help` prints the same, also for groups such as
`undersong import --help`.

## Completion

bash, zsh and fish complete commands, options and file names. For bash, as a line of `~/.bashrc`:

```sh
eval "$(_UNDERSONG_COMPLETE=bash_source undersong)"
```

For zsh use `zsh_source`, in `~/.zshrc`. For fish, in `~/.config/fish/completions/undersong.fish`:

```sh
_UNDERSONG_COMPLETE=fish_source undersong | source
```
"""
MODULES = """# Python reference

Generated from the docstrings. Data flows in the order of [figure 2](../concepts.md). You may import
everything listed here; names that begin with `_` may change.

| module | what it is |
|---|---|
"""
OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./(?!#)([^)]+)\)")


def pages() -> dict[str, str]:
    """Return the generated pages: address below docs/ -> Markdown."""
    generated = {"cli.md": COMMANDS + "".join(_sections())}
    index = MODULES
    for path in sorted(PACKAGE.iterdir()):
        modules = list(_modules(path))
        if not modules:
            continue
        generated[f"api/{path.stem}.md"] = _page(path.stem, modules)
        index += f"| [`undersong.{path.stem}`]({path.stem}.md) | {_summary(path)} |\n"
    return generated | {"api/index.md": index}


def commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield all commands below a group, each with its full name."""
    for word, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


def _sections() -> Iterator[str]:
    """Yield a section for each command, with its help."""
    from undersong.cli.main import cli

    for name, command in commands(cli, "undersong"):
        context = click.Context(command, info_name=name, max_content_width=100)
        title = name.removeprefix("undersong ")
        yield f"\n## {title}\n\n```text\n{command.get_help(context)}\n```\n"


def _modules(path: Path) -> Iterator[Path]:
    """Yield the modules of a package in the order of their names, or a module itself."""
    if path.suffix == ".py" and not path.stem.startswith("__"):
        yield path
    elif path.is_dir():
        yield from sorted(x for x in path.rglob("*.py") if x.stem != "__init__")


def _page(name: str, modules: list[Path]) -> str:
    names = (x.relative_to(PACKAGE.parent).with_suffix("") for x in modules)
    blocks = "\n".join(f"::: {'.'.join(x.parts)}\n" for x in names)
    return f"# undersong.{name}\n\n{blocks}"


def _summary(path: Path) -> str:
    """Return the first line of a docstring for a cell of a table."""
    file = path / "__init__.py" if path.is_dir() else path
    lines = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").splitlines()
    return lines[0].replace("|", "\\|") if lines else ""


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages."""
    from mkdocs.structure.files import File

    for address, text in pages().items():
        files.append(File.generated(config, address, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Replace links to files outside of docs/, which the site lacks, by their paths."""
    return OUTSIDE.sub(r"\1 (`\2`)", markdown)
