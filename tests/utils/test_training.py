"""Facts about the training helpers: seeds repeat, scale is read once and clearly, `fit` stops where it should and goes on
where it was interrupted, and several processes do what one does."""

import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from kexue_utils import training
from kexue_utils.training import at_scale, data_parallel, device, fit, full_scale, generator, seed_all, share


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


def test_under_torchrun_each_process_has_its_own_gpu_and_mps_gives_way_to_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "4")
    for own in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", own)
        assert device() == device(float64=True) == torch.device(f"cuda:{own}")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="this machine has 2: torchrun --nproc-per-node 2"):
        device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert device() == torch.device("cpu")


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
calls = {"device": (), "seed_all": (0,), "generator": (0,), "data_parallel": (None,)}
for name, arguments in calls.items():
    try:
        getattr(training, name)(*arguments)
    except ImportError as error:
        assert str(error) == f'{name} needs torch: pip install "kexue-utils[torch]"', error
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


def step_size() -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.zeros(1)]), step_size=1)


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
        (
            lambda: fit(lambda k: 0, 3, scheduler=object()),
            TypeError,
            "scheduler must be one of torch.optim, got object",
        ),
        (lambda: fit(lambda k: 0, 3, scheduler=step_size()), ValueError, "scheduler needs the optimizer"),
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


# Checkpoints -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """A folder for checkpoints, written at every step."""
    monkeypatch.setenv("KEXUE_CHECKPOINTS", str(tmp_path))
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0)
    return tmp_path


def walk(stop=None, error=RuntimeError, steps=12, rate=0.1, seed=1, width=4, name="walk", optimizer=torch.optim.Adam):
    """A run that needs everything that a checkpoint can hold: weights, a batch norm's buffers, optimizer, schedule, own
    and global generators of torch and NumPy. It breaks off in step `stop`, after that step has drawn its numbers."""
    seed_all(seed)
    model = torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 1))
    own, rng, legacy = generator(seed, "cpu"), np.random.default_rng(seed), np.random.Generator(np.random.MT19937(seed))
    total = torch.zeros(2)
    adam = optimizer(model.parameters(), lr=rate)
    decay = torch.optim.lr_scheduler.LambdaLR(adam, lambda k: 1 / (1 + k))

    def step(k):
        draws = [rng.normal(), legacy.normal(), np.random.normal(), random.random()]  # noqa: NPY002
        x = torch.randn(6, 3, generator=own) + torch.rand(6, 3)
        total[0] += k
        total[1] += draws[0]
        if k == stop:
            raise error("the machine goes down")
        return (model(x) - sum(draws)).square().mean()

    losses = fit(step, steps, optimizer=adam, scheduler=decay, name=name, keep=[model, own, rng, legacy, total])
    drawn = own.get_state(), torch.get_rng_state(), rng.normal(), legacy.normal(), np.random.normal(), random.random()  # noqa: NPY002
    return losses, [*model.state_dict().values(), total, *(torch.as_tensor(value) for value in drawn)]


def identical(one, other):
    return (one[0] == other[0]).all() and all(torch.equal(a, b) for a, b in zip(one[1], other[1], strict=True))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("stops", [[1], [7], [11], [2, 9]], ids=str)
def test_interrupted_and_uninterrupted_runs_are_the_same_bit_for_bit(folder, error, stops):
    for stop in stops:
        with pytest.raises(error):
            walk(stop, error)
    resumed = walk()
    assert identical(resumed, walk(name="never interrupted"))
    assert not identical(resumed, walk(seed=2, name="another seed"))


@pytest.mark.gpu(mps=True)
def test_on_an_accelerator_a_run_goes_on_from_its_checkpoint(folder):
    def run(name, stop=None):
        seed_all(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1)).to(device())
        own = generator(0)

        def step(k):
            if k == stop:
                raise RuntimeError
            return model(torch.randn(6, 3, generator=own, device=device())).square().mean()

        losses = fit(
            step, 10, optimizer=torch.optim.Adam(model.parameters(), lr=0.1, fused=True), name=name, keep=[own]
        )
        return losses, torch.randn(3, generator=own, device=device()).tolist()

    with pytest.raises(RuntimeError):
        run("broken", stop=4)
    (losses, after), (expected, expected_after) = run("broken"), run("whole")
    assert losses == relative(expected, 1e-4)
    assert after == expected_after


def test_what_is_not_listed_is_not_restored(folder):
    """So the test above would see it."""
    runs = []
    for name, stops in (("whole", [None]), ("broken", [3, None])):
        for stop in stops:
            x, own = torch.zeros(1, requires_grad=True), generator(0, "cpu")

            def step(k, x=x, own=own, stop=stop):
                if k == stop:
                    raise RuntimeError
                return (x - torch.randn(1, generator=own)).square().sum()

            try:
                runs.append(fit(step, 6, optimizer=torch.optim.SGD([x], lr=0.1), name=name, keep=()))
            except RuntimeError:
                assert stop == 3
    assert (runs[0][:3] == runs[1][:3]).all()
    assert (runs[0][3:] != runs[1][3:]).all()


