"""Facts about the training helpers: seeds repeat, scale is read once and clearly, and `fit` stops where it should."""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from kexue_utils import training
from kexue_utils.training import at_scale, device, fit, full_scale, generator, seed_all


def relative(expected, tolerance):
    """Within a relative tolerance only: pytest.approx alone also lets 1e-12 pass for 1e-64."""
    return pytest.approx(expected, rel=tolerance, abs=0)


@pytest.fixture
def bars(monkeypatch):
    """What `fit` asks of tqdm: the keyword arguments of each bar."""
    import tqdm.auto

    asked = []

    class Recorded(tqdm.std.tqdm):
        def __init__(self, *args, **kwargs):
            asked.append(kwargs)
            super().__init__(*args, **kwargs)

    monkeypatch.setattr(tqdm.auto, "tqdm", Recorded)
    return asked


# Device and seeds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_device_prefers_cuda_then_mps_then_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device() == torch.device(expected)
    assert device(float64=True) == torch.device({"mps": "cpu"}.get(expected, expected))


@pytest.mark.gpu(mps=True)
def test_on_an_accelerator_generator_and_training_are_there():
    g = generator(0)
    assert g.device.type == device().type != "cpu"
    x = torch.randn(100, generator=g, device=device()).requires_grad_()
    losses = fit(lambda k: (x**2).sum(), 30, optimizer=torch.optim.SGD([x], lr=0.1))
    assert losses.dtype == np.float64
    assert losses[-1] == relative(losses[0] * 0.8 ** (2 * 29), 1e-4)


def test_seed_all_repeats_every_library():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()  # noqa: NPY002

    seed_all(3)
    first = draw()
    seed_all(3)
    assert draw() == first
    seed_all(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))


def test_generator_is_independent_of_the_global_state():
    first = torch.randn(4, generator=generator(1, on="cpu"))
    torch.rand(10)
    assert torch.equal(first, torch.randn(4, generator=generator(np.int64(1), on=torch.device("cpu"))))
    assert not torch.equal(first, torch.randn(4, generator=generator(2, on="cpu")))


@pytest.mark.parametrize("function", [seed_all, generator])
@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        (-1, ValueError, "0 <= seed < 2\\*\\*32, got -1"),
        (2**32, ValueError, "got 4294967296"),
        (1.0, TypeError, "seed must be an integer, got 1.0"),
        (True, TypeError, "got True"),
        (None, TypeError, "got None"),
    ],
)
def test_bad_seed_is_named(function, seed, error, message):
    with pytest.raises(error, match=message):
        function(seed)


