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


def test_one_line_stands_for_all_stages():
    calls, progress = recorder()
    whole = OverallProgress(progress, "train", {"UiRM": 1.0, "GRM": 5.0, "GRM, refit": 2.0})
    for stage, done, total in (
        ("plays", 3, 7),  # no stage of its own
        ("UiRM", 1, 2),
        ("GRM", 4, 10),
        ("UiRM", 2, 2),  # comes again, in a rehearsal
        ("GRM, refit", 3, 4),
        ("GRM, refit", 4, 4),
    ):
        whole(stage, done, total)
    assert [x[0] for x in calls if x[0] != "train"] == [
        *("plays", "UiRM", "GRM", "UiRM", "GRM, refit", "GRM, refit")
    ]
    assert [x[1:] for x in calls if x[0] == "train"] == [
        (6, 100, "stage 1 of 3: UiRM"),
        (37, 100, "stage 2 of 3: GRM"),
        (93, 100, "stage 3 of 3: GRM, refit"),
        (100, 100, "stage 3 of 3: GRM, refit"),
    ]


def test_a_part_of_a_stage_is_counted_in_hundredths():
    calls, progress = recorder()
    report = part_of(progress, "evaluate", 3, 8, "cold: GRM")
    report(0, 90)
    report(45, 90)
    assert calls == [("evaluate", 300, 800, "cold: GRM"), ("evaluate", 350, 800, "cold: GRM")]
