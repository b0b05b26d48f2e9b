"""Facts about layers that say how they are built."""

import pytest
import torch
from torch import nn

from kexue_utils.contracts import assert_clonable

EXAMPLE = torch.tensor([1.0, 2.0, 3.0])


class Power(nn.Module):
    """x times w to a power; w starts at 1."""

    def __init__(self, power=1):
        super().__init__()
        self.power, self.w = power, nn.Parameter(torch.ones(()))

    def forward(self, x):
        return x * self.w**self.power

    def config(self):
        return {"power": self.power}


class Forgetful(Power):
    def config(self):
        return {}


class Wide(nn.Module):
    """With an optional setting that changes its parameters, a buffer, and dropout."""

    def __init__(self, width=3, told=True):
        super().__init__()
        self.width, self.told = width, told
        self.linear, self.drop = nn.Linear(3, width), nn.Dropout(0.5)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        return self.drop(self.linear(x)) * self.scale

    def config(self):
        return {"width": self.width, "told": True} if self.told else {}


def test_a_layer_that_tells_everything_passes():
    for power in (1, 2, 3):
        assert_clonable(Power(power), EXAMPLE)


def test_a_forgotten_setting_is_noticed_though_shapes_and_fresh_outputs_agree():
    layer = Forgetful(2)
    clone = Forgetful(**layer.config())
    clone.load_state_dict(layer.state_dict())
    assert torch.equal(layer(EXAMPLE), clone(EXAMPLE))  # what a test at the initial weights would see
    for seed in range(20):
        with pytest.raises(ValueError, match="clone of Forgetful with other outputs"):
            assert_clonable(layer, EXAMPLE, seed=seed)


def test_a_forgotten_default_does_no_harm():
    assert_clonable(Forgetful(1), EXAMPLE)


def test_other_parameters_are_noticed():
    assert_clonable(Wide(5), EXAMPLE)
    with pytest.raises(ValueError, match="clone of Wide with other parameters"):
        assert_clonable(Wide(5, told=False), EXAMPLE)


def test_the_module_is_left_as_it_was():
    layer = Wide(4)
    layer.train()
    layer.drop.eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    assert_clonable(layer, EXAMPLE)
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())
    assert layer.training
    assert not layer.drop.training
    with pytest.raises(ValueError, match="other parameters"):
        assert_clonable(bad := Wide(5, told=False), EXAMPLE)
    assert bad.training


def test_double_precision_is_kept():
    assert_clonable(Wide(4).double(), EXAMPLE.double())


@pytest.mark.gpu(mps=True)
def test_on_an_accelerator():
    from kexue_utils import training

    assert_clonable(Wide(4).to(training.device()), EXAMPLE.to(training.device()))


class NoConfig(nn.Module):
    def forward(self, x):
        return x


class WrongConfig(NoConfig):
    def config(self):
        return {"depth": 3}


class ListConfig(NoConfig):
    def config(self):
        return [1]


class Pair(NoConfig):
    def forward(self, x):
        return x, x

    def config(self):
        return {}


@pytest.mark.parametrize(
    ("module", "inputs", "error", "said"),
    [
        (NoConfig(), [EXAMPLE], ValueError, "module must have a method config, got a NoConfig without"),
        (WrongConfig(), [EXAMPLE], ValueError, r"NoConfig|WrongConfig\(\*\*config\) says"),
        (ListConfig(), [EXAMPLE], TypeError, "module must have a config that returns a mapping"),
        (Pair(), [EXAMPLE], TypeError, "module must return one tensor, got tuple"),
        ("layer", [EXAMPLE], TypeError, "module must be a torch.nn.Module"),
        (Power(), [], TypeError, "inputs must be tensors"),
        (Power(), [3.0], TypeError, "inputs must be tensors"),
    ],
)
def test_what_breaks_the_contract_is_said(module, inputs, error, said):
    with pytest.raises(error, match=said):
        assert_clonable(module, *inputs)
