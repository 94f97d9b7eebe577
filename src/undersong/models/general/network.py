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
from undersong.products import Linear, linear
from undersong.relations import EQUAL, LEARNED, read_reliability
from undersong.settings import LATER
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
    indirect : so many items at one remove count as related to each item while training; 0 for the
        paper's R_A alone
    tail_is_negative : False leaves every pair with an unlinked item out of the loss on known
        relations: the item is unlabelled, not dissimilar
    reliability : how far the sources of R_A are trusted, which weighs their pairs: "equal",
        "learned" (``relations.reliability``), or by name, such as "editors 1, readers 0.4"
    graded : weigh a pair of the prior by its share of equal fields among the known ones; False
        for the paper's all or nothing
    weigh_fields : the third transformer layer, over the fields
    crossing : the second-order feature crossing
    product : of two crossed fields, "hadamard", number by number, or "inner", one number a pair
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
    anchors: int = 850
    partners: int = 1
    tail: int = 300
    indirect: int = 10
    tail_is_negative: bool = False
    graded: bool = False
    reliability: str = field(default=EQUAL, metadata=LATER)
    weigh_fields: bool = True
    crossing: bool = True
    product: str = field(default="hadamard", metadata=LATER)
    loss: MultiRelationship = field(
        default=MultiRelationship(
            known=MultiSimilarity(alpha=2.0, beta=12.0, gamma=0.8, margin=0.5), prior_weight=0.05
        )
    )
    training: Schedule = field(
        default=Schedule(steps=120, weight_decay=0.05, validate_every=15, patience=4, average=0.99)
    )

    def __post_init__(self) -> None:
        if self.width % (self.fields * self.heads):
            raise ValueError(
                f"width {self.width} must divide into {self.fields} fields of {self.heads} heads"
            )
        if min(self.anchors, self.partners) < 1 or min(self.tail, self.indirect) < 0:
            raise ValueError("anchors and partners must be 1 or more, tail and indirect 0 or more")
        self._check_words()
        if self.pace <= 0:
            raise ValueError(f"pace {self.pace} must be above 0")
        for name in ("dropout", "input_dropout", "hide_interaction", "hide_source"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be in [0, 1)")

    def _check_words(self) -> None:
        if self.reliability not in (EQUAL, LEARNED):
            read_reliability(self.reliability)
        if self.reliability != EQUAL and self.loss.form != "multi-similarity":
            raise ValueError(
                f"reliability {self.reliability!r} weighs pairs, which the loss {self.loss.form!r} "
                "does not; take the form 'multi-similarity'"
            )
        if self.product not in ("hadamard", "inner"):
            raise ValueError(f"product {self.product!r} must be 'hadamard' or 'inner'")


class GeneralModel(nn.Module):
    """Fuse one vector per source into one unit vector per item.

    It begins as a random projection of its inputs, which keeps their cosines: the layers of
    figure 3 end in zeros, so that they learn what to add to it.

    ``fill``, (s, size of E_C + 1, out) or None, guesses what a source that misses would add, from
    E_C, the first source, and a 1: so that an item is not far from all others for what nobody has
    said of it. A model that learns from relations has none.
    """

    fill: Tensor | None

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
        self.settings, self.sizes = settings, tuple(widths)
        self.register_buffer("fill", None)
        width, z = settings.width, settings.fields
        f, pairs = width // z, z * (z - 1) // 2 if settings.crossing else 0
        beside = settings.out if settings.skip else 0
        self.read = nn.ModuleList(
            _SourceReader(size, (width, beside), weight, settings.input_dropout)
            for size, weight in zip(widths, weights or [1.0] * len(widths), strict=True)
        )
        self.source = nn.Parameter(torch.randn(len(widths), width) * 0.02)
        self.absent = nn.Parameter(torch.randn(len(widths), width) * 0.02)
        self.fuse = nn.Sequential(
            _Layer(width, settings.heads, settings.dropout),
            _Layer(width, settings.heads, settings.dropout, summed=True),
        )
        self.scale = nn.LayerNorm(width)
        self.weigh: nn.Module = nn.Identity()
        if settings.weigh_fields:
            self.weigh = _Layer(f, settings.heads, settings.dropout)
        last = Linear(2 * width, settings.out)
        self.head = nn.Sequential(
            Linear(width + pairs * (f if settings.product == "hadamard" else 1), 2 * width),
            nn.PReLU(),
            nn.Dropout(settings.dropout),
            last,
        )
        if settings.skip:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, sources: Sequence[Tensor], missing: Tensor) -> Tensor:
        """Embed n items from s sources: [(n, size), ...], (n, s) bool -> (n, out).

        A source may be a sparse (COO) tensor. ``missing[i, j]`` hides source j of item i: a
        learned token stands in for it, so nothing of the hidden values can be seen.
        """
        parts = [
            read(x, hidden)
            for read, x, hidden in zip(self.read, sources, missing.unbind(1), strict=True)
        ]
        projected = torch.stack([x for x, _ in parts], dim=1)  # (n, s, d)
        absent = torch.where(missing[..., None], self.absent, 0)
        tokens = projected + absent + self.source
        e = self.scale(self.fuse(tokens))  # (n, d)
        fields = self.weigh(e.unflatten(1, (self.settings.fields, -1)))  # (n, z, f)
        second: list[Tensor] = []
        if self.settings.crossing:
            second = [fields[:, i : i + 1] * fields[:, i + 1 :] for i in range(fields.shape[1] - 1)]
        if self.settings.product == "inner":
            second = [x.sum(dim=2, keepdim=True) for x in second]
        crossed = [x.flatten(1) for x in (fields, *second)]  # together (n, d + z(z-1)/2 * f or 1)
        general: Tensor = self.head(torch.cat(crossed, dim=1)).float()
        if self.settings.skip:
            general = general + torch.stack([x for _, x in parts]).sum(dim=0)
            if self.fill is not None:
                guesses = torch.einsum("nc,sco->nso", sources[0], self.fill[:, :-1])
                guessed = (missing & ~missing[:, :1])[..., None]
                general = general + torch.where(guessed, guesses + self.fill[:, -1], 0).sum(dim=1)
        return F.normalize(general, dim=1)


