"""The gallery shows what scripts/pictures.py makes, whole and small enough to be looked at."""

import ast
import re
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
PICTURES = sorted((ROOT / "docs" / "gallery").iterdir())


def test_the_page_shows_every_picture_and_no_other():
    shown = re.findall(r"!\[.+?\]\((gallery/.+?)\)", PAGE)
    assert sorted(shown) == [f"gallery/{x.name}" for x in PICTURES]
    assert sum(x.stat().st_size for x in PICTURES) < 1_000_000


def test_pictures_show_something():
    for path in PICTURES:
        with Image.open(path) as picture:
            assert len(picture.convert("RGB").getcolors(1 << 20)) > 8, path


def test_every_block_is_a_command_of_the_script_with_what_it_printed():
    blocks = re.findall(r"^```\n(.*?)^```", PAGE, re.M | re.S)
    script = ast.parse((ROOT / "scripts" / "pictures.py").read_text(encoding="utf-8"))
    texts = {x.value for x in ast.walk(script) if isinstance(x, ast.Constant)}
    asked = [block.splitlines()[0].removeprefix("$ undersong ") for block in blocks]
    assert len(asked) == 9
    assert {x.split()[0] for x in asked} <= {str(x).split(" ")[0] for x in texts if x}
    assert all(len(block.splitlines()) > 1 for block in blocks)
