"""Tables 1 and 2 of the paper on our data: which number stands in which column."""

from collections.abc import Callable
from dataclasses import dataclass

from undersong.experiments.estimates import Estimate
from undersong.experiments.results import (
    ALL,
    COLD,
    LONG_TAIL,
    OTHER_ARTISTS,
    PAPER,
    Results,
)
from undersong.report.layout import Table, digits

Show = Callable[[Estimate | None], str]


@dataclass(frozen=True)
class Column:
    """One column: what its header says, and the number below it."""

    header: str
    metric: str
    pool: str = PAPER
    of: str = ALL


ACCURACY = (
    Column("recall@10", "recall@10"),
    Column("hit@10", "hit@10"),
    Column("MAP", "map"),
    Column("NDCG", "ndcg"),
    Column("cold NDCG@200", "ndcg@200", pool=COLD),
    Column("cold recall@10", "recall@10", pool=COLD),
)
CONSISTENCY = (
    Column("consistent@10 all", "consistent@10"),
    Column("consistent@10 tail", "consistent@10", of=LONG_TAIL),
    Column("withheld all", "withheld_consistent@10"),
    Column("withheld tail", "withheld_consistent@10", of=LONG_TAIL),
    Column("coverage@10", "coverage@10"),
    Column("hubness", "hubness"),
    Column("nobody's neighbour", "nobody's neighbour"),
)
OTHERS = tuple(
    Column(f"{x.header}", x.metric, pool=f"{x.pool}{OTHER_ARTISTS}", of=x.of) for x in ACCURACY
)


def plus_minus(found: Estimate | None) -> str:
    """Value and half of its interval; a dash where there is none."""
    if found is None:
        return "-"
    if found.low is None or found.high is None:
        return digits(found.value)
    return f"{digits(found.value)} ±{digits((found.high - found.low) / 2)}"


def bounds(found: Estimate | None) -> str:
    """Value, bounds of its interval, and the spread between seeds."""
    if found is None:
        return "-"
    text = digits(found.value)
    if found.low is not None and found.high is not None:
        text += f" [{digits(found.low)}, {digits(found.high)}]"
    return text if found.spread is None else f"{text} s {digits(found.spread)}"


def tables_of(results: Results, show: Show) -> tuple[Table, ...]:
    """Lay one data set out: accuracy, then agreement of metadata and exposure.

    Tracks have accuracy twice: among all candidates, and without those of the query's own
    artist.
    """
    made = [
        table(_title(results, "accuracy"), results, ACCURACY, show),
        table(_title(results, "consistency and exposure"), results, CONSISTENCY, show),
    ]
    if results.kind == "track":
        title = _title(results, "accuracy without the query's own artist")
        made.insert(1, table(title, results, OTHERS, show))
    return tuple(x for x in made if len(x.header) > 1)


def table(title: str, results: Results, columns: tuple[Column, ...], show: Show) -> Table:
    """Fill a table with all models: the paper's, then everything else; no empty column."""
    names = (*results.rows, *results.others)
    cells = [[results.number(x, c.metric, pool=c.pool, of=c.of) for x in names] for c in columns]
    kept = [place for place, column in enumerate(cells) if any(x is not None for x in column)]
    rows = tuple(
        (name, *(show(cells[place][turn]) for place in kept)) for turn, name in enumerate(names)
    )
    return Table(title, ("", *(columns[place].header for place in kept)), rows)


def _title(results: Results, what: str) -> str:
    number = results.data_set.table
    return f"{f'Table {number}' if number else 'OLGA'}, set {results.data_set.name}: {what}"
