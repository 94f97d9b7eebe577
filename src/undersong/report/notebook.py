"""A report as a notebook shows it, and as one table."""

from dataclasses import dataclass

import polars as pl

from undersong.evaluation.results import Evaluation, Interval, Protocol
from undersong.io.display import html_table
from undersong.report import layout, terminal


@dataclass(frozen=True)
class Report:
    """How good the answers of a run are; it prints as tables, in a notebook too.

    Parameters
    ----------
    results : every number, by protocol, slice and method
    """

    results: Evaluation

    def frame(self) -> pl.DataFrame:
        """Return every number as one table.

        Returns
        -------
        protocol, slice, method, metric, queries (that count), value, low and high (its 95 %
        interval), difference, difference_low and difference_high (to ``results.reference``,
        paired); null where it cannot be known
        """
        rows = [
            (protocol.name, part.name, method, metric, part.queries, *_interval(number.mean))
            + _interval(number.difference)
            for protocol in self.results.protocols
            for part in protocol.slices
            for method, numbers in part.numbers.items()
            for metric, number in numbers.items()
        ]
        numbers = ("value", "low", "high", "difference", "difference_low", "difference_high")
        schema = dict.fromkeys(("protocol", "slice", "method", "metric"), pl.String())
        return pl.DataFrame(
            rows,
            schema=schema | {"queries": pl.Int64()} | dict.fromkeys(numbers, pl.Float64()),
            orient="row",
        )

    def __str__(self) -> str:
        return terminal.render(self.results)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return "".join(
            html_table(
                pl.DataFrame(table.rows, schema=["method", *table.header[1:]], orient="row"),
                above=f"{protocol.name}: {protocol.meaning}",
                below=layout.count_line(protocol, self.results),
            )
            for protocol in self.results.protocols
            for table in [_accuracy(protocol, self.results)]
        )


def _interval(interval: Interval | None) -> tuple[float | None, ...]:
    return (interval.value, interval.low, interval.high) if interval else (None, None, None)


def _accuracy(protocol: Protocol, evaluation: Evaluation) -> layout.Table:
    names = layout.metric_names(protocol.slices[0], layout.ACCURACY)
    return layout.accuracy(protocol, evaluation, names, layout.plus_minus)
