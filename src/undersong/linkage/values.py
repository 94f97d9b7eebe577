"""What several sources say of one item -> what the merged catalogue says of it.

name, category   what most sources say; of equally many the first in the alphabet
tags             all of them, what most sources say first
number           the mean, but the highest popularity of a track
split            test before validation before training, so that nothing is trained on that
                 one source keeps for a test
path             the first; whole paths where the sources' audio begins at different folders
features         the mean of the vectors
"""

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from undersong.catalogue import FIELD_TYPES, ITEMS, Catalogue, Field, Kind
from undersong.embeddings import Embeddings
from undersong.errors import DataError
from undersong.linkage.items import UUID, main_artist

Named = Mapping[Kind, Mapping[str, Mapping[str, str]]]  # kind -> source -> its id -> new id
SEVERITY = {"test": 0, "validation": 1, "train": 2}


def fields_of(sources: Mapping[str, Catalogue]) -> tuple[Field, ...]:
    """Fields of the merged catalogue, by kind and name, and one with the MusicBrainz id.

    A field that is a category in one source and tags in another becomes tags; one that any source
    withholds stays withheld. A role that two fields would hold is held by the one that says
    something of more items. Raises DataError if a field is a number in one source and words in
    another.
    """
    fields: dict[tuple[Kind, str], Field] = {}
    known: dict[tuple[Kind, str], int] = {}
    for name in sorted(sources):
        for field in sources[name].fields:
            key = field.kind, field.name
            same = fields.get(key, field)
            if "number" in (same.type, field.type) and same.type != field.type:
                raise DataError(
                    f"the field {field.name!r} of {field.kind}s is {same.type} in one catalogue "
                    f"and {field.type} in {name}; rename one of them"
                )
            words = "tags" if "tags" in (same.type, field.type) else field.type
            role = same.role or field.role
            withheld = same.withheld or field.withheld
            fields[key] = replace(same, type=words, role=role, withheld=withheld)
            column = sources[name].items(field.kind)[field.name]
            known[key] = known.get(key, 0) + len(column) - column.null_count()
    for kind in ITEMS:
        ids = (x for one in sources.values() for x in one.ids(kind))
        if (kind, "mbid") not in fields and any(UUID.fullmatch(x.lower()) for x in ids):
            fields[kind, "mbid"] = Field("mbid", kind, "category", withheld=True)
    return tuple(_one_role(fields, known, key) for key in sorted(fields))


def items(
    sources: Mapping[str, Catalogue], kind: Kind, named: Named, fields: tuple[Field, ...]
) -> pl.DataFrame:
    """Table of one kind: a row for each new id, in their order."""
    own = {x.name: x.type for x in fields if x.kind == kind}
    schema = ITEMS[kind] | {name: FIELD_TYPES[own[name]] for name in own}
    root = audio_root(sources)
    tables = [
        _renamed(one, kind, named, source, schema, root) for source, one in sorted(sources.items())
    ]
    rows = pl.concat(tables)
    whole = rows.select("id").unique().sort("id")
    for name, dtype in schema.items():
        if name != "id":
            whole = whole.join(_most(rows, name, dtype), on="id", how="left", maintain_order="left")
    return whole.select(*schema)


def features(sources: Mapping[str, Catalogue], named: Named) -> dict[tuple[str, Kind], Embeddings]:
    """Features of one name and kind are one space; an item with several vectors has their mean.

    Raises DataError if they have two widths.
    """
    vectors_of: dict[tuple[str, Kind], list[tuple[list[str], Embeddings]]] = {}
    for source, one in sorted(sources.items()):
        for key, vectors in one.features.items():
            now = named[key[1]][source]
            vectors_of.setdefault(key, []).append(([now[x] for x in vectors.ids], vectors))
    whole = {}
    for key, parts in vectors_of.items():
        widths = {x.vectors.shape[1] for _, x in parts}
        if len(widths) > 1:
            raise DataError(
                f"features {key[0]!r} of {key[1]}s have the widths "
                f"{', '.join(map(str, sorted(widths)))}; rename them in one of the catalogues"
            )
        ids, row = np.unique([x for part, _ in parts for x in part], return_inverse=True)
        sums = np.zeros((len(ids), widths.pop()))
        np.add.at(sums, row, np.concatenate([x.vectors for _, x in parts]))
        mean = sums / np.bincount(row, minlength=len(ids))[:, None]
        whole[key] = Embeddings(tuple(ids.tolist()), mean.astype(np.float32))
    return whole


