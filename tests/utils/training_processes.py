"""What each process of `test_training.py` does under torchrun: train on its share, and save what it saw to FOLDER/<rank>.pt."""

import os
import sys
from pathlib import Path

import torch

from kexue_utils import training


def network():
    """The same weights and batch in every process."""
    training.seed_all(int(os.environ["RANK"]))  # weights that differ, until process 0 sends its own
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    return model, training.data_parallel(model), torch.randn(8, 3, generator=training.generator(5, "cpu"))


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def main(folder):
    rank = int(os.environ["RANK"])
    model, parallel, batch = network()
    mine = training.share(batch)
    seen = {
        "start": {name: value.clone() for name, value in model.state_dict().items()},
        "batch": batch,
        "mean": gradients(model, parallel(mine).square().mean()),
        "sum": gradients(model, parallel(mine).square().sum()),
        "unequal": gradients(model, parallel(batch[:2] if rank == 0 else batch[2:]).square().mean()),
    }

    generator = training.generator(6, "cpu")
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def step(k):
        seen.setdefault("steps", []).append(k)
        if k == 3 and "interrupted" not in seen:
            raise KeyboardInterrupt
        batch = torch.randn(8, 3, generator=generator)
        return parallel(training.share(batch)).square().mean()

    def run():
        return training.fit(step, 5, optimizer=optimizer, name="two processes", keep=[generator])

    training.CHECKPOINT_SECONDS = 0
    try:
        run()
    except KeyboardInterrupt:
        seen["interrupted"] = True
    model.load_state_dict(seen["start"])
    generator.manual_seed(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    seen["losses"] = torch.tensor(run())
    seen["end"] = model.state_dict()
    torch.save(seen, folder / f"{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
