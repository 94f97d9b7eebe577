"""Pretrained ears: networks that hear a few seconds of a track, beside the log-mel chunks.

    NAME.toml           the contract (``Contract``), which says what the network reads and answers
    NAME.SHA256.onnx    the network, of which the contract has the sha256

Both lie in one folder of the user's (``ears_folder``). A network computes in a child process that
can do nothing but read (``undersong.audio.decode``).
"""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import cast

from undersong import settings as settings_file
from undersong.audio.hearing import AUTO, NONE, Contract, Ears
from undersong.errors import ArtifactError, DataError, nearest_known
from undersong.io.files import reading, sha256

VARIABLE = "UNDERSONG_EARS"


def ears_folder() -> Path:
    """Return where ears are: UNDERSONG_EARS, or else a folder of the user's cache."""
    if named := os.environ.get(VARIABLE):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME", "")
    home = Path(cache) if os.path.isabs(cache) else Path("~/.cache").expanduser()
    return home / "undersong" / "ears"


def installed() -> tuple[Ears, ...]:
    """Return the ears that are installed, by name; errors as for ``read_ears``."""
    return tuple(read_ears(x) for x in sorted(ears_folder().glob("*.toml")))


def choose_ears(wanted: str) -> tuple[Ears, ...] | None:
    """Return the ears that hear: "auto" for all that are installed, "none", or names with commas.

    None where "auto" finds none, or nothing that could run them: what was heard before stays.

    Raises
    ------
    DataError
        If a name is not installed.
    """
    if wanted == NONE:
        return ()
    if wanted == AUTO:
        return installed() or None if find_spec("onnxruntime") else None
    known = {x.contract.name: x for x in installed()}
    names = [x.strip() for x in wanted.split(",")]
    if unknown := [x for x in names if x not in known]:
        near = nearest_known(unknown[0], known)
        raise DataError(f"no ears {unknown[0]!r} are installed in {ears_folder()}; {near}")
    return tuple(known[x] for x in names)


def read_ears(path: Path) -> Ears:
    """Read a contract, and see that its network is the one that it names.

    Raises
    ------
    SettingsError
        For a mistake in the contract.
    ArtifactError
        If the network is missing or another one.
    """
    table = settings_file.read_toml(path)
    contract = cast(Contract, settings_file.build(Contract, table, f"{path}:"))
    ears, hint = Ears(contract, path), f"run `undersong ears install {contract.name}` again"
    with reading(ears.network, hint=hint):
        if sha256(ears.network) != contract.sha256:
            raise ArtifactError(f"{ears.network} was changed since it was installed; {hint}")
    return ears
