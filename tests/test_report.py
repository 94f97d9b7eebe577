import json
from dataclasses import replace

import pytest

from undersong.errors import ArtifactError
from undersong.evaluation.results import Evaluation, Interval, Number, Protocol, Slice
from undersong.report import formats, layout
from undersong.report.formats import markdown

ACCURACY = ("map@10", "ndcg", "hit@10", "ndcg@200", "recall@10", "map", "ndcg@10")
ANSWERS = ("consistent@10", "strict_consistent@10", "long-tail share", "popularity")
WHOLE = ("coverage@10", "gini", "hubness", "nobody's neighbour")
METHODS = ("random", "GRM", "tag kNN", "PageRank")


def numbers(names, methods, start):
    return {
        method: {
            name: Number(
                Interval(start + 0.1 * m + 0.01 * x, start + 0.1 * m, start + 0.1 * m + 0.1),
                None if method == "GRM" else Interval(-0.02 * x, -0.5, 0.25),
            )
            for x, name in enumerate(names)
        }
        for m, method in enumerate(methods)
    }


def protocol(name, candidates, methods=METHODS[:3], *, answerable=611):
    some = ACCURACY if answerable else ()
    slices = (
        Slice("all", 853, answerable, numbers((*some, *ANSWERS, *WHOLE), methods, 0.2)),
        Slice("long tail", 242, 0, numbers(ANSWERS, methods, 0.1)),
        Slice("visible degree 0", 17, 0, numbers(ANSWERS, methods, 0.3)),
        Slice("visible degree 1-2", 31, 1, numbers((*some, *ANSWERS), methods, 0.05)),
    )
    return Protocol(name, f"What {name} means.", candidates, 853 - answerable, 31, slices)


@pytest.fixture
def report():
    return Evaluation(
        kind="artist",
        part="validation",
        k=10,
        resamples=1000,
        seed=3,
        reference="GRM",
        methods=(("random", "chance level"), ("GRM", ""), ("tag kNN", "a|b"), ("PageRank", "")),
        fields=("genre", "country"),
        withheld=(),
        popularity="by number of plays",
        protocols=(
            protocol("cold", 8365),
            protocol("paper", 853),
            protocol("linked", 853, METHODS),
        ),
    )


def test_what_is_written_is_read_again(report, tmp_path):
    formats.write(report, tmp_path)
    assert formats.read(tmp_path / "report.json") == report
    assert sorted(x.name for x in tmp_path.iterdir()) == ["report.json", "report.md"]


