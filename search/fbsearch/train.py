"""Training the chosen network from scratch on all training images, and its one look at the test images."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from fbbase.interrupt import interrupt_between_steps
from fbbase.progress import progress
from fbsearch.checkpoint import TRAIN, RunFolder
from fbsearch.data import Data, batch_count
from fbsearch.descent import descend
from fbsearch.metrics import Metrics
from fbsearch.search import Mean, epoch_generator
from fbsearch.settings import Settings
from fbsearch.split import Split
from fbspace.architecture import Architecture
from fbspace.network import build_network
from fbspace.space import Space


@dataclass(frozen=True, slots=True)
class Trained:
    """The network in eval mode, with its accuracy on the images it was trained on (last epoch) and on test images."""

    network: nn.Module
    train_accuracy_percent: float
    test_accuracy_percent: float


def train(architecture: Architecture, space: Space, data: Data, settings: Settings, folder: RunFolder) -> Trained:
    """Train with SGD and a cosine schedule, from the folder's checkpoint if it has one. Raises DivergedError."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = build_network(architecture, space, classes=len(data.classes))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(
        network.parameters(),
        settings.train_lr,
        momentum=settings.momentum,
        nesterov=True,
        weight_decay=settings.train_weight_decay,
    )
    start, accuracy = 0, 0.0
    state = folder.load(TRAIN)
    if state is not None:
        start, accuracy = state["epoch"], state["train_accuracy_percent"]
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
    training = data.training
    steps = min(batch_count(training, settings.batch), settings.steps or batch_count(training, settings.batch))
    with (
        Metrics(folder.path, "train", start) as metrics,
        progress("train", settings.train_epochs * steps, start * steps) as advance,
        interrupt_between_steps() as check_interrupt,
    ):
        for epoch in range(start, settings.train_epochs):
            mean = Mean()
            generator = epoch_generator(settings.seed, "train", epoch)
            for group in optimizer.param_groups:
                group["lr"] = settings.train_lr_at(epoch)
            network.train()
            for x, y in data.batches(training, settings.batch, generator, settings.steps):
                logits = network(x.contiguous(memory_format=torch.channels_last))
                loss = F.cross_entropy(logits, y)
                descend(loss, optimizer, f"epoch {epoch + 1} of the final training", "--train-lr")
                mean.add(loss.detach(), loss.detach(), logits.detach(), y)
                advance(note=f"epoch {epoch + 1}/{settings.train_epochs}")
                check_interrupt()
            accuracy = mean.values()["accuracy_percent"]
            metrics.write(epoch, {"lr": settings.train_lr_at(epoch), **mean.values()})
            folder.save(
                TRAIN,
                {
                    "epoch": epoch + 1,
                    "train_accuracy_percent": accuracy,
                    "network": network.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
            )
    return Trained(network.eval(), accuracy, evaluate(network, data, data.test, settings.batch))


@torch.no_grad()
def evaluate(network: nn.Module, data: Data, split: Split, batch: int) -> float:
    """Return the accuracy of a network in eval mode, in percent."""
    network.eval()
    correct = sum(int((network(x).argmax(1) == y).sum()) for x, y in data.batches(split, batch))
    return 100 * correct / len(split)
