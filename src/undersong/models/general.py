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

from undersong.losses import MultiRelationship, MultiSimilarity
from undersong.training import Schedule


@dataclass(frozen=True)
class GeneralSettings:
    """What the paper leaves open about GRM; see docs/choices.md.

    Parameters
    ----------
    width : d, of tokens and of E
    fields : z; the width of a field is f = d / z
    heads : of the transformer layers
    out : width of E_G
    dropout : inside the transformer layers and the head
    input_dropout : share of the single inputs, such as one tag, left out while training
    skip : add a linear map of the sources to E_G
    pace : how much faster the maps of the inputs learn than the layers above them
    hide_interaction, hide_source : chance that training hides E_U, or any other source, of an
        item (modality dropout)
    anchors, partners, tail : a batch has so many linked items, so many related ones of each, and
        so many of the long tail
    tail_is_negative : False keeps an unlinked item from being pushed away from an anchor with the
        same genre, region and popularity: it is unlabelled, not dissimilar
    """

    width: int = 128
    fields: int = 8
    heads: int = 4
    out: int = 256
    dropout: float = 0.0
    input_dropout: float = 0.3
    skip: bool = True
    pace: float = 3.0
    hide_interaction: float = 0.3
    hide_source: float = 0.1
    anchors: int = 430
    partners: int = 1
    tail: int = 154
    tail_is_negative: bool = False
    loss: MultiRelationship = field(
        default=MultiRelationship(
            known=MultiSimilarity(alpha=1, beta=12, gamma=0.6, margin=0.5), prior_weight=0.05
        )
    )
    training: Schedule = field(
        default=Schedule(
            steps=280, learning_rate=1e-3, weight_decay=0.05, validate_every=40, average=0.99
        )
    )

    def __post_init__(self) -> None:
        if self.width % (self.fields * self.heads):
            raise ValueError(
                f"width {self.width} must divide into {self.fields} fields of {self.heads} heads"
            )
        if min(self.anchors, self.partners) < 1 or self.tail < 0:
            raise ValueError("anchors and partners must be 1 or more, tail 0 or more")
        if self.pace <= 0:
            raise ValueError(f"pace {self.pace} must be above 0")
        for name in ("dropout", "input_dropout", "hide_interaction", "hide_source"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be in [0, 1)")


class GeneralModel(nn.Module):
    """Fuse one vector per source into one unit vector per item.

    It begins as a random projection of its inputs, which keeps their cosines: the layers of
    figure 3 end in zeros, so that they learn what to add to it.
    """

    def __init__(
        self,
        widths: Sequence[int],
        settings: GeneralSettings,
        *,
        weights: Sequence[float] | None = None,
    ):
        """``widths`` are the sizes of the sources: E_C, E_U and each field of E_M.

        ``weights`` say how much each counts at the beginning; 1 each without them.
        """
        super().__init__()
        self.settings = settings
        width, z = settings.width, settings.fields
        f, pairs = width // z, z * (z - 1) // 2
        sizes = list(zip(widths, weights or [1.0] * len(widths), strict=True))
        self.project = nn.ModuleList(_projection(*size, width) for size in sizes)
        self.source = nn.Parameter(torch.randn(len(widths), width) * 0.02)
        self.absent = nn.Parameter(torch.randn(len(widths), width) * 0.02)
        self.fuse = nn.Sequential(
            *(_layer(width, settings.heads, settings.dropout) for _ in range(2)),
        )
        self.scale = nn.LayerNorm(width)
        self.weigh = _layer(f, settings.heads, settings.dropout)
        last = nn.Linear(2 * width, settings.out)
        self.head = nn.Sequential(
            nn.Linear((z + pairs) * f, 2 * width), nn.PReLU(), nn.Dropout(settings.dropout), last
        )
        self.skip = nn.ModuleList(
            _projection(*size, settings.out) for size in (sizes if settings.skip else ())
        )
        if settings.skip:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, sources: Sequence[Tensor], missing: Tensor) -> Tensor:
        """Embed n items from s sources: [(n, size), ...], (n, s) bool -> (n, out).

        ``missing[i, j]`` hides source j of item i: a learned token stands in for it, so nothing
        of the hidden values can be seen.
        """
        noisy = [F.dropout(x, self.settings.input_dropout, self.training) for x in sources]
        given = [x * ~missing[:, j, None] for j, x in enumerate(noisy)]
        tokens = [
            torch.where(missing[:, j, None], self.absent[j], project(x)) + self.source[j]
            for j, (project, x) in enumerate(zip(self.project, given, strict=True))
        ]
        e = self.scale(self.fuse(torch.stack(tokens, dim=1)).sum(dim=1))  # (n, s, d) -> (n, d)
        fields = self.weigh(e.unflatten(1, (self.settings.fields, -1)))  # (n, z, f)
        i, j = torch.triu_indices(self.settings.fields, self.settings.fields, offset=1)
        crossed = fields[:, i] * fields[:, j]  # (n, z(z-1)/2, f)
        general: Tensor = self.head(torch.cat([fields, crossed], dim=1).flatten(1)).float()
        for skip, x in zip(self.skip, given, strict=False):
            general = general + skip(x).float()
        return F.normalize(general, dim=1)


def _projection(size: int, weight: float, width: int) -> nn.Linear:
    """Map a source so that cosines are kept and lengths weighed when training begins."""
    made = nn.Linear(size, width, bias=False)
    nn.init.normal_(made.weight, std=weight * width**-0.5)
    return made


def _layer(width: int, heads: int, dropout: float) -> nn.TransformerEncoderLayer:
    """One pre-norm transformer layer that begins as the identity."""
    made = nn.TransformerEncoderLayer(
        width, heads, 2 * width, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    for last in (made.self_attn.out_proj, made.linear2):
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return made