class _SourceReader(nn.Module):
    """Maps one source to its token and to its share of the skip, by one matrix for both.

    Single inputs, such as one tag, are left out at random while training. The matrix begins
    random, so that cosines are kept, with lengths as ``weight`` says.
    """

    def __init__(self, size: int, widths: tuple[int, int], weight: float, dropout: float):
        super().__init__()
        parts = [torch.randn(size, width) * weight * max(width, 1) ** -0.5 for width in widths]
        self.weight = nn.Parameter(torch.cat(parts, dim=1))
        self.widths, self.dropout = list(widths), dropout

    def forward(self, x: Tensor, hidden: Tensor) -> tuple[Tensor, ...]:
        """Read n items, (n, size) dense or sparse -> (n, width) each; zeros where hidden."""
        with torch.autocast(x.device.type, enabled=False):
            if not x.is_sparse:
                shown = torch.where(hidden[:, None], 0, F.dropout(x, self.dropout, self.training))
                return torch.split(linear(shown, self.weight.T), self.widths, dim=1)
            values = F.dropout(x.values(), self.dropout, self.training)
            values = torch.where(hidden[x.indices()[0]], 0, values)
            inputs = torch.sparse_coo_tensor(
                x.indices(), values, x.shape, is_coalesced=True, check_invariants=False
            )
            product: Tensor = torch.sparse.mm(inputs, self.weight)
            return torch.split(product, self.widths, dim=1)


class _Layer(nn.TransformerEncoderLayer):
    """One pre-norm transformer layer that begins as the identity.

    It attends by plain products: with a handful of tokens an item these take a third of the time
    that torch's fused attention does, forward and backward on a processor. Where only the sum of
    its tokens is wanted, it adds them before its last product, which then is of one row an item.
    """

    def __init__(self, width: int, heads: int, dropout: float, *, summed: bool = False):
        super().__init__(
            width, heads, 2 * width, dropout, activation=F.gelu, batch_first=True, norm_first=True
        )
        self.summed = summed
        for last in (self.self_attn.out_proj, self.linear2):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, tokens: Tensor) -> Tensor:  # type: ignore[override]  # no masks here
        """Let the tokens of each item look at each other, (n, s, d) -> (n, s, d), or their sum."""
        tokens = tokens + self.dropout1(self._attended(self.norm1(tokens)))
        hidden = linear(self.norm2(tokens), self.linear1.weight, self.linear1.bias)
        hidden = self.dropout(F.gelu(hidden))
        bias: Tensor = self.linear2.bias
        if self.summed:
            tokens, hidden, bias = tokens.sum(dim=1), hidden.sum(dim=1), tokens.shape[1] * bias
        output: Tensor = tokens + self.dropout2(linear(hidden, self.linear2.weight, bias))
        return output

    def _attended(self, tokens: Tensor) -> Tensor:
        attention, (n, s, d) = self.self_attn, tokens.shape
        together = linear(tokens, attention.in_proj_weight, attention.in_proj_bias)
        heads = together.view(n, s, 3, attention.num_heads, d // attention.num_heads)
        queries, keys, values = heads.unbind(2)  # (n, s, heads, d / heads)
        alike = torch.einsum("nihd,njhd->nijh", queries, keys) * heads.shape[4] ** -0.5
        share = F.dropout(alike.softmax(dim=2), attention.dropout, self.training)
        attended = torch.einsum("nijh,njhd->nihd", share, values)
        out = attention.out_proj
        return linear(attended.reshape(n, s, d), out.weight, out.bias)
