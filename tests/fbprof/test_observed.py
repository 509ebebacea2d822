"""What a module computes, as seen by running it: against what layers' hooks count, and closed forms."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fbexport.errors import ExportError
from fbprof.predict.features import as_layer, split
from fbprof.predict.observed import observe
from fbspace.network import count


class Branched(nn.Module):
    """What the exporter has no translation for: pooling, concatenation, views, a shape that forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.third = nn.Conv2d(8, 8, 1, groups=2)
        self.norm = nn.BatchNorm2d(16)
        self.last = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.first(x), 2)
        if x.shape[2] > 1:
            x = torch.cat([F.relu(self.second(x)), F.hardswish(self.third(x) + x)], 1)
        x = self.norm(x)
        return self.last(F.adaptive_avg_pool2d(x, 1).flatten(1))


def test_a_module_is_seen_operation_by_operation() -> None:
    operations = observe(Branched().eval(), (1, 3, 16, 12))
    assert [(each.name, each.source, each.has_relu) for each in operations] == [
        ("convolution", "first.0", True),
        ("max_pool2d_with_indices", "", False),
        ("convolution", "second", True),
        ("convolution", "third", False),
        ("add", "", False),
        ("hardswish", "", False),
        ("cat", "", False),
        ("native_batch_norm", "norm", False),
        ("mean", "", False),
        ("linear", "last", False),
    ]
    assert [each.macs for each in operations if each.is_layer] == [16 * 12 * 8 * 27, 48 * 8 * 9, 48 * 8 * 4, 16 * 5]
    assert sum(each.macs for each in operations) == count(Branched(), (1, 3, 16, 12)).macs
    pooled, second, third, add, cat = (operations[index] for index in (1, 2, 3, 4, 6))
    assert second.inputs == third.inputs == (pooled.output,)
    assert {value.number for value in add.inputs} == {third.output.number, pooled.output.number}
    assert cat.output.shape == (1, 16, 8, 6)
    assert [part[0].source for part in split(operations)] == ["first.0", "second", "third", "last"]


@pytest.mark.parametrize(
    ("layer", "macs"),
    [
        (nn.ConvTranspose2d(3, 6, 2, 2), 10 * 10 * 3 * 6 * 4),
        (nn.Sequential(nn.Flatten(2), nn.Conv1d(3, 4, 5)), 96 * 3 * 4 * 5),
        (nn.Sequential(nn.Flatten(2), nn.Linear(100, 7)), 3 * 100 * 7),
        (nn.Sequential(nn.Flatten(), nn.Linear(300, 7, bias=False)), 300 * 7),
    ],
    ids=["transposed", "1-D", "of rows", "without bias"],
)
def test_other_layers_have_their_multiply_accumulates(layer: nn.Module, macs: int) -> None:
    assert sum(each.macs for each in observe(layer.eval(), (1, 3, 10, 10))) == macs


def test_what_one_pattern_is() -> None:
    def pattern(*layers: nn.Module) -> tuple[object, ...]:
        return as_layer(observe(nn.Sequential(nn.Conv2d(3, 4, 1), *layers).eval(), (1, 3, 9, 9))).pattern

    assert pattern(nn.ReLU()) == pattern(nn.ReLU6()) == pattern(nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    assert pattern(nn.Conv2d(4, 8, 3)) == pattern(nn.Conv2d(4, 16, 3, bias=False))
    different = [(), (nn.ReLU(),), (nn.Hardswish(),), (nn.Conv2d(4, 4, 3),), (nn.Conv2d(4, 4, 3, groups=4),)]
    different += [(nn.Conv2d(4, 4, 5),), (nn.Conv2d(4, 4, 3, stride=2),), (nn.Conv2d(4, 4, 3, dilation=2),)]
    assert len({pattern(*layers) for layers in different}) == len(different)


def test_what_cannot_be_told_is_refused() -> None:
    attention = nn.TransformerEncoderLayer(16, 2, 16, batch_first=True).eval()
    with pytest.raises(ExportError, match="of which the rows of a table tell nothing"):
        observe(nn.Sequential(nn.Flatten(2), nn.Linear(64, 16), attention).eval(), (1, 3, 8, 8))
    with pytest.raises(ExportError, match="module '1' does not run on an input of 1x3x8x8: RuntimeError: mat1"):
        observe(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)).eval(), (1, 3, 8, 8))