def test_an_unknown_bound_is_null_and_comes_back(report, tmp_path):
    single = Slice("all", 1, 1, {"GRM": {"map": Number(Interval(0.5))}})
    slices = (single, Slice("long tail", 0, 0, {}))
    one = replace(report, protocols=(replace(report.protocols[0], slices=slices),))
    formats.write(one, tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    number = found["protocols"][0]["slices"][0]["numbers"]["GRM"]["map"]
    assert number == {"mean": {"value": 0.5, "low": None, "high": None}, "difference": None}
    assert formats.read(tmp_path / "report.json") == one


def test_a_report_of_another_format_says_how_to_make_it_again(report, tmp_path):
    formats.write(report, tmp_path)
    path = tmp_path / "report.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    with pytest.raises(ArtifactError, match="format 0.*make it again with `undersong evaluate`"):
        formats.read(path)


def test_the_terminal_shows_methods_in_their_order_within_its_width(report):
    text = formats.render(report)
    assert max(len(line) for line in text.splitlines()) <= formats.WIDTH
    main = text[text.index("Protocol linked") :]
    places = [main.index(f"\n   {name} ") for name in METHODS]
    assert places == sorted(places)


def test_the_terminal_has_a_value_half_its_interval_and_the_difference(report):
    text = formats.render(report)
    cold = text[text.index("Protocol cold") : text.index("Protocol paper")]
    row = next(line for line in cold.splitlines() if line.strip().startswith("tag kNN"))
    shown = ["hit@10", "recall@10", "map", "ndcg", "ndcg@10", "ndcg@200"]
    wanted = [f".{400 + 10 * ACCURACY.index(x)} ±.050" for x in shown]
    assert " ".join(row.split()) == " ".join(["tag kNN", *wanted, "-.060 [-.500, .250]"])
    assert " ".join(cold.split("\n")[4].split()).startswith("hit@10 recall@10 map ndcg ndcg@10")
    assert "reference" in next(x for x in cold.splitlines() if x.strip().startswith("GRM"))


def test_the_terminal_says_what_confidence_means_and_how_often_it_was_right():
    ranking = {
        "reliability": [[0.004, 0.003, 5479], [0.51, 0.49, 583]],
        "reliability of unlinked": [[0.43, 0.37, 97]],
    }
    text = formats.render_confidence(ranking)
    assert "the chance that somebody who looked at both would list the pair" in text
    linked, unlinked = text.split("Confidence of unlinked answers")
    assert "51.0%" in linked
    assert "5,479" in linked
    assert [x.split() for x in unlinked.splitlines() if "%" in x] == [["43.0%", "37.0%", "97"]]
    assert max(map(len, text.splitlines())) <= formats.WIDTH
    assert formats.render_confidence(None) == ""
    earlier = formats.render_confidence({"reliability": ranking["reliability"]})
    assert "unlinked answers" not in earlier


def test_a_report_begins_with_who_is_found_and_who_is_not(report):
    whole = Slice("all", 71, 71, numbers(("recall@10", "nobody finds@50"), METHODS[:3], 0.4))
    tail = Slice("long tail", 0, 0, {})
    found = replace(report.protocols[0], name="found", slices=(whole, tail))
    both = replace(report, protocols=(*report.protocols, found))
    lines = layout.summary(both)
    assert len(lines) == 3
    assert "All links of 611 validation artists were hidden from the model." in lines[0]
    assert "For 196 of them the first 10 answers contain" in lines[0]  # hit@10 .32, by chance .22
    assert "by chance, for 134." in lines[0]
    assert "hold 50% of the hidden artists linked to them; by chance" in lines[1]
    assert (
        "51% of the hidden artists are found by no artist linked to them, even among 50" in lines[2]
    )
    assert markdown(both).splitlines()[2:5] == list(lines)
    assert formats.render(both).startswith(lines[0][:80])


def test_where_nobody_is_missed_the_report_says_so(report):
    whole = Slice("all", 71, 71, numbers(("nobody finds@50",), METHODS[:3], -0.1))  # GRM: 0
    slices = (whole, Slice("long tail", 0, 0, {}))
    found = replace(report.protocols[0], name="found", slices=slices)
    lines = layout.summary(replace(report, protocols=(*report.protocols, found)))
    assert "Each hidden artist is among the first 50 answers of at least one" in lines[-1]


def test_of_few_queries_there_is_no_verdict(report):
    cold = protocol("cold", 8365, answerable=29)
    lines = layout.summary(replace(report, protocols=(cold,)))
    assert "29 queries are too few to judge: below 30, differences are luck." in lines
    assert not any("too few" in x for x in layout.summary(report))


def test_the_counts_and_meanings_are_said(report):
    text = formats.render(report)
    assert "What paper means." in text
    assert "853 artists are queries, 8,365 candidates; accuracy counts the 611" in text
    assert "Hubness is measured on 31 random queries." in text
    assert "No field is withheld" in text
    assert "1-2 visible links (1)" in text
    assert "0 visible links" not in text  # none of those 17 has a relevant candidate


def test_without_a_relevant_candidate_there_is_no_accuracy_but_a_report(report, tmp_path):
    lonely = replace(report, protocols=(protocol("cold", 8365, answerable=0),))
    text = formats.render(lonely)
    assert "No link of any validation artist is known" in text
    assert "consistent@10" in text
    formats.write(lonely, tmp_path)
    assert "### Accuracy" not in (tmp_path / "report.md").read_text()


def test_markdown_tables_are_whole(report, tmp_path):
    formats.write(report, tmp_path)
    lines = (tmp_path / "report.md").read_text().splitlines()
    assert lines.count("### Accuracy") == 3
    assert r"- tag kNN: a|b" in lines
    header = next(x for x in lines if x.startswith("|  | hit@10"))
    names = [x.strip() for x in header.split("|")[2:-1]]
    assert names == ["hit@10", "recall@10", "map", "map@10", "ndcg", "ndcg@10", "ndcg@200"]
    row = lines[lines.index(header) + 2]
    assert row.startswith("| random | .220 [.200, .300] |")
    for place, line in enumerate(lines):
        if line.startswith("|---"):
            assert lines[place - 1].count("|") == line.count("|") == lines[place + 1].count("|")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.4567, ".457"),
        (-0.05, "-.050"),
        (0, ".000"),
        (1, "1.000"),
        (-3.21, "-3.210"),
        (28.94, "28.9"),
    ],
)
def test_numbers_are_short(value, text):
    assert layout.digits(value) == text


