"""OLGA's own table: protocol ``linked`` on its official split, by visible degree."""

from undersong.experiments.results import DEGREES, Results
from undersong.experiments.tables import Column, Show, table
from undersong.report.layout import Table

METRIC = "ndcg@200"
PUBLISHED = (
    "Published NDCG@200 on the sealed edges between test artists: GraphSAGE on random features "
    "with 1, 2, 3 layers .28, .42, .45; with audio features .49, .53, .55; GATSY .52. RdRM_G is "
    "GraphSAGE on random features with 3 layers."
)


def degree_table(results: Results, show: Show) -> Table:
    """NDCG@200 of every method, for all queries and by relations to training artists."""
    columns = [Column(f"all ({results.answerable()})", METRIC)]
    for name in DEGREES:
        part = f"visible degree {name}"
        columns.append(Column(f"{name} ({results.answerable(of=part)})", METRIC, of=part))
    title = f"Set {results.data_set.name}: {METRIC} in linked, by visible degree"
    return table(title, results, tuple(columns), show)
