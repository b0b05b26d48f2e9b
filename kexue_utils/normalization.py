r"""Layers that give the features of a batch mean 0 and variance 1.

Notation: a batch is a matrix with one sample a row; mean μ and variance σ² of each column are those of the batch, the variance divided by
the number of samples. ε is added to the variance.
"""

from __future__ import annotations

from .arguments import boolean, is_tensor, number
from .extras import needed_by

with needed_by(__name__):
    import torch
    from torch import Tensor

__all__ = ["BatchStandardize"]


class BatchStandardize(torch.nn.Module):
    r"""Batch normalisation without scale, shift and running averages, :math:`\hat x = (x-\mu)/\sqrt{\sigma^2+\varepsilon}`.

    Every call uses the statistics of its own batch, in training and in evaluation mode alike. Its two halves can be had separately.

    Parameters
    ----------
    eps : float >= 0
        Added to the variance.
    center : bool
        Whether to subtract the mean.
    scale : bool
        Whether to divide by the standard deviation (around the mean, subtracted or not).

    Raises
    ------
    ValueError
        If eps is negative or not finite; in a call, if x has fewer than two dimensions or fewer than two samples, and at eps = 0 if a
        feature is constant.
    TypeError
        If eps is not a number, or center or scale not True or False; in a call, if x is no floating-point tensor.

    Notes
    -----
    x has shape (..., N, d), batches lead: each (N, d) is a batch of its own. The output has its shape, dtype and device. For shape (N, d) it is
    `torch.nn.BatchNorm1d` with ``affine=False, track_running_stats=False``.

    Source: S. Ioffe and C. Szegedy, arXiv:1502.03167, algorithm 1 without its last line; kexue.fm/archives/6992.

    Examples
    --------
    >>> x = torch.tensor([[1.0], [3.0]])
    >>> BatchStandardize(eps=0)(x).flatten().tolist()
    [-1.0, 1.0]
    """

    def __init__(self, eps: float = 1e-5, *, center: bool = True, scale: bool = True) -> None:
        super().__init__()
        self.eps = number("eps", eps, least=0)
        self.center, self.scale = boolean("center", center), boolean("scale", scale)

    def forward(self, x: Tensor) -> Tensor:
        """The batch x, shape (..., N, d), standardised over its N samples."""
        if not is_tensor(x) or not x.is_floating_point():
            raise TypeError(f"x must be a floating-point tensor, got {x.dtype if is_tensor(x) else type(x).__name__}")
        if x.ndim < 2 or x.shape[-2] < 2:
            raise ValueError(f"x must have shape (..., N, d) with N >= 2 samples, got {tuple(x.shape)}")
        # Not by the variance, which rounding makes positive.
        if self.scale and self.eps == 0 and bool((x.amax(-2) == x.amin(-2)).any()):
            raise ValueError("x must have no constant feature at eps = 0, got one of variance 0")
        variance, mean = torch.var_mean(x, dim=-2, correction=0, keepdim=True)
        if self.center:
            x = x - mean
        return x * torch.rsqrt(variance + self.eps) if self.scale else x

    def extra_repr(self) -> str:
        return f"eps={self.eps}, center={self.center}, scale={self.scale}"