def test_two_players_go_on_from_their_checkpoint(folder):
    def play(stop=None):
        x, y = (torch.tensor(1.0, requires_grad=True) for _ in range(2))
        down, up = torch.optim.Adam([x], lr=0.1), torch.optim.Adam([y], lr=0.1, maximize=True)

        def step(k):
            if k == stop:
                raise RuntimeError
            for player in (down, up):
                player.zero_grad()
                (x * y).backward()
                player.step()
            return x.item(), y.item()

        return fit(step, 8, name="game", keep=[x, y, down, up])

    with pytest.raises(RuntimeError):
        play(5)
    resumed = play()
    assert resumed.shape == (8, 2)
    (folder / "game.pt").unlink()
    assert (resumed == play()).all()


def test_a_finished_run_takes_no_further_step(folder):
    first = walk()
    assert identical(first, walk(stop=11))


def test_progress_goes_on_where_the_run_does(folder, bars, capsys, monkeypatch):
    monkeypatch.delenv("KEXUE_BOOK", raising=False)
    with pytest.raises(RuntimeError):
        walk(stop=4)
    walk()
    assert [(bar["initial"], bar["total"]) for bar in bars] == [(0, 12), (4, 12)]
    assert f"walk: goes on from step 4 of 12, kept in {folder / 'walk.pt'}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"steps": 13}, "with steps 12, not 13"),
        ({"width": 5}, r"with tensor torch.float32 \(4, 3\) on cpu, not torch.float32 \(5, 3\) on cpu"),
        ({"optimizer": torch.optim.SGD}, "started from other weights, another seed or another learning rate"),
        ({"seed": 2}, "started from other weights"),
        ({"rate": 0.2}, "started from other weights"),
    ],
)
def test_checkpoint_of_another_run_is_refused_and_kept(folder, other, message):
    with pytest.raises(RuntimeError):
        walk(stop=4)
    before = (folder / "walk.pt").read_bytes()
    expected = f"{folder / 'walk.pt'} is the checkpoint of another run, .*{message}.*: delete it, or name another folder in KEXUE_CHECKPOINTS"
    with pytest.raises(ValueError, match=expected):
        walk(**other)
    assert (folder / "walk.pt").read_bytes() == before


def test_checkpoint_under_another_name_is_refused(folder):
    walk()
    (folder / "walk.pt").rename(folder / "run.pt")
    with pytest.raises(ValueError, match=r"run.pt is the checkpoint of another run, with name walk, not run"):
        walk(name="run")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("kind", ["truncated", "empty", "text", "other tensors", "code"])
