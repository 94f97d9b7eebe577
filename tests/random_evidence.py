"""Random evidence for tests of the order of answers: every size differs from every other."""

import numpy as np
import torch
from scipy import sparse

from undersong.embeddings import unit
from undersong.features import Modality
from undersong.ranking.context import RankingContext
from undersong.ranking.network import RankingModel, RankingSettings
from undersong.ranking.ranker import Ranker

N = 137
BARE, UNKNOWN = 7, 69  # no E_G; of the first relations are known, of the other nothing
LOOSE = np.arange(N) % 11 == 3  # nobody has linked these


def random_relations(*, n=N, share=0.06, hub=0, seed=1):
    """Symmetric relations, (n, n) bool; item 0 gets at least ``hub`` of them, item 50 just two."""
    generator = np.random.default_rng(seed)
    related = np.triu(generator.random((n, n)) < share, 1)
    related[0, 1 : hub + 1] = True
    related |= related.T
    related[50] = related[:, 50] = False
    related[50, [40, 66]] = related[[40, 66], 50] = True
    loose = np.arange(n) % 11 == 3
    related[loose] = related[:, loose] = False
    return sparse.csr_matrix(related)


def random_evidence(*, n=N, hub=0, share=0.06, seed=1):
    """137 items in 5 dimensions with a dense source of 4 columns and a sparse one of 9."""
    generator = np.random.default_rng(seed)
    vectors = unit(generator.normal(size=(n, 5)).astype(np.float32))
    vectors[[BARE, UNKNOWN]] = 0
    silent, mute = generator.random(n) < 0.2, generator.random(n) < 0.3
    sound = unit(generator.normal(size=(n, 4)).astype(np.float32))
    sound[silent] = 0
    tags = unit((generator.random((n, 9)) < 0.4).astype(np.float32))
    tags[mute] = 0
    sources = (
        Modality("sound", sound, silent),
        Modality("tags", sparse.csr_matrix(tags), mute, 0.5),
    )
    return RankingContext(vectors, sources, random_relations(n=n, share=share, hub=hub, seed=seed))


def random_network(evidence, *, hidden=6, seed=2):
    """A network whose every part has a say."""
    torch.manual_seed(seed)
    model = RankingModel(len(evidence.names), RankingSettings(hidden=hidden)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    torch.nn.init.normal_(model.mean)
    torch.nn.init.uniform_(model.deviation, 0.5, 2)
    return model


def ranker_of(model, evidence, *, candidates=23):
    arrays = {name: x.detach().numpy() for name, x in model.state_dict().items()}
    return Ranker(evidence.names, arrays, (0.8, -0.3), candidates)
