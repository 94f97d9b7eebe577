"""The settings of a run: one TOML file, one table for each stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from undersong import settings as settings_file
from undersong.catalogue import KINDS, SplitSettings
from undersong.models.content.network import ContentSettings
from undersong.models.general.network import GeneralSettings
from undersong.models.graph.network import GraphSettings
from undersong.models.interaction import InteractionSettings
from undersong.ranking.network import RankingSettings
from undersong.settings import LATER

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class RunSettings:
    """What a run is about.

    Parameters
    ----------
    kind : "artist" or "track"
        Items whose relations train GRM. With "artist", tracks are embedded too, by the same
        model, each as an artist of one track.
    seed : of splits, initial weights, batches and dropout
    device : "auto", "cpu", "cuda", "cuda:1", ...
    refit : whether the published E_G learns from all relations, once all is chosen and judged
        Evaluation judges the E_G that never saw relations of validation and test items.
    """

    kind: str = "artist"
    seed: int = 0
    device: str = "auto"
    refit: bool = True

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind {self.kind!r} must be 'artist' or 'track'")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be 0 or more")


@dataclass(frozen=True)
class Settings:
    """All settings of a training run, one table of the TOML file each."""

    run: RunSettings = field(default=RunSettings())
    split: SplitSettings = field(default=SplitSettings())
    content: ContentSettings = field(default=ContentSettings())
    interaction: InteractionSettings = field(default=InteractionSettings())
    general: GeneralSettings = field(default=GeneralSettings())
    ranking: RankingSettings = field(default=RankingSettings())
    graph: GraphSettings = field(default=GraphSettings(), metadata=LATER)


STAGES: Mapping[str, type["DataclassInstance"]] = {
    "run": RunSettings,
    "split": SplitSettings,
    "content": ContentSettings,
    "interaction": InteractionSettings,
    "general": GeneralSettings,
    "ranking": RankingSettings,
    "graph": GraphSettings,
}


def read_settings(path: Path | None) -> Settings:
    """Read a settings file; without one, the defaults.

    Raises
    ------
    SettingsError
        For a mistake in the file, with its place and the nearest known word.
    """
    return Settings(**cast(dict[str, Any], settings_file.read(path, STAGES)))


def make_settings(settings: Settings | Mapping[str, Any] | Path | str | None) -> Settings:
    """Return settings: as they are, of tables like those of a file, of a file, or the defaults.

    Raises
    ------
    SettingsError
        As ``read_settings``.
    """
    if isinstance(settings, Settings):
        return settings
    if isinstance(settings, Mapping):
        tables = settings_file.build_all(settings, STAGES, "settings")
        return Settings(**cast(dict[str, Any], tables))
    return read_settings(None if settings is None else Path(settings))
