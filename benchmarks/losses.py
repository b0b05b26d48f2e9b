"""What the losses and optimizers of this book cost beside the nearest ones of torch.

    OMP_NUM_THREADS=1 python benchmarks/losses.py

Same inputs in float32; one call is a loss with its gradient, or one step of an optimizer. The times are those of `torch.utils.benchmark`
(median, in milliseconds); the ratio says how many times as long ours takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from kexue_utils import f1, losses, optimizers

SAMPLES, CLASSES, GROUP, DIMENSION, WORDS = 512, 1000, 16, 128, 20_000
PARAMETERS = [(1000, 256), (256,), (256, 256), (256,), (256, 10), (10,)]


def loss_pairs() -> dict[tuple[str, str], tuple[Callable[[], Any], Callable[[], Any]]]:
    """Ours and torch's, as functions without arguments that end in a gradient."""
    draw = torch.Generator().manual_seed(7359)
    scores = torch.randn(SAMPLES, CLASSES, generator=draw, requires_grad=True)
    cosines = torch.rand(SAMPLES, CLASSES, generator=draw).mul(2).sub(1).mul(0.9).requires_grad_()
    target = torch.randint(CLASSES, (SAMPLES,), generator=draw)
    labels = (torch.rand(SAMPLES, CLASSES, generator=draw) < 0.01).float()
    groups = torch.randn(SAMPLES // GROUP, GROUP, CLASSES, generator=draw, requires_grad=True)
    members = torch.randint(CLASSES, (SAMPLES // GROUP, GROUP), generator=draw)
    one_hot = F.one_hot(members, CLASSES).float()
    three = [torch.randn(SAMPLES, DIMENSION, generator=draw, requires_grad=True) for _ in range(3)]

    def gradient(loss: Callable[..., torch.Tensor], x: Any, *arguments: Any) -> Callable[[], Any]:
        inputs = x if isinstance(x, list) else [x]
        return lambda: torch.autograd.grad(loss(*inputs, *arguments), inputs)

    entropy = gradient(F.cross_entropy, scores, target)
    return {
        ("multilabel_softmax", "binary_cross_entropy_with_logits"): (
            gradient(losses.multilabel_softmax, scores, labels),
            gradient(F.binary_cross_entropy_with_logits, scores, labels),
        ),
        ("pairwise_ranking", "multilabel_soft_margin_loss"): (
            gradient(losses.pairwise_ranking, scores, labels),
            gradient(F.multilabel_soft_margin_loss, scores, labels),
        ),
        ("grouped_cross_entropy", "cross_entropy"): (
            gradient(losses.grouped_cross_entropy, groups, one_hot),
            gradient(lambda s: F.cross_entropy(s.flatten(0, 1), one_hot.flatten(0, 1)), groups),
        ),
        ("smooth_accuracy", "cross_entropy"): (gradient(losses.smooth_accuracy, scores, target), entropy),
        ("generalized_cross_entropy", "cross_entropy"): (
            gradient(losses.generalized_cross_entropy, scores, target, 0.7),
            entropy,
        ),
        ("soft_macro_f1", "cross_entropy"): (gradient(f1.soft_macro_f1, scores, target), entropy),
        ("margin_softmax", "cross_entropy"): (
            gradient(losses.margin_softmax, cosines, target),
            gradient(lambda c: F.cross_entropy(30 * c, target), cosines),
        ),
        ("triplet", "triplet_margin_loss"): (
            gradient(lambda a, p, n: losses.triplet(a, p, n, 0.2), three),
            gradient(lambda a, p, n: F.triplet_margin_loss(a, p, n, 0.2), three),
        ),
    }


def optimizer_pairs() -> dict[tuple[str, str], tuple[Callable[[], Any], Callable[[], Any]]]:
    """Ours and torch's: one step each with the same gradients."""

    def step(make: Callable[..., torch.optim.Optimizer], **settings: Any) -> Callable[[], Any]:
        draw = torch.Generator().manual_seed(8968)
        parameters = [torch.rand(shape, generator=draw).add(0.5).requires_grad_() for shape in PARAMETERS]
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=draw)
        return make(parameters, **settings).step

    def words(make: Callable[..., torch.optim.Optimizer], sparse: bool, **settings: Any) -> Callable[[], Any]:
        draw = torch.Generator().manual_seed(6869)
        table = torch.randn(WORDS, DIMENSION, generator=draw, requires_grad=True)
        batch = torch.randint(WORDS, (32, 60), generator=draw)
        F.embedding_bag(batch, table, sparse=sparse).sum().backward()
        return make([table], **settings).step

    def ahead(parameters: list[torch.Tensor], **settings: Any) -> torch.optim.Optimizer:
        return optimizers.Lookahead(torch.optim.SGD(parameters, **settings))

    descend = step(torch.optim.SGD, lr=1e-6)
    lazy, adam, sparse_adam = optimizers.LazyAdam, torch.optim.Adam, torch.optim.SparseAdam
    return {
        ("ExponentiatedGradient", "SGD"): (step(optimizers.ExponentiatedGradient, lr=1e-6), descend),
        ("HypergradientGains", "SGD"): (step(optimizers.HypergradientGains, lr=1e-6, gamma=1e-9), descend),
        ("Lookahead around SGD", "SGD"): (step(ahead, lr=1e-6), descend),
        ("LazyAdam dense", "Adam"): (words(lazy, False, variant="dense"), words(adam, False)),
        ("LazyAdam standard", "SparseAdam"): (words(lazy, True), words(sparse_adam, True)),
        ("LazyAdam masked", "SparseAdam"): (words(lazy, True, variant="masked"), words(sparse_adam, True)),
        ("LazyAdam, dense gradient", "Adam"): (words(lazy, False, variant="masked"), words(adam, False)),
    }


def milliseconds(call: Callable[[], Any]) -> float:
    """Median time of a call."""
    return 1e3 * Timer("call()", globals={"call": call}).blocked_autorange(min_run_time=0.5).median


def main() -> None:
    """Print the table."""
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread")
    print(f"{'ours':<26} {'ms':>8}   {'torch':<34} {'ms':>8} {'ratio':>7}")
    for (name, other), calls in (loss_pairs() | optimizer_pairs()).items():
        ours, theirs = map(milliseconds, calls)
        print(f"{name:<26} {ours:>8.3f}   {other:<34} {theirs:>8.3f} {ours / theirs:>7.2f}")


if __name__ == "__main__":
    main()