def test_file_that_is_no_checkpoint_is_refused_and_kept(folder, kind, monkeypatch):
    monkeypatch.chdir(folder)
    file = folder / "walk.pt"
    with pytest.raises(RuntimeError):
        walk(stop=4)
    if kind == "other tensors":
        torch.save({"weights": torch.ones(3)}, file)
    elif kind == "code":
        torch.save(Harmful(), file)
    else:
        whole = file.read_bytes()
        file.write_bytes({"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"my own notes"}[kind])
    before = file.read_bytes()
    with pytest.raises(
        ValueError, match=f"{file} cannot be read as a checkpoint .*: delete it, or name another folder"
    ):
        walk()
    assert file.read_bytes() == before
    assert not (folder / "harm").exists()


def test_a_write_that_fails_leaves_the_last_checkpoint(folder, monkeypatch):
    with pytest.raises(RuntimeError):
        walk(stop=4)
    before = (folder / "walk.pt").read_bytes()

    def fails(content, stream):
        stream.write(b"half of it")
        raise OSError("no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(torch, "save", fails)
        with pytest.raises(OSError, match="no space"):
            walk()
    assert [file.read_bytes() for file in folder.iterdir()] == [before]
    assert identical(walk(), walk(name="whole"))


def test_checkpoints_are_written_by_the_clock_and_at_the_end(folder, monkeypatch):
    saves, now = [], [0.0]
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 60)
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(torch, "save", lambda content, stream: saves.append(len(content["losses"])))

    def step(k):
        now[0] += 25
        return 1.0

    fit(step, 8, name="slow", keep=())
    assert saves == [3, 6, 8]


@pytest.mark.parametrize(
    ("scale", "named", "written"),
    [("quick", None, None), ("full", None, "checkpoints"), ("quick", "here", "here"), ("full", "here", "here")],
)
def test_where_checkpoints_are_written(monkeypatch, tmp_path, scale, named, written):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KEXUE_SCALE", scale)
    monkeypatch.delenv("KEXUE_CHECKPOINTS", raising=False)
    if named is not None:
        monkeypatch.setenv("KEXUE_CHECKPOINTS", named)
    fit(lambda k: 1.0, 3, name="not kept")
    fit(lambda k: 1.0, 3, name="demo 1, r = 2", keep=())
    found = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert found == ([] if written is None else [os.path.join(written, "demo 1, r = 2.pt")])


@pytest.mark.parametrize(
    ("name", "keep", "error", "message"),
    [
        ("fit", (), ValueError, "name must be given with keep, .* got 'fit'"),
        ("a/b", (), ValueError, "only letters, digits, spaces .* got 'a/b'"),
        ("", (), ValueError, "got ''"),
        (
            "run",
            [[1, 2]],
            TypeError,
            "keep must list models, optimizers, tensors or generators of torch or NumPy, got list",
        ),
        ("run", [lambda: 0], TypeError, "got function"),
    ],
)
def test_bad_keep_is_named_at_every_scale(name, keep, error, message):
    with pytest.raises(error, match=message):
        fit(lambda k: 1.0, 3, name=name, keep=keep)


def test_state_that_cannot_be_read_back_safely_is_refused():
    class Odd:
        def state_dict(self):
            return {"path": Path()}

        load_state_dict = None

    with pytest.raises(
        TypeError, match=r"a state holds a \w*Path; only tensors, numbers, strings, lists and dicts are kept"
    ):
        fit(lambda k: 1.0, 3, name="run", keep=[Odd()])


# Several processes -------------------------------------------------------------------------------------------------


def test_without_torchrun_model_and_batch_are_whole(monkeypatch):
    for variable in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(variable, raising=False)
    model, batch = torch.nn.Linear(2, 1), torch.arange(5)
    assert data_parallel(model) is model
    assert torch.equal(share(batch), batch)


def test_shares_are_equal_and_together_the_batch(monkeypatch):
    batch = torch.arange(24).reshape(2, 12)
    monkeypatch.setenv("WORLD_SIZE", "3")
    parts = []
    for rank in range(3):
        monkeypatch.setenv("RANK", str(rank))
        parts.append(share(batch, dim=1))
    assert [part.shape for part in parts] == [(2, 4)] * 3
    assert torch.equal(torch.cat(parts, 1), batch)
    with pytest.raises(
        ValueError, match="batch must be a multiple of the 3 processes, to be shared equally, got 2 samples"
    ):
        share(batch)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What the two processes of `training_processes.py` saw."""
    folder = tmp_path_factory.mktemp("processes")
    script = Path(__file__).with_name("training_processes.py")
    launch = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",  # two processes on any machine, by gloo
        "GLOO_SOCKET_IFNAME": "lo",
        "KEXUE_CHECKPOINTS": str(folder),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", *launch, str(script), str(folder)],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)], done


@pytest.fixture(scope="module")
def one_process(two_processes):
    """The network of the two processes, its gradient on the whole batch, and that of the batch's sum."""
    (seen, _), _ = two_processes
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    model.load_state_dict(seen["start"])
    return model, torch.autograd.grad(model(seen["batch"]).square().mean(), list(model.parameters()))


def test_both_processes_start_from_the_weights_of_the_first(two_processes):
    (first, second), _ = two_processes
    assert all(torch.equal(first["start"][name], second["start"][name]) for name in first["start"])


def test_averaged_gradients_are_those_of_one_process_on_the_whole_batch(two_processes, one_process):
    whole = torch.cat([g.flatten() for g in one_process[1]])
    for seen in two_processes[0]:
        torch.testing.assert_close(seen["mean"], whole, rtol=1e-5, atol=1e-7)


def test_summed_losses_and_unequal_shares_give_other_gradients(two_processes, one_process):
    whole = torch.cat([g.flatten() for g in one_process[1]])
    for seen in two_processes[0]:
        torch.testing.assert_close(
            seen["sum"], 4 * whole, rtol=1e-5, atol=1e-7
        )  # 8 times the mean; half of it is missing
        assert (seen["unequal"] - whole).norm() > 0.01 * whole.norm()


def test_training_in_two_processes_is_training_in_one(two_processes, one_process):
    """Though they were interrupted after three steps of five, and went on from a checkpoint."""
    model, own = one_process[0], generator(6, "cpu")
    adam = torch.optim.Adam(model.parameters(), lr=0.1)
    losses = fit(lambda k: model(torch.randn(8, 3, generator=own)).square().mean(), 5, optimizer=adam)
    for seen in two_processes[0]:
        assert seen["steps"] == [0, 1, 2, 3, 3, 4]
        assert seen["losses"].numpy() == relative(losses, 1e-5)
        torch.testing.assert_close(seen["end"], model.state_dict(), rtol=1e-4, atol=1e-6)
    assert all(torch.equal(two_processes[0][0]["end"][key], value) for key, value in two_processes[0][1]["end"].items())


def test_only_the_first_process_speaks(two_processes):
    assert two_processes[1].stdout.count("goes on from step 3 of 5") == 1


def test_public_names_are_those_that_are_documented():
    assert all(getattr(training, name).__doc__ for name in training.__all__)
