"""Where an export lies: its files whole, a note beside them that says what they are.

OUT            the export
OUT.SUFFIX     what some targets need beside it
OUT.json       target, generation, embedding, and the sha256 of each file; written last
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from undersong.errors import ArtifactError, DataError
from undersong.files import read_json, replacing, sha256, write_json

FORMAT = 1


@contextmanager
def placing(
    out: Path, about: Mapping[str, Any], *, beside: Sequence[str] = (), force: bool
) -> Iterator[tuple[Path, ...]]:
    """Give temporary paths of ``out`` and of the files beside it; after the block they are placed.

    When the block raises, everything stays as it was. ``about`` is what the note says.

    Raises
    ------
    DataError
        If something stands there that was not exported, or was changed since; see
        ``refuse_foreign``.
    """
    refuse_foreign(out, beside=beside, force=force)
    paths = [out, *(_beside(out, suffix) for suffix in beside)]
    with ExitStack() as stack:
        temporaries = tuple(stack.enter_context(replacing(path)) for path in paths)
        yield temporaries
        pairs = zip(paths, temporaries, strict=True)
        hashes = {path.name: {"sha256": sha256(temporary)} for path, temporary in pairs}
    write_json(note(out), {**about, "format": FORMAT, "files": hashes})


def note(out: Path) -> Path:
    """Where the note about an export lies."""
    return _beside(out, "json")


def refuse_foreign(out: Path, *, beside: Sequence[str] = (), force: bool) -> None:
    """Let nothing be overwritten that `undersong export` did not write, unless ``force``.

    Raises
    ------
    DataError
        If ``out`` is a folder, or one of the files exists and no note lists it with its sha256.
    """
    if out.is_dir():
        raise DataError(f"{out} is a folder; name the file to write, such as {out / 'export'}")
    if force:
        return
    listed = _listed(note(out))
    for path in (out, *(_beside(out, suffix) for suffix in beside)):
        if path.exists() and listed.get(path.name, {}).get("sha256") != sha256(path):
            raise DataError(
                f"{path} exists and is not what `undersong export` left there; choose another "
                "name, or replace it with --force"
            )


def _listed(path: Path) -> dict[str, Any]:
    """Files that a note lists; none where there is no note.

    A file of that name which is no note is foreign, too.
    """
    if not path.exists():
        return {}
    try:
        return dict(read_json(path, form=FORMAT, remedy="")["files"])
    except (ArtifactError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} exists and is no note of `undersong export`; choose another name, or replace "
            "it with --force"
        ) from error


def _beside(out: Path, suffix: str) -> Path:
    return out.with_name(f"{out.name}.{suffix}")
