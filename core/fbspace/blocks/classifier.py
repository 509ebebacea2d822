"""classifier: global average pool → fully connected, the end of every network."""

from torch import Tensor, nn

from fbspace.opspec import OpSpec


class Classifier(nn.Module):
    """N, C, H, W → N, classes."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Average over the pixels, then apply the fully connected layer."""
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def build(spec: OpSpec) -> nn.Module:
    """Build a classifier."""
    return Classifier(spec.in_channels, spec.out_channels)
