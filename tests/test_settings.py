from dataclasses import asdict, dataclass, field

import pytest

from undersong.errors import SettingsError
from undersong.settings import LATER, as_recorded, build, read, read_toml


@dataclass(frozen=True)
class Inner:
    alpha: float = 2.0
    words: tuple[str, ...] = ("a",)


@dataclass(frozen=True)
class Stage:
    steps: int = 600
    name: str = "x"
    on: bool = False
    loss: Inner = field(default=Inner())

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps {self.steps} must be 1 or more")


KINDS = {"stage": Stage, "other": Inner}


@pytest.fixture
def file(tmp_path):
    def put(text: str | bytes):
        path = tmp_path / "settings.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return put


def test_no_file_means_every_default():
    assert read(None, KINDS) == {"stage": Stage(), "other": Inner()}


def test_tables_within_tables_lists_and_whole_numbers_for_fractions_are_read(file):
    path = file('[stage]\nsteps = 7\non = true\n[stage.loss]\nalpha = 3\nwords = ["b", "c"]\n')
    assert read(path, KINDS) == {
        "stage": Stage(steps=7, on=True, loss=Inner(alpha=3.0, words=("b", "c"))),
        "other": Inner(),
    }
    assert type(read(path, KINDS)["stage"].loss.alpha) is float


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[stag]\n", r"no table 'stag'; did you mean 'stage'\?"),
        ("[stage]\nstep = 3\n", r"\[stage\] has no 'step'; did you mean 'steps'\?"),
        ("[stage.loss]\nalhpa = 3\n", r"\[stage\] loss: has no 'alhpa'; did you mean 'alpha'\?"),
        ("[stage]\nzzz = 3\n", "has no 'zzz'; known: steps, name, on, loss"),
        ('[stage]\nsteps = "3"\n', "steps is '3', expected int"),
        ("[stage]\nsteps = true\n", "steps is True, expected int"),
        ("[stage]\nsteps = 2.5\n", "steps is 2.5, expected int"),
        ("[stage]\non = 1\n", "on is 1, expected bool"),
        ("[stage]\nloss = 1\n", "loss is 1, expected Inner"),
        ("[stage]\nsteps = 0\n", r"settings.toml: \[stage\] steps 0 must be 1 or more"),
        ("[stage]\nsteps = \n", "line 2"),
        ("[stage]\nname = 'é'".encode("latin1"), "can't decode"),
    ],
)
def test_a_setting_at_fault_is_named_with_its_value(file, text, message):
    with pytest.raises(SettingsError, match=message):
        read(file(text), KINDS)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"none.toml is missing; give the path of a TOML file"):
        read_toml(tmp_path / "none.toml")


def test_building_does_not_change_its_input():
    table = {"steps": 9, "loss": {"alpha": 5}}
    assert build(Stage, table, "here") == Stage(steps=9, loss=Inner(alpha=5.0))
    assert table == {"steps": 9, "loss": {"alpha": 5}}


def test_a_record_of_an_earlier_version_stands_for_the_same_settings():
    @dataclass(frozen=True)
    class Newer(Inner):
        graded: bool = field(default=False, metadata=LATER)

    @dataclass(frozen=True)
    class Run:
        first: Inner = field(default=Inner())
        newer: Newer = field(default=Newer())
        last: Newer = field(default=Newer(), metadata=LATER)

    before = {"first": asdict(Inner()), "newer": asdict(Inner())}
    assert as_recorded(Run()) == before
    graded = as_recorded(Run(newer=Newer(graded=True), last=Newer(alpha=3.0)))
    assert graded["newer"]["graded"] is True
    assert graded["last"] == {"alpha": 3.0, "words": ("a",)}
