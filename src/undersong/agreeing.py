"""What is similar to several items by their names, or to one as several runs find it."""

from collections.abc import Sequence

from undersong.errors import UnknownItem
from undersong.names import Match, Names
from undersong.retrieval.agreement import agreement
from undersong.retrieval.facts import Facts
from undersong.retrieval.nearest import Index
from undersong.retrieval.request import Request
from undersong.search import Answer, name_answers, row_of


def agreed(
    indexes: Sequence[Index],
    queries: Sequence[str],
    *,
    names: Names,
    request: Request,
    facts: Sequence[Facts | None] | None = None,
) -> Answer:
    """List what is similar to some items, ids or names, by agreement (``retrieval.agreement``).

    ``names`` are those of the first run; the score is the sum of reciprocal ranks.

    Raises
    ------
    UnknownItem
        If no item fits a query; where all of them together are one name, this is said.
    DataError
        If nothing but its name is known of one; or as ``agreement``.
    """
    matches = _matches(queries, names)
    for match in matches:
        row_of(indexes[0], match)
    found = agreement(indexes, [x.id for x in matches], request=request, facts=facts)
    answers = name_answers(names, found.ids, found.scores.tolist(), found.confidence.tolist())
    seeds = found.seeds if len(queries) > 1 else ()
    return Answer(matches, answers, found.note, names.linked, seeds)


def _matches(queries: Sequence[str], names: Names) -> tuple[Match, ...]:
    try:
        return tuple(names.find(x) for x in queries)
    except UnknownItem as error:
        whole = " ".join(queries)
        if len(queries) == 1 or not names.knows(whole):
            raise
        raise UnknownItem(f"{error} Or is it {whole!r}? Put one name in quotes.") from error
