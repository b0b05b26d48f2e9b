"""How fast, and how exactly, is `wasserstein2_distance`? One run against the other ways to compute it.

    OMP_NUM_THREADS=1 python benchmarks/gaussians.py        # needs POT: pip install pot

All get the same float64 inputs and the same number of threads. The time is processor time (with one thread, that of the clock on an idle machine), the best of a few repetitions; the agreement is the
largest relative deviation from `wasserstein2_distance` in NumPy, whose own error the last table shows against 50 digits.
"""

import time
import warnings

import mpmath as mp
import numpy as np
import scipy
import torch
from scipy import linalg

from kexue_utils.gaussians import wasserstein2_distance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import ot

SIZES = [(1, 512), (1000, 16), (10_000, 4)]
EINSUM_LIMIT = 1e9  # POT's batched product takes batch * n^4 steps: at n = 512 that is minutes


def random_pair(batch, n, seed):
    """Means, and covariances of 2n samples each: condition numbers of some 30."""
    rng = np.random.default_rng(seed)

    def gaussian():
        samples = rng.normal(size=(batch, 2 * n, n))
        return 0.1 * rng.normal(size=(batch, n)), samples.swapaxes(1, 2) @ samples / (2 * n)

    return *gaussian(), *gaussian()


def pot_loop(mu_p, sigma_p, mu_q, sigma_q):
    pairs = zip(mu_p, mu_q, sigma_p, sigma_q, strict=True)
    return np.array([ot.gaussian.bures_wasserstein_distance(*pair) for pair in pairs])


def pot_batched(mu_p, sigma_p, mu_q, sigma_q):
    return ot.gaussian.bures_wasserstein_distance(mu_p, mu_q, sigma_p, sigma_q, paired=True)


def scipy_root(mu_p, sigma_p, mu_q, sigma_q):
    """As in most code for FID: the root of the product, one pair at a time."""
    means = ((mu_p - mu_q) ** 2).sum(-1)
    traces = [np.trace(p + q - 2 * linalg.sqrtm(p @ q).real) for p, q in zip(sigma_p, sigma_q, strict=True)]
    return np.sqrt(means + np.array(traces))


def eigenvalues(mu_p, sigma_p, mu_q, sigma_q):
    """Batched: the root of sigma_p from its eigenvectors, then the eigenvalues of the symmetric product."""
    values, U = np.linalg.eigh(sigma_p)
    root = (U * np.sqrt(values)[:, None, :]) @ U.swapaxes(1, 2)
    squares = np.linalg.eigvalsh(root @ sigma_q @ root)
    traces = np.trace(sigma_p + sigma_q, axis1=1, axis2=2) - 2 * np.sqrt(squares).sum(-1)
    return np.sqrt(((mu_p - mu_q) ** 2).sum(-1) + traces)


def ours_torch(*case):
    return wasserstein2_distance(*map(torch.from_numpy, case)).numpy()


def seconds(function, case):
    """Best of at least two repetitions, and of as many as fit into a second."""
    best, spent = np.inf, 0.0
    for repetition in range(20):
        if repetition >= 2 and spent > 1:
            break
        start = time.process_time()
        result = function(*case)
        best = min(best, time.process_time() - start)
        spent += time.process_time() - start
    return best, result


def exact_squared(sigma_p, sigma_q):
    with mp.workdps(50):
        P, Q = mp.matrix(sigma_p.tolist()), mp.matrix(sigma_q.tolist())
        values, U = mp.eigsy(P)
        root = U * mp.diag([mp.sqrt(v) for v in values]) * U.T
        roots = [mp.sqrt(abs(v)) for v in mp.eigsy(root * Q * root, eigvals_only=True)]
        return float(sum(P[i, i] + Q[i, i] for i in range(P.rows)) - 2 * sum(roots))


def speed():
    print(f"{'batch':>6} {'n':>4}  {'method':<28} {'ms':>10} {'ratio':>7}  largest relative deviation")
    for batch, n in SIZES:
        case = random_pair(batch, n, seed=8512)
        best, ours = seconds(wasserstein2_distance, case)
        print(f"{batch:>6} {n:>4}  {'wasserstein2_distance, NumPy':<28} {1e3 * best:>10.2f} {1:>7.1f}")
        methods = {"wasserstein2_distance, torch": ours_torch, "eigenvalues, batched": eigenvalues}
        if batch * n**4 < EINSUM_LIMIT:
            methods["POT, batched"] = pot_batched
        methods |= {"POT, in a loop": pot_loop, "SciPy sqrtm, in a loop": scipy_root}
        for name, function in methods.items():
            took, result = seconds(function, case)
            print(
                f"{batch:>6} {n:>4}  {name:<28} {1e3 * took:>10.2f} {took / best:>7.1f}  {np.max(abs(result / ours - 1)):.1e}"
            )


def accuracy():
    """Pairs that are nearly equal, or nearly singular, where the traces cancel."""
    print(
        f"\n{'pair (n = 4)':<28} {'ours':>8} {'eigenv.':>8} {'POT':>8} {'SciPy':>8}  relative error of the squared distance"
    )
    zero = np.zeros((1, 4))
    _, sigma_p, _, sigma_q = random_pair(1, 4, seed=1)
    nearly_equal = {f"equal up to {step:g}": (sigma_p, sigma_p + step * sigma_q) for step in (1e-2, 1e-4, 1e-6)}
    Q = np.linalg.qr(sigma_q[0])[0]
    thin = {}
    for width in (1e-4, 1e-8, 1e-12):
        sigma = Q @ np.diag([1, 1, width, width]) @ Q.T
        thin[f"eigenvalues 1, 1, {width:g}, {width:g}"] = (sigma_p, ((sigma + sigma.T) / 2)[None])
    for name, (p, q) in {"ordinary": (sigma_p, sigma_q), **nearly_equal, **thin}.items():
        expected = exact_squared(p[0], q[0])
        with np.errstate(invalid="ignore"):
            got = [f(zero, p, zero, q)[0] ** 2 for f in (wasserstein2_distance, eigenvalues, pot_batched, scipy_root)]
        print(f"{name:<28} " + " ".join(f"{abs(value / expected - 1):>8.0e}" for value in got))


if __name__ == "__main__":
    print(
        f"NumPy {np.__version__}, torch {torch.__version__} ({torch.get_num_threads()} thread), POT {ot.__version__}, SciPy {scipy.__version__}\n"
    )
    speed()
    accuracy()
