"""A name -> what stays of it when people spell it their way, from the name itself to bare letters.

    exact    Die Ärzte        AC/DC      The Beatles    Кино
    folded   die arzte        ac dc      the beatles    кино
    plain    die arzte        ac dc      beatles        кино
    key      diearzte         acdc       beatles        kino

Names of one key may be the same artist, and those of two keys are never taken for it. Brackets
stay in a name: "Nirvana (UK)" says that it is another one.
"""

import re
from dataclasses import dataclass

from anyascii import anyascii

from undersong.catalogue import fold

FEATURING = re.compile(r"\s+[\[(]?(?:feat\.?|ft\.?|featuring)\s+", re.I)
TOGETHER = re.compile(r"\s*[,+/;]\s+|\s+(?:&|\+|/|and|x|with|vs\.?|und|et|y|e)\s+", re.I)
AND = re.compile(r"\s*[&+]\s*")
BEHIND = re.compile(r"^(.+),\s*(the|[^,&+]+)$", re.I)


@dataclass(frozen=True)
class Spelling:
    """Forms of one name, each less particular than the one before; see the module's docstring.

    ``turned`` is the key of "Bach, Johann Sebastian" the other way round; else it is empty.
    """

    exact: str
    folded: str
    plain: str
    key: str
    turned: str

    @property
    def guest(self) -> bool:
        """Return whether the name is one of an artist with a guest."""
        return bool(main_artist(self.exact))

    def likeness(self, other: "Spelling") -> int:
        """How alike two names of one key are: 3 the same, 2 folded, 1 plain, 0 the key alone."""
        if self.exact == other.exact:
            return 3
        return 2 if self.folded == other.folded else int(self.plain == other.plain)


def spell(name: str) -> Spelling:
    """Reduce a name step by step: accents, case and punctuation; "the" and "&"; script and spaces.

    A name of signs alone, such as "!!!", keeps them.
    """
    behind = BEHIND.match(name)
    article = behind is not None and behind[2].casefold() == "the"
    plain = _plain(behind[1] if behind is not None and article else name)
    turned = "" if behind is None or article else _key(_plain(f"{behind[2]} {behind[1]}"))
    return Spelling(name, fold(name), plain, _key(plain), turned)


def main_artist(name: str) -> str:
    """Name the one in front of "feat."; empty where nobody is featured."""
    front, *rest = FEATURING.split(name, maxsplit=1)
    return front.strip() if rest else ""


def together(name: str) -> tuple[str, ...]:
    """Part a name at "&", commas and the like, which may stand in the name of one band, too."""
    parts = tuple(x.strip() for x in TOGETHER.split(name) if x.strip())
    return parts if len(parts) > 1 else ()


def _plain(name: str) -> str:
    words = fold(AND.sub(" and ", name))
    return words.removeprefix("the ") or words


def _key(plain: str) -> str:
    bare = "".join(x for x in anyascii(plain).casefold() if x.isalnum())
    return bare or plain
