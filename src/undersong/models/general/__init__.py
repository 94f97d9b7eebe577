"""GRM: E_C, E_U and metadata in, E_G out (sections 2.3 and 2.4)."""

from undersong.models.general.network import GeneralModel, GeneralSettings
from undersong.models.general.training import (
    any_related,
    check_related,
    embed,
    load_general,
    save_general,
    train_general,
)

__all__ = [
    "GeneralModel",
    "GeneralSettings",
    "any_related",
    "check_related",
    "embed",
    "load_general",
    "save_general",
    "train_general",
]
