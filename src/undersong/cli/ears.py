"""Commands for pretrained ears: install, list, remove."""

from pathlib import Path

import click

from undersong.cli.group import FILE, Group, echo


@click.group(cls=Group)
def ears() -> None:
    """Install, list or remove pretrained ears: networks that analyse audio.

    They are in the user's cache, or in the folder UNDERSONG_EARS. `undersong extract` and `train`
    use all installed ears. docs/ears.md
    """


@ears.command()
@click.argument("what", metavar="musicnn|CONTRACT")
@click.option("--wheel", type=FILE, help="The wheel of musicnn 0.1.0, if pip cannot fetch it.")
def install(what: str, wheel: Path | None) -> None:
    """Install MusiCNN, from its published wheel, or your own ears, from a TOML file.

    pip fetches the wheel; its sha256 is checked, its weights are read without TensorFlow, and it is
    deleted. A CONTRACT describes the input and output of the ONNX file next to it.

    \b
    Example:
        undersong ears install musicnn
        undersong ears install my-ears.toml
    """
    from undersong.audio.installation import install_ears, install_musicnn
    from undersong.errors import DataError

    if what != "musicnn" and not what.endswith(".toml"):
        raise DataError(f"{what!r} is neither musicnn nor the TOML file of a contract")
    installed = install_musicnn(wheel) if what == "musicnn" else install_ears(Path(what))
    about = installed.contract
    echo(f"{about.name} is installed: {installed.path}\n{about.licence}; {about.training}")


@ears.command(name="list")
def list_() -> None:
    """List installed ears, with sha256, licence and training data.

    \b
    Example:
        undersong ears list
    """
    from undersong.audio.ears import ears_folder, installed

    for each in (x.contract for x in installed()):
        echo(f"{each.name}  {each.digest[:16]}  {each.licence}; {each.training}")
    if not installed():
        echo(f"none in {ears_folder()}; `undersong ears install musicnn` adds some", err=True)


@ears.command()
@click.argument("name")
def remove(name: str) -> None:
    """Remove the ears NAME; runs that use them then refuse new songs.

    \b
    Example:
        undersong ears remove musicnn
    """
    from undersong.audio.installation import remove_ears

    remove_ears(name)
    echo(f"{name} is removed")
