"""Every regular expression takes a time that grows with the text alone, whatever the text is."""

import ast
import importlib
import re
import time
from functools import cache
from itertools import product

import pytest

from test_architecture import PACKAGE, modules
from undersong.catalogue import fold
from undersong.catalogue.names import name_key
from undersong.importers.music.credits import Tags, credits_of, is_nobody, path_names
from undersong.linkage.items import main_artist, spell, together

LENGTH = 100_000
OURS = {"service.openapi", "service.page"}  # match names of parameters and files of the package
USES = {"compile", "sub", "subn", "search", "match", "fullmatch", "split", "findall", "finditer"}
SECONDS = 0.3  # of the processor; a square of LENGTH takes ten and more


@cache
def patterns():
    """Every pattern of the package: those that modules keep, and those written in a call of re."""
    found = {}
    for name, path in modules().items():
        source = path.read_text(encoding="utf-8")
        if name in OURS or not re.search(r"^import re$", source, re.M):
            continue
        module = importlib.import_module(f"undersong.{name}")
        kept = [x for x in vars(module).values() if isinstance(x, re.Pattern)]
        written = [
            re.compile(node.args[0].value)
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and getattr(node.func.value, "id", "") == "re"
            and node.func.attr in USES
            and isinstance(node.args[0], ast.Constant)
        ]
        found |= {(x.pattern, x.flags): (name, x) for x in (*kept, *written)}
    return found


def pieces(pattern):
    """Return the characters and the words that a pattern is written with, each alone."""
    source = pattern.pattern if isinstance(pattern.pattern, str) else pattern.pattern.decode()
    words = set(re.findall(r"(?<!\\)[^\W\d_]{2,}", source))
    signs = set(re.findall(r"[^\w\s\\?*+{}()|^$]", source))
    return [*sorted(words)[:3], *sorted(signs)[:8], " ", "0", "a", "\n", "}"]


def texts(pattern, length):
    """Runs of each piece and of each two, behind another, which end in what may not fit."""
    parts = pieces(pattern)
    for one, other, end in product(parts, parts, ("\0", "&", *parts[:3])):
        run = one + other
        yield run * (length // len(run)) + end
        yield one + other * (length // len(other)) + end


def seconds(pattern, text):
    """Processor time of every way to use a pattern."""
    text = text if isinstance(pattern.pattern, str) else text.encode()
    start = time.process_time()
    pattern.fullmatch(text)
    for _ in pattern.finditer(text):
        pass
    return time.process_time() - start


def longest(pattern):
    """Return the longest time, and its text, of short texts and of the slowest of them, longer."""
    slow = list(texts(pattern, 2_000))
    for times in (1, 4, 15, 50):
        longer = (x[:-1] * times + x[-1:] for x in slow)
        timed = []
        for text in longer:
            timed.append((seconds(pattern, text), text))
            if timed[-1][0] > SECONDS:
                return timed[-1]
        timed.sort(reverse=True)
        slow = [x[: (len(x) - 1) // times] + x[-1] for _, x in timed[:3]]
    return timed[0]


def test_every_pattern_of_the_package_is_seen():
    named = {name for name, _ in patterns().values()}
    with_patterns = {
        name
        for name, path in modules().items()
        if re.search(r"\bre\.(?:compile|sub|search)\(", path.read_text(encoding="utf-8"))
    }
    assert with_patterns - named <= OURS
    assert len(patterns()) > 50
    assert PACKAGE.name == "undersong"


@pytest.mark.parametrize("key", sorted(patterns(), key=str), ids=lambda x: patterns()[x][0])
def test_no_pattern_takes_quadratic_time(key):
    taken, text = longest(patterns()[key][1])
    assert taken < SECONDS, (key, text[:20], taken)


@pytest.mark.parametrize("pattern", [r"\s+&", r",\s*[^,&+]+$"])
def test_a_quadratic_pattern_is_found(pattern):
    assert longest(re.compile(pattern))[0] > SECONDS


@pytest.mark.parametrize(
    "text",
    [" ", "a ", "x,", ", ", "&", "- ", "feat. ", "(", "a\u0301\u0327", "\u0301\u0327", "か\u3099"],
)
def test_a_name_of_100_kilobytes_takes_no_time(text):
    long = (text * LENGTH)[:LENGTH]
    start = time.process_time()
    for name in (long, f"a{long}b", f"x,{long}&"):
        for use in (spell, main_artist, together, is_nobody, name_key, fold, path_names):
            use(name)
        credits_of(Tags(artist=(name,)))
    assert time.process_time() - start < 20  # a square would take minutes