@pytest.mark.parametrize(
    ("ours", "difference", "said"),
    [
        (0.17, Interval(-0.31, -0.35, -0.28), True),
        (0.45, Interval(-0.03, -0.05, -0.01), False),
        (0.17, Interval(-0.31, -0.7, 0.1), False),
        (0.17, Interval(-0.31), False),
        (0.55, Interval(0.07, 0.05, 0.09), False),
    ],
)
def test_default_answers_that_agree_much_less_than_the_cosine_are_called_out(
    report, ours, difference, said
):
    name = "withheld_consistent@10"
    methods = {
        "undersong": {name: Number(Interval(ours), difference)},
        "GRM": {name: Number(Interval(0.48))},
    }
    first = replace(report.protocols[0], slices=(Slice("all", 573, 65, methods),))
    judged = replace(report, protocols=(first,), withheld=("label", "mood"))
    lines = [x for x in layout.notes(judged) if x.startswith("WARNING")]
    assert len(lines) == said
    for line in lines:
        assert "in label, mood at .170, those of GRM at .480" in line
        assert "--paper" in line


@pytest.mark.parametrize(
    ("fields", "withheld", "said"),
    [
        (
            ("genre",),
            ("mood",),
            "counted over genre, which models read. Withheld from all models: mood.",
        ),
        (("genre",), (), "which models read. No field is withheld"),
        ((), ("mood",), "Withheld from all models: mood. The row"),
        ((), (), "No field of metadata is known"),
    ],
)
def test_the_fields_that_agreement_is_judged_by_are_named_if_there_are_any(
    report, fields, withheld, said
):
    line = layout.notes(replace(report, fields=fields, withheld=withheld))[1]
    assert said in line
    assert "none" not in line


@pytest.mark.parametrize(
    ("measure", "line"),
    [
        ("by number of plays", "Popularity of the answers: mean percentile by number of plays."),
        ("by popularity", "Popularity of the answers: mean percentile."),
    ],
)
def test_popularity_is_not_measured_by_popularity(report, measure, line):
    assert line in layout.notes(replace(report, popularity=measure))


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("ndcg@200", "links near the top"),
        ("strict@10 long tail", "all metadata in common, long tail"),
        ("nobody's neighbour", "in nobody's list"),
        ("1-2 links (40)", ""),
    ],
)
def test_metrics_have_words_and_other_columns_none(column, words):
    assert layout.in_words(column) == words


def test_protocols_and_slices_have_words():
    assert layout.protocol_in_words("cold, labelled") == (
        "What unlinked items find, linked candidates only"
    )
    assert layout.slice_in_words("visible degree 11+") == "11+ visible links"
    assert layout.slice_in_words("3-5 relations") == "3-5 links"
