"""What each part of GRM is worth: rows of changed settings, each beside the default."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING, Any, cast

from undersong.catalogue.tables import Catalogue, Kind
from undersong.errors import SettingsError
from undersong.run_settings import Settings
from undersong.stages.reading import KNOWN_OF_EACH

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Changes = Mapping[str, Any]
GENERAL, CONTENT_POOLING, HUBS = "general", "pooling", "hubs"


@dataclass(frozen=True)
class Ablation:
    """One row.

    Parameters
    ----------
    name : as tables print it
    choices : changed settings of GRM by dotted path; of several the one that validates best counts
    without : sources that GRM does not read
    way : "general" trains GRM again, "pooling" another way from tracks to artists on the same E_C,
        "hubs" scores the default GRM otherwise
    beside : the row that differences are taken to
    """

    name: str
    choices: tuple[Changes, ...] = ({},)
    without: tuple[str, ...] = ()
    way: str = GENERAL
    beside: str = "GRM"

    @property
    def tries(self) -> tuple[str, ...]:
        """Names of what is trained for this row, one a choice."""
        many = len(self.choices) > 1
        return tuple(
            f"{self.name} {number}" if many else self.name
            for number, _ in enumerate(self.choices, start=1)
        )


DEFAULT = Ablation("GRM")
MEAN = "mean of 5"
LAMBDAS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)

# The equal budget: six settings for every loss, around what its own papers recommend.
KNOWN = "loss.known"
LOSSES: Mapping[str, tuple[Changes, ...]] = {
    "multi-similarity": tuple(
        {f"{KNOWN}.alpha": alpha, f"{KNOWN}.beta": beta, f"{KNOWN}.gamma": gamma}
        for alpha, beta, gamma in (
            (2.0, 12.0, 0.8),
            (2.0, 12.0, 0.6),
            (2.0, 20.0, 0.5),
            (4.0, 15.0, 0.3),
            (1.0, 12.0, 0.6),
            (2.0, 50.0, 0.5),
        )
    ),
    "contrastive": tuple(
        {"loss.form": "contrastive", "loss.margin": x} for x in (-0.1, 0.0, 0.1, 0.2, 0.3, 0.5)
    ),
    "triplet": tuple(
        {"loss.form": "triplet", "loss.margin": x} for x in (0.05, 0.1, 0.2, 0.3, 0.5, 0.8)
    ),
    "InfoNCE": tuple(
        {"loss.form": "info-nce", "loss.temperature": x} for x in (0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
    ),
}


def ablations_of(catalogue: Catalogue, kind: Kind) -> tuple[Ablation, ...]:
    """List every row that a catalogue allows; ``DEFAULT`` comes first."""
    return tuple(_rows(catalogue, kind))


def _rows(catalogue: Catalogue, kind: Kind) -> Iterator[Ablation]:
    yield DEFAULT
    for value in LAMBDAS:
        yield Ablation(f"lambda {value:g}", ({"loss.prior_weight": value},))
    yield Ablation("equation 2 as printed", ({"loss.form": "as printed"},))
    yield Ablation("no mining", ({f"{KNOWN}.margin": -1.0},))
    for name, choices in LOSSES.items():
        yield Ablation(f"{name}, best of 6", choices)
    for source in sources_in(catalogue, kind):
        yield Ablation(f"without {source}", without=(source,))
    shown = {"hide_source": 0.0, "hide_interaction": 0.0}
    yield Ablation("no modality dropout", (shown,))
    yield Ablation("no feature crossing", ({"crossing": False},))
    yield Ablation("no third layer", ({"weigh_fields": False},))
    yield Ablation("no linear skip", ({"skip": False},))
    yield Ablation("long tail as negatives", ({"tail_is_negative": True},))
    yield Ablation("graded prior", ({"graded": True},))
    yield Ablation("R_A alone, nothing at one remove", ({"indirect": 0},))
    yield Ablation("GRM, CSLS", way=HUBS)
    if kind == "artist" and len(catalogue.tracks) and sources_in(catalogue, kind)[0] == "content":
        yield Ablation(MEAN, way=CONTENT_POOLING, beside=MEAN)
        for name in ("attention", "1 prototype", *(f"{x} prototypes" for x in (2, 3, 4))):
            yield Ablation(name, way=CONTENT_POOLING, beside=MEAN)


def sources_in(catalogue: Catalogue, kind: Kind) -> tuple[str, ...]:
    """Name the sources that GRM may read: E_C, E_U and the fields that are not withheld."""
    heard = bool(catalogue.features) or catalogue.tracks["path"].count() > 0
    played = len(catalogue.played(kind).head(1).collect()) > 0
    learned = [x for x, there in zip(KNOWN_OF_EACH, (heard, played), strict=True) if there]
    return (*learned, *(x.name for x in catalogue.fields_of(kind) if not x.withheld))


def changed(settings: Settings, changes: Changes) -> Settings:
    """Change settings of GRM by their dotted paths, such as ``loss.known.alpha``.

    Raises
    ------
    SettingsError
        If there is no such setting, or it refuses the value.
    """
    general: Any = settings.general
    for path, value in changes.items():
        try:
            reduce(getattr, path.split("."), general)
            general = _replaced(general, path.split("."), value)
        except (AttributeError, ValueError) as error:
            raise SettingsError(f"[general] {path} = {value!r}: {error}") from error
    return replace(settings, general=general)


def _replaced(table: Any, names: Sequence[str], value: Any) -> Any:
    name, *rest = names
    inner = _replaced(getattr(table, name), rest, value) if rest else value
    return replace(cast("DataclassInstance", table), **{name: inner})
