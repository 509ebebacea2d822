"""What keeps skip from taking over: a start at which candidates agree, P(skip) that is held, and the warning."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fbbase.errors import FbError
from fbsearch.beyond.alike import agree, kinds_apart
from fbsearch.errors import SearchError
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.fbnet.supernet import SuperNet
from fbsearch.jobs.report import skip_warning
from fbsearch.jobs.search_job import Found
from fbsearch.jobs.targets import Goal
from fbspace.architecture import Architecture
from fbspace.blocks import Start, build_block
from fbspace.blocks.ir import Ir
from fbspace.opspec import OpSpec
from fbspace.space import Space, load_space

MakeSearch = Callable[..., Search]


def step_of_theta(search: Search, gradients: list[Tensor]) -> None:
    """Do what a search does to θ once its gradient is there."""
    objective = search.objectives[0]
    for theta_l, gradient in zip(objective.theta, gradients, strict=True):
        theta_l.grad = gradient
    for change in search.changes(objective):
        change()


def settings(skip_delay: float) -> Settings:
    return Settings(space="micro", data="digits", limit=200, warmup=0, theta_lr=0.3, skip_delay=skip_delay)


def test_holding_skip_keeps_its_probability_and_moves_the_others(make: MakeSearch) -> None:
    search, generator = make(settings(skip_delay=1)), torch.Generator().manual_seed(0)
    objective = search.objectives[0]
    with torch.no_grad():
        for theta_l in objective.theta:
            theta_l.copy_(torch.randn(3, generator=generator))
    before = objective.probabilities()
    for _ in range(20):  # skip should gain
        gradients = [torch.randn(3, generator=generator) + torch.tensor([1.0, 0.0, -3.0]) for _ in range(2)]
        step_of_theta(search, gradients)
    for old, new in zip(before, objective.probabilities(), strict=True):
        assert new[2].item() == pytest.approx(old[2].item(), rel=1e-4)
        assert (new[:2] - old[:2]).abs().min() > 0.05


def test_skip_moves_once_it_is_not_held(make: MakeSearch) -> None:
    search = make(settings(skip_delay=0))
    step_of_theta(search, [torch.tensor([0.0, 0.0, -1.0])] * 2)
    for p in search.objectives[0].probabilities():
        # Adam's first step is the rate, 0.3, whatever the gradient's size.
        assert p[2].item() == pytest.approx(torch.softmax(torch.tensor([0.0, 0.0, 0.3]), 0)[2].item(), rel=1e-3)


def candidates_of(layer: int, seed: int = 0) -> tuple[list[nn.Module], Tensor]:
    """Return a layer of fbnet-tiny, in agreement, and an input as it sees it."""
    torch.manual_seed(seed)
    specs = load_space("fbnet-tiny").layers[layer].candidates.values()
    candidates = [build_block(spec) for spec in specs]
    agree(list(specs), candidates)
    return candidates, torch.randn(8, *next(iter(specs)).input_shape[1:])


def test_where_the_shape_is_kept_all_candidates_start_as_the_identity() -> None:
    candidates, x = candidates_of(2)
    assert x.shape[1:] == candidates[0](x).shape[1:]
    assert all(torch.equal(candidate(x), x) for candidate in candidates)


@pytest.mark.parametrize("layer", [1, 5])
def test_where_it_changes_all_candidates_start_near_one_function(layer: int) -> None:
    def likeness(candidates: list[nn.Module], x: Tensor) -> Tensor:
        outputs = torch.stack([candidate(x) for candidate in candidates])
        outputs = outputs - outputs.mean((1, 3, 4), keepdim=True)
        return torch.corrcoef(outputs.flatten(1).detach())

    alike, x = candidates_of(layer)
    assert likeness(alike, x).min() > 0.65
    assert not any(torch.equal(alike[0](x), other(x)) for other in alike[1:])
    specs = load_space("fbnet-tiny").layers[layer].candidates.values()
    random = likeness([build_block(spec) for spec in specs], x)
    assert random.fill_diagonal_(0).abs().max() < 0.5


def test_gradients_reach_every_weight_of_a_block_that_starts_at_zero_in_two_steps() -> None:
    candidates, x = candidates_of(2)
    block, target = candidates[3], torch.randn(8, *x.shape[1:])
    optimizer = torch.optim.SGD(block.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        ((block(x) - target) ** 2).mean().backward()
        optimizer.step()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


def test_blocks_that_say_how_start_alike_too_and_others_are_named(own_block: str, tmp_path: Path) -> None:
    specs = [
        OpSpec("own", 8, 12, 6, 6, stride=2),
        *(OpSpec("mbconv", 8, 12, 6, 6, 3, 2, e) for e in (1, 4)),
        OpSpec("ir", 8, 12, 6, 6, 5, 2, 3),
        OpSpec("fusedmb", 8, 12, 6, 6, 3, 2, 4),
        OpSpec("uib", 8, 12, 6, 6, 3, 2, 4),
        OpSpec("uib", 8, 12, 6, 6, 1, 2, 4, parameters=(("start_kernel", 5),)),
        OpSpec("skip", 8, 12, 6, 6, stride=2),
    ]
    torch.manual_seed(0)
    candidates = [build_block(spec) for spec in specs]
    before = [p.clone() for p in candidates[0].parameters()]
    agree(specs, candidates)
    x = torch.randn(8, 8, 6, 6)
    outputs = torch.stack([candidate(x) for candidate in candidates[1:]])
    outputs = outputs - outputs.mean((1, 3, 4), keepdim=True)
    assert torch.corrcoef(outputs.flatten(1).detach()).min() > 0.65
    assert all(torch.equal(p, q) for p, q in zip(before, candidates[0].parameters(), strict=True))
    lines = [
        'description = "x"\ninput = { channels = 3, size = 8 }\nclasses = 2\nhead_channels = [8]',
        'stem = [{ kind = "conv", channels = 8 }]\nstages = [{ channels = 8, repeats = 1, stride = 1 }]\n[candidates]',
        'a = { kind = "own" }\nb = { kind = "ir" }\nc = { kind = "own", dilation = 2 }\nd = { kind = "skip" }',
    ]
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    assert kinds_apart(load_space(str(tmp_path / "mine.toml"))) == ["own"]
    assert kinds_apart(load_space("fbnet-tiny")) == []


@pytest.mark.parametrize(
    "start",
    [
        lambda module: Start((module.expand,), module.depthwise),
        lambda module: Start((), module),
        lambda module: Start((module.expand[0],), module.project),
    ],
)
def test_a_start_that_is_none_is_the_blocks_mistake_in_words(
    start: Callable[[nn.Module], Start], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = OpSpec("ir", 8, 12, 6, 6, 3, 2, 3)
    module = build_block(spec)
    monkeypatch.setattr(Ir, "start", lambda self, built: start(built))
    with pytest.raises(SearchError, match="the start of block 'ir' has a part that is no convolution followed by"):
        agree([spec], [module])


def test_a_random_start_leaves_the_blocks_as_torch_draws_them(micro: Space) -> None:
    nets = [SuperNet.of(micro, 10, 3, alike) for alike in (False, True)]
    torch.manual_seed(3)
    drawn = [build_block(spec) for spec in micro.stem]
    drawn += [build_block(spec) for layer in micro.layers for spec in layer.candidates.values()]
    parameters = [p for block in drawn for p in block.parameters()]
    plain, alike = ([*net.stem.parameters(), *net.layers.parameters()] for net in nets)
    assert all(torch.equal(p, q) for p, q in zip(parameters, plain, strict=True))
    assert not all(torch.equal(p, q) for p, q in zip(plain, alike, strict=True))


def test_another_start_is_refused() -> None:
    with pytest.raises(FbError, match=r"--w-start must be one of alike, random, not same"):
        Settings(space="micro", data="digits", w_start="same")


@pytest.mark.parametrize(("skips", "cost", "option"), [(4, "lut", ""), (5, "lut", "ms"), (5, "macs", "mmacs")])
def test_more_skip_than_half_is_warned_of(skips: int, cost: str, option: str) -> None:
    choices = ("skip",) * skips + ("k3_e3",) * (8 - skips)
    provenance = {"skip_layers": skips, "target": None, "settings": {"cost": cost}}
    architecture = Architecture(name="x", space="fbnet-tiny", choices=choices, provenance=provenance)
    warning = skip_warning(Found(Goal("a", "a", None), architecture, Path("arch.json")))
    assert ("warning: 5 of 8 layers of the network for a are skip" in warning) == bool(option)
    assert (f"; --target-{option} keeps it from that" in warning) == bool(option)
    assert ("docs/searching/skip.md" in warning) == bool(option)