def audio_root(sources: Mapping[str, Catalogue]) -> Path | None:
    """Folder at which paths of audio begin: the one of all sources, or what they have in common."""
    roots = {x.audio_root.absolute() for x in sources.values() if x.audio_root}
    return Path(os.path.commonpath(roots)) if roots else None


def _one_role(
    fields: Mapping[tuple[Kind, str], Field],
    known: Mapping[tuple[Kind, str], int],
    key: tuple[Kind, str],
) -> Field:
    """Take a role from a field if another of its kind says something of more items."""
    field = fields[key]
    rivals = [
        x for x, one in fields.items() if field.role and (x[0], one.role) == (key[0], field.role)
    ]
    first = min(rivals, key=lambda x: (-known[x], x), default=key)
    return field if first == key else replace(field, role="")


def _renamed(
    one: Catalogue,
    kind: Kind,
    named: Named,
    source: str,
    schema: Mapping[str, pl.DataType],
    root: Path | None,
) -> pl.DataFrame:
    table = one.items(kind)
    new_ids = pl.Series("id", [named[kind][source][x] for x in table["id"]], dtype=pl.String)
    columns = []
    for name, dtype in schema.items():
        if name == "mbid" and dtype == pl.String:
            columns.append(_mbids(table))
        elif name not in table.columns:
            columns.append(pl.Series(name, [None] * len(table), dtype=dtype))
        elif isinstance(dtype, pl.List) and not isinstance(table[name].dtype, pl.List):
            words = [[x] if x is not None else None for x in table[name].cast(pl.String)]
            columns.append(pl.Series(name, words, dtype=dtype))
        else:
            columns.append(table[name].cast(dtype))
    whole = pl.DataFrame(columns).with_columns(new_ids)
    if kind == "track":
        homes = [named["artist"][source][x] for x in table["artist"]]
        paths = [_path(x, one.audio_root, root) for x in table["path"]]
        whole = whole.with_columns(
            pl.Series("artist", homes, dtype=pl.String), pl.Series("path", paths, dtype=pl.String)
        )
    return whole.with_columns(pl.lit(source).alias(" source"))


def _mbids(table: pl.DataFrame) -> pl.Series:
    noted = table["mbid"].cast(pl.String) if "mbid" in table.columns else [None] * len(table)
    own = (x.lower() if UUID.fullmatch(x.lower()) else None for x in table["id"])
    return pl.Series("mbid", [a or b for a, b in zip(noted, own, strict=True)], dtype=pl.String)


def _path(path: str | None, mine: Path | None, root: Path | None) -> str | None:
    if path is None or mine is None or root is None or mine.absolute() == root:
        return path
    return os.path.relpath(mine.absolute() / path, root)


def _most(rows: pl.DataFrame, name: str, dtype: pl.DataType) -> pl.DataFrame:
    """One value of a column for each id, as the module's docstring says."""
    value = pl.col(name)
    stated = rows.select("id", name, " source").drop_nulls()
    if name in ("split", "path"):
        order = value.replace_strict(SEVERITY, default=3) if name == "split" else " source"
        return stated.sort(order, name).group_by("id", maintain_order=True).agg(value.first())
    if dtype == pl.Float64:
        one = value.max() if name == "popularity" else value.sort().mean()
        return stated.group_by("id").agg(one)
    place, guest = pl.lit(0), pl.lit(False)
    if name == "name":
        guest = pl.col(name).map_elements(lambda x: bool(main_artist(x)), return_dtype=pl.Boolean)
    if isinstance(dtype, pl.List):
        stated = stated.with_columns(place=pl.int_ranges(pl.col(name).list.len())).explode(
            name, "place"
        )
        place = pl.col("place")
    ordered = (
        stated.drop_nulls(name)
        .group_by("id", name)
        .agg(guest.min().alias(" guest"), pl.len().alias(" times"), place.min().alias(" place"))
        .sort(
            "id", " guest", " times", " place", name, descending=[False, False, True, False, False]
        )
        .group_by("id", maintain_order=True)
    )
    return ordered.agg(pl.col(name) if isinstance(dtype, pl.List) else pl.col(name).first())
