"""Names of the generated world: every artist's name holds a made-up word."""

import unicodedata

import numpy as np

# Each region has syllables of its own, so a name hints at where an artist is from.
REGIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Norvaskia": (("sø", "brå", "hjal", "ulv", "eik", "tor", "vin"), ("mund", "vik", "dre", "løv")),
    "Calmerra": (("ma", "lé", "cori", "bel", "tiña", "ro", "alva"), ("rez", "sól", "dero", "nía")),
    "Ostravelle": (
        ("bri", "éto", "cha", "vau", "lou", "mé", "gar"),
        ("nelle", "çon", "dier", "ève"),
    ),
    "Kesztany": (("ő", "zsa", "kirá", "bol", "vesz", "tam", "er"), ("dög", "kút", "vár", "nesz")),
    "Tamboru": (("ki", "wa", "zo", "ndu", "amba", "le", "oyi"), ("weko", "luma", "sindi", "bari")),
    "Hazelmoor": (
        ("thorn", "wick", "ash", "pel", "dun", "merri", "ox"),
        ("combe", "low", "by", "stead"),
    ),
}

# fmt: off
_BAND = (
    "Lanterns", "Orchard", "Circuit", "Harbour", "Engines", "Parade", "Foxes", "Machine",
    "Weather", "Choir", "Signal", "Gardens", "Trio", "Assembly", "Clockwork", "Ghosts",
)
_COLOURS = (
    "Amber", "Silver", "Hollow", "Velvet", "Distant", "Crooked", "Paper", "Salt", "Quiet",
    "Golden", "Burning", "Frozen", "Little", "Electric", "Blue", "Wandering",
)
_THINGS = (
    "River", "Window", "Tide", "Letter", "Garden", "Mirror", "Road", "Engine", "Moth",
    "Season", "Staircase", "Shadow", "Island", "Morning", "Satellite", "Harvest",
)
# fmt: on


def artist_names(regions: list[str], generator: np.random.Generator) -> list[str]:
    """Make one name an artist, unlike all others even without accents and capitals."""
    names: list[str] = []
    taken: set[str] = set()
    for region in regions:
        name = _artist_name(region, generator)
        while plain(name) in taken:
            name = _artist_name(region, generator)
        taken.add(plain(name))
        names.append(name)
    return names


def track_titles(count: int, generator: np.random.Generator) -> list[str]:
    """Make different titles for the tracks of one artist; ``count`` up to some hundreds."""
    titles: list[str] = []
    while len(titles) < count:
        colour, thing, other = (_pick(x, generator) for x in (_COLOURS, _THINGS, _THINGS))
        forms = (f"{colour} {thing}", f"After the {thing}", f"{thing} and {other}")
        title = _pick(forms, generator)
        if title not in titles and thing != other:
            titles.append(title)
    return titles


def plain(name: str) -> str:
    """Take accents and capitals away."""
    decomposed = unicodedata.normalize("NFKD", name.casefold())
    return "".join(x for x in decomposed if not unicodedata.combining(x))


def _artist_name(region: str, generator: np.random.Generator) -> str:
    first, last = _word(region, generator), _word(region, generator)
    forms = (
        f"{first} {last}",
        f"{first} {last}",
        first,
        f"The {first} {_pick(_BAND, generator)}",
        f"{_pick(_COLOURS, generator)} {first}",
        f"{first} & {last}",
    )
    return _pick(forms, generator)


def _word(region: str, generator: np.random.Generator) -> str:
    beginnings, endings = REGIONS[region]
    middle = _pick(beginnings, generator) if generator.random() < 0.2 else ""
    return (_pick(beginnings, generator) + middle + _pick(endings, generator)).capitalize()


def _pick(words: tuple[str, ...], generator: np.random.Generator) -> str:
    return words[int(generator.integers(len(words)))]
