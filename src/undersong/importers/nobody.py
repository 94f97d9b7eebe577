"""Names and ids of nobody: what stands where an artist is not known, or where there are many.

One list for every importer. MusicBrainz calls its seven "special purpose artists". A name without
brackets is on the list only if hardly any artist is called so: "[data]" is nobody, "Data" is not.
What programs write for no value at all ("N/A", "(none)", "???") is nobody, too.
"""

import re

import polars as pl

from undersong.catalogue import Catalogue

NAMES = (
    r"[<\[(]?(?:unknown(?: artists?)?|no artists?|untitled artist|various(?: artists?)?"
    r"|v\.?a\.?|compilations?|verschiedene (?:interpreten|künstler)"
    r"|unbekannter (?:interpret|künstler)"
    r"|artistes divers|artistes variés|artiste inconnu|varios artistas|artista desconocido"
    r"|vários artistas|artista desconhecido|artisti vari|artista sconosciuto|diverse artiesten"
    r"|diverse artister|różni wykonawcy|разные исполнители|сборник|неизвестный исполнитель"
    r"|ヴァリアス・アーティスト|群星)[>\])]?"
    r"|<unknown>|<untagged>|n/a|[<\[(](?:none|n/a)[>\])]|\?{3,}"
    r"|\[(?:unknown|anonymous|data|dialogue|traditional|no artist)\]"
)
IDS = frozenset(
    (
        "89ad4ac3-39f7-470e-963a-56509c546377",  # Various Artists
        "125ec42a-7229-4250-afc5-e057484327fe",  # [unknown]
        "eec63d3c-3b81-4ad4-b1e4-7c147d4d2b61",  # [no artist]
        "f731ccc4-e22a-43af-a747-64213329e088",  # [anonymous]
        "33cf029c-63b0-41a0-9855-be2a3665fb3b",  # [data]
        "314e1c25-dde7-4e4d-b2f4-0a7b9f7c56dc",  # [dialogue]
        "9be7f096-97ec-4615-8957-8d40b5dcbc41",  # [traditional]
    )
)
_NAME = re.compile(NAMES, re.I)


def is_nobody(name: str) -> bool:
    """Return whether a name, or an id of MusicBrainz, is nobody's."""
    return _NAME.fullmatch(name.strip()) is not None or name.strip().lower() in IDS


def nobodies(name: str) -> pl.Expr:
    """Return whether the names of a column are nobody's (``is_nobody``)."""
    text = pl.col(name).str.strip_chars()
    return text.str.contains(f"(?i)^(?:{NAMES})$") | text.str.to_lowercase().is_in(sorted(IDS))


def note(catalogue: Catalogue) -> str:
    """Return a line about artists of a table or data set who are nobody; empty without any.

    Whoever wrote it says who is an artist, and published results depend on it, so they stay.
    """
    rows = catalogue.artists.filter(nobodies("name") | nobodies("id"))
    if rows.is_empty():
        return ""
    names = rows.select(pl.format("{} ({})", pl.coalesce("name", "id"), "id")).to_series()
    shown = ", ".join(names.head(3)) + (", ..." if len(names) > 3 else "")
    return (
        f"{len(names):,} artists are nobody's name, and stay since the data say so: {shown}; "
        "take their rows out if you do not want them as answers"
    )
