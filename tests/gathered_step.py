"""One step of training, for `torchrun`: writes the loss and the gradients to OUT.FORM.PROCESS.

OUT.threads.PROCESS has two lines: the threads that talk to the others, and those of them that still
run after the end.

torchrun --nproc-per-node 2 tests/gathered_step.py OUT FORM ...
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from undersong import training
from undersong.losses import MultiRelationship, cosine, multi_relationship

N, WIDTH, HIDDEN, OUT = 13, 5, 7, 4  # 13 rows: two processes have shares of unlike size


def step(form):
    """Loss and gradients of one batch, and how many rows this process embedded."""
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(WIDTH, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, OUT))
    inputs, drawn = torch.randn(N, WIDTH), torch.rand(N, N)
    drawn = (drawn + drawn.T) / 2
    pairs = {
        "related": drawn < 0.3,
        "unrelated": drawn > 0.4,
        "consistent": drawn < 0.2,
        "inconsistent": drawn > 0.6,
    }
    own = training.shard(N)
    embedded = training.all_gather(nn.functional.normalize(model(inputs[own])), N)
    settings = MultiRelationship(form=form, prior_weight=0.5)
    loss = multi_relationship(cosine(embedded), **pairs, settings=settings)
    loss.backward()
    training.average_gradients(model)
    found = {name: x.grad for name, x in model.named_parameters()}
    return found | {"loss": loss.detach(), "rows": torch.tensor(own.stop - own.start)}


def talking():
    """Names of the threads of this process that talk to the others."""
    running = [x.read_text().strip() for x in Path("/proc/self/task").glob("*/comm")]
    return " ".join(x for x in running if "gloo" in x)


if __name__ == "__main__":
    with training.process_group():
        here = training.rank()
        torch.optim.AdamW([torch.zeros(1)])  # as training makes one, which loads more of torch
        for form in sys.argv[2:]:
            save_file(step(form), f"{sys.argv[1]}.{form}.{here}")
        before = talking()
    Path(f"{sys.argv[1]}.threads.{here}").write_text(f"{before}\n{talking()}")