def test_module_imports_without_torch_and_missing_torch_is_one_clear_line():
    code = """
import sys
sys.modules["torch"] = None
from kexue_utils import training
assert training.fit(lambda k: 1 / (k + 1), 3).tolist() == [1, 1 / 2, 1 / 3]
for call in (training.device, lambda: training.seed_all(0), lambda: training.generator(0)):
    try:
        call()
    except ImportError as error:
        assert str(error) == "this needs PyTorch, which is not installed: pip install torch", error
    else:
        raise SystemExit("no error")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_package_and_module_import_nothing_heavy():
    code = (
        "import sys, kexue_utils; light = not {'numpy', 'sympy', 'torch', 'scipy'} & set(sys.modules);"
        "import kexue_utils.training; sys.exit(not (light and 'torch' not in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Scale -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "full"), [(None, False), ("", False), ("quick", False), ("full", True)])
def test_scale_comes_from_the_environment(monkeypatch, value, full):
    monkeypatch.delenv("KEXUE_SCALE", raising=False)
    if value is not None:
        monkeypatch.setenv("KEXUE_SCALE", value)
    assert full_scale() is full
    assert at_scale(10, 1000) == (1000 if full else 10)
    assert at_scale(quick="a", full="b") == ("b" if full else "a")


@pytest.mark.parametrize("value", ["Full", "1", "large", " full"])
def test_unknown_scale_is_an_error_not_the_small_one(monkeypatch, value):
    monkeypatch.setenv("KEXUE_SCALE", value)
    with pytest.raises(ValueError, match=f'KEXUE_SCALE must be "quick" or "full", got {value!r}'):
        at_scale(1, 2)


# The loop ----------------------------------------------------------------------------------------------------------


def test_gradient_descent_on_a_parabola_contracts_by_its_exact_factor():
    x = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    losses = fit(lambda k: (x**2).sum() / 2, 40, optimizer=torch.optim.SGD([x], lr=0.1))
    assert losses == relative(2.5 * 0.9 ** (2 * np.arange(40)), 1e-12)
    assert x.detach().numpy() == relative(np.array([1, -2]) * 0.9**40, 1e-12)


def test_gradients_do_not_accumulate_over_steps():
    x = torch.zeros(1, requires_grad=True)
    fit(lambda k: x.sum(), 5, optimizer=torch.optim.SGD([x], lr=1.0))
    assert x.item() == -5


def test_scheduler_steps_with_the_optimizer():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=1.0)
    halving = torch.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    fit(lambda k: x.sum(), 4, optimizer=optimizer, scheduler=halving)
    assert x.item() == -(1 + 1 / 2 + 1 / 4 + 1 / 8)


def test_step_sees_its_number():
    seen = []
    assert fit(lambda k: seen.append(k) or float(k), 4).tolist() == [0, 1, 2, 3]
    assert seen == [0, 1, 2, 3]


def test_two_players_update_themselves_and_give_two_curves():
    """The game x*y by alternating steps: the players circle, so that neither loss settles."""
    x, y = (torch.tensor(1.0, requires_grad=True) for _ in range(2))
    down, up = torch.optim.SGD([x], lr=0.1), torch.optim.SGD([y], lr=0.1, maximize=True)

    def step(k):
        for player in (down, up):
            player.zero_grad()
            value = x * y
            value.backward()
            player.step()
        return value, -value

    minimiser, maximiser = fit(step, 200).T
    assert minimiser.shape == (200,)
    assert (minimiser == -maximiser).all()
    assert minimiser.min() < -0.3 < 0.3 < minimiser.max()


def test_a_tensor_of_losses_gives_one_column_each():
    runs = torch.arange(3.0, requires_grad=True)
    assert fit(lambda k: runs * k, 2).tolist() == [[0, 0, 0], [0, 1, 2]]


@pytest.mark.parametrize(
    "loss",
    [1, 1.5, np.float32(1.5), torch.tensor(1.5, dtype=torch.bfloat16), torch.tensor(2), (1, torch.tensor(2.0))],
)
def test_losses_of_any_number_type_become_float64(loss):
    losses = fit(lambda k: loss, 2)
    assert losses.dtype == np.float64
    assert losses[0].tolist() == ([1, 2] if isinstance(loss, tuple) else float(loss))


def test_recorded_losses_do_not_change_when_the_step_reuses_its_memory():
    loss, array = torch.zeros((), dtype=torch.float64), np.zeros(())

    def step(k):
        loss.fill_(k)
        array.fill(-k)
        return loss, array

    assert fit(step, 3).tolist() == [[0, 0], [1, -1], [2, -2]]
    assert fit(lambda k: loss.fill_(k), 3).tolist() == [0, 1, 2]
    assert fit(lambda k: (array.fill(k), array)[1], 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinite_losses_name_their_step(bad):
    with pytest.raises(FloatingPointError, match=rf"critic: the loss is {bad} at step 3 of 10, after 0.25 one step"):
        fit(lambda k: bad if k == 3 else 0.25, 10, name="critic")


def test_nan_in_the_first_step_and_in_one_of_several_losses():
    with pytest.raises(FloatingPointError, match=r"fit: the loss is nan at step 0 of 5\. Try"):
        fit(lambda k: torch.tensor(float("nan")), 5)
    with pytest.raises(FloatingPointError, match="at step 2"):
        fit(lambda k: (1.0, np.log(0.5) if k < 2 else np.inf), 5)


def test_parameters_survive_a_loss_that_is_not_finite():
    x = torch.ones(1, requires_grad=True)
    with pytest.raises(FloatingPointError, match="at step 1"):
        fit(lambda k: torch.log(x - 0.5 - k).sum(), 5, optimizer=torch.optim.SGD([x], lr=0.01))
    assert x.item() == pytest.approx(1 - 0.01 / 0.5)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: fit(lambda k: 0, 0), ValueError, "steps must be at least 1, got 0"),
        (lambda: fit(lambda k: 0, 10.0), TypeError, "steps must be an integer, got 10.0"),
        (lambda: fit(lambda k: 0, True), TypeError, "steps must be an integer, got True"),
        (lambda: fit(lambda k: None, 3), TypeError, "loss as a number, .* got None"),
        (lambda: fit(lambda k: "0.5", 3), TypeError, "got '0.5'"),
        (lambda: fit(lambda k: (), 3), ValueError, "one shape"),
        (lambda: fit(lambda k: np.zeros(0), 3), TypeError, "loss as a number"),
        (lambda: fit(lambda k: np.zeros(k + 1), 3), ValueError, r"one shape, got \(2,\) after \(1,\)"),
        (lambda: fit(lambda k: (0.0, np.zeros(2)), 3), ValueError, r"one shape, got \[\(\), \(2,\)\]"),
        (lambda: fit(lambda k: 0, 3, scheduler=object()), ValueError, "scheduler needs the optimizer"),
    ],
)
def test_bad_arguments_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("loss", [1.0, torch.ones(2), (torch.ones(()), torch.ones(()))], ids=["float", "two", "tuple"])
def test_optimizer_needs_a_single_torch_loss(loss):
    x = torch.ones(1, requires_grad=True)
    with pytest.raises(TypeError, match="one torch loss for the optimizer to minimise, got"):
        fit(lambda k: loss, 3, optimizer=torch.optim.SGD([x], lr=0.1))


# Progress ----------------------------------------------------------------------------------------------------------


def test_book_build_prints_nothing(monkeypatch, capfd):
    monkeypatch.setenv("KEXUE_BOOK", "1")
    fit(lambda k: 1.0, 50)
    assert capfd.readouterr() == ("", "")


def test_progress_is_off_in_the_book_and_left_to_the_output_elsewhere(monkeypatch, bars):
    monkeypatch.setenv("KEXUE_BOOK", "1")
    fit(lambda k: 1.0, 3)
    monkeypatch.delenv("KEXUE_BOOK")
    fit(lambda k: 1.0, 3, name="packing")
    assert [bar["disable"] for bar in bars] == [True, None]
    assert bars[1]["total"] == 3
    assert bars[1]["desc"] == "packing"


def test_terminal_shows_name_and_loss(monkeypatch, capsys):
    import tqdm.auto

    class Shown(tqdm.std.tqdm):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**kwargs, "disable": False, "mininterval": 0})

    monkeypatch.delenv("KEXUE_BOOK", raising=False)
    monkeypatch.setattr(tqdm.auto, "tqdm", Shown)
    fit(lambda k: 0.125, 3, name="packing")
    shown = capsys.readouterr().err
    assert "packing" in shown
    assert "loss 0.125" in shown
    assert "3/3" in shown


def test_public_names_are_those_that_are_documented():
    assert all(getattr(training, name).__doc__ for name in training.__all__)
