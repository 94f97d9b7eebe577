"""GRM as one would write it in plain PyTorch: shuffled batches, a transformer, a ready-made loss.

It has neither the prior of section 2.4 nor feature crossing, so a step of it is less work.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_metric_learning.losses import MultiSimilarityLoss
from scipy import sparse
from torch import Tensor, nn

from undersong.models.general.network import GeneralSettings


class Plain(nn.Module):
    """A token a source, two transformer layers, their mean, and a head."""

    def __init__(self, widths: list[int], settings: GeneralSettings):
        super().__init__()
        width = settings.width
        self.read = nn.ModuleList(nn.Linear(x, width) for x in widths)
        layer = nn.TransformerEncoderLayer(width, settings.heads, 2 * width, batch_first=True)
        self.fuse = nn.TransformerEncoder(layer, num_layers=2)
        self.head = nn.Sequential(
            nn.Linear(width, 2 * width), nn.PReLU(), nn.Linear(2 * width, settings.out)
        )

    def forward(self, sources: list[Tensor]) -> Tensor:
        """Embed n items, [(n, size), ...] -> (n, out)."""
        tokens = [read(x) for read, x in zip(self.read, sources, strict=True)]
        fused = self.fuse(torch.stack(tokens, dim=1)).mean(dim=1)
        return nn.functional.normalize(self.head(fused), dim=1)


def train(
    sources: list[NDArray[np.float32]],
    related: sparse.csr_matrix,
    *,
    settings: GeneralSettings,
    steps: int,
    batch: int,
) -> list[int]:
    """Train so many steps on batches of so many items; how many related pairs each one held."""
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(
        torch.arange(related.shape[0]), *map(torch.from_numpy, sources)
    )
    loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True, drop_last=True)
    model = Plain([x.shape[1] for x in sources], settings)
    known = settings.loss.known
    loss = MultiSimilarityLoss(alpha=known.alpha, beta=known.beta, base=known.gamma)
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings.training.learning_rate)
    held: list[int] = []
    while len(held) < steps:
        for rows, *values in loader:
            near = torch.from_numpy(related[rows.numpy()][:, rows.numpy()].toarray()).bool()
            apart = ~near
            apart.fill_diagonal_(False)
            pairs = (*near.nonzero(as_tuple=True), *apart.nonzero(as_tuple=True))
            optimizer.zero_grad()
            loss(model(values), rows, pairs).backward()
            optimizer.step()
            held.append(int(near.sum()) // 2)
            if len(held) == steps:
                break
    return held
