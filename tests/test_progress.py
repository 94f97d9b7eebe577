from undersong.progress import OverallProgress, part_of, watched


def recorder():
    calls = []
    return calls, lambda stage, done, total, note="": calls.append((stage, done, total, note))


def test_blocks_are_reported_when_work_begins_and_as_each_is_done():
    calls, progress = recorder()
    assert list(watched(range(0, 70, 30), progress, "R_U")) == [0, 30, 60]
    assert calls == [("R_U", x, 3, "") for x in range(4)]


def test_nothing_to_do_reports_nothing():
    calls, progress = recorder()
    assert list(watched(range(0), progress, "R_U")) == []
    assert calls == []


def test_one_line_stands_for_all_stages_and_says_when_all_will_be_done():
    """UiRM takes 30 s; what is left is 7 shares, of 10 s each: 100 s in all."""
    calls, progress = recorder()
    seconds = iter([0, 0, 30, 30, 34, 55, 80, 90, 100])
    shares = {"UiRM": 0.0, "GRM": 5.0, "GRM, refit": 2.0}
    whole = OverallProgress(progress, "train", shares, clock=lambda: next(seconds))
    for stage, done, total in (
        ("plays", 3, 7),  # no stage of its own
        ("UiRM", 1, 2),  # nothing tells yet how long the others take
        ("UiRM", 2, 2),
        ("GRM", 0, 50),
        ("GRM", 4, 50),
        ("GRM", 25, 50),
        ("UiRM", 2, 2),  # comes again, in a rehearsal
        ("GRM", 50, 50),
        ("GRM, refit", 2, 4),
        ("GRM, refit", 4, 4),
    ):
        whole(stage, done, total)
    assert [x[0] for x in calls if x[0] != "train"] == [
        *("plays", "UiRM", "UiRM", "GRM", "GRM", "GRM", "UiRM", "GRM", "GRM, refit", "GRM, refit")
    ]
    assert [x[1:] for x in calls if x[0] == "train"] == [
        (0, 100, "stage 1 of 3: UiRM"),
        (0, 100, "stage 1 of 3: UiRM"),
        (0, 100, "stage 2 of 3: GRM"),
        (34, 100, "stage 2 of 3: GRM"),
        (55, 100, "stage 2 of 3: GRM"),
        (80, 100, "stage 2 of 3: GRM"),
        (90, 100, "stage 3 of 3: GRM, refit"),
        (100, 100, "stage 3 of 3: GRM, refit"),
    ]


def test_a_part_of_a_stage_is_counted_in_hundredths():
    calls, progress = recorder()
    report = part_of(progress, "evaluate", 3, 8, "cold: GRM")
    report(0, 90)
    report(45, 90)
    assert calls == [("evaluate", 300, 800, "cold: GRM"), ("evaluate", 350, 800, "cold: GRM")]
