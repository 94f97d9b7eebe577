"""General representation model: GRM, section 2.3, left of figure 3.

Flow:
    E_C, E_U, E_M -> one token a source -> 2 transformer layers -> E (d)
    E as z fields of width f -> third transformer layer -> products of field pairs E_cf
    fields and products -> linear layers with PReLU -> E_G
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undersong.losses import MultiRelationship
from undersong.training import Schedule


@dataclass(frozen=True)
class GeneralSettings:
    """What the paper leaves open about GRM; see docs/choices.md.

    Parameters
    ----------
    width : d, of tokens and of E
    fields : z; the width of a field is f = d / z
    heads : of the first two transformer layers; the third has one
    out : width of E_G
    dropout : inside the transformer layers and the head
    skip : add a linear map of the sources to E_G
    hide_interaction, hide_source : chance that training hides E_U, or any other source, of an
        item (modality dropout)
    anchors, partners, tail : a batch has so many linked items, so many related ones of each, and
        so many of the long tail
    tail_is_negative : False keeps an unlinked item from being pushed away from an anchor with the
        same genre, region and popularity: it is unlabelled, not dissimilar
    """

    width: int = 256
    fields: int = 8
    heads: int = 4
    out: int = 128
    dropout: float = 0.1
    skip: bool = True
    hide_interaction: float = 0.5
    hide_source: float = 0.15
    anchors: int = 512
    partners: int = 1
    tail: int = 128
    tail_is_negative: bool = False
    loss: MultiRelationship = field(default=MultiRelationship())
    training: Schedule = field(default=Schedule())

    def __post_init__(self) -> None:
        if self.width % self.fields or self.width % self.heads:
            raise ValueError(
                f"width {self.width} must divide into {self.fields} fields and {self.heads} heads"
            )
        if min(self.anchors, self.partners) < 1 or self.tail < 0:
            raise ValueError("anchors and partners must be 1 or more, tail 0 or more")
        for name in ("dropout", "hide_interaction", "hide_source"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be in [0, 1)")


class GeneralModel(nn.Module):
    """Fuse one vector per source into one unit vector per item."""

    def __init__(self, widths: Sequence[int], settings: GeneralSettings):
        """``widths`` are the sizes of the sources: E_C, E_U and each field of E_M."""
        super().__init__()
        self.settings = settings
        width, z = settings.width, settings.fields
        f, pairs = width // z, z * (z - 1) // 2
        self.project = nn.ModuleList(nn.Linear(size, width) for size in widths)
        self.absent = nn.Parameter(torch.randn(len(widths), width) * 0.02)
        self.fuse = nn.Sequential(
            *(_layer(width, settings.heads, settings.dropout) for _ in range(2)),
            nn.LayerNorm(width),
        )
        self.weigh = _layer(f, 1, settings.dropout)
        self.head = nn.Sequential(
            nn.Linear((z + pairs) * f, width),
            nn.PReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(width, settings.out),
        )
        self.skip = nn.ModuleList(
            nn.Linear(size, settings.out, bias=False) for size in (widths if settings.skip else ())
        )

    def forward(self, sources: Sequence[Tensor], missing: Tensor) -> Tensor:
        """Embed n items from s sources: [(n, size), ...], (n, s) bool -> (n, out).

        ``missing[i, j]`` hides source j of item i: a learned token stands in for it, so nothing
        of the hidden values can be seen.
        """
        given = [x * ~missing[:, j, None] for j, x in enumerate(sources)]
        tokens = [
            torch.where(missing[:, j, None], self.absent[j], project(x))
            for j, (project, x) in enumerate(zip(self.project, given, strict=True))
        ]
        e = self.fuse(torch.stack(tokens, dim=1)).mean(dim=1)  # (n, s, d) -> (n, d)
        fields = self.weigh(e.unflatten(1, (self.settings.fields, -1)))  # (n, z, f)
        i, j = torch.triu_indices(self.settings.fields, self.settings.fields, offset=1)
        crossed = fields[:, i] * fields[:, j]  # (n, z(z-1)/2, f)
        general: Tensor = self.head(torch.cat([fields, crossed], dim=1).flatten(1))
        for skip, x in zip(self.skip, given, strict=False):
            general = general + skip(x)
        return F.normalize(general.float(), dim=1)


def _layer(width: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    return nn.TransformerEncoderLayer(
        width, heads, 2 * width, dropout, batch_first=True, norm_first=True
    )
