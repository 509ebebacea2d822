"""Mixed precision and compilation in the search: what is scaled, what is left out, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fblut.table import Lut
from fbsearch.errors import DivergedError, SearchError
from fbsearch.fbnet.search import Search
from fbsearch.fbnet.settings import Settings
from fbsearch.jobs.search_job import open_search
from fbsearch.machine.compute import Compute
from fbsearch.machine.descent import GROWTH_STEPS, LossScale
from fbsearch.machine.ranks import Ranks


@pytest.fixture
def make(micro_file: Path, micro_lut: Lut, tmp_path: Path) -> Any:
    def search(strategy: str, amp: str = "none", compile: bool = False) -> Search:
        settings = Settings(
            space=str(micro_file),
            data="digits",
            objectives=(("micro", None),),
            strategy=strategy,
            amp=amp,
            epochs=1,
            warmup=0,
            batch=40,
            limit=200,
            steps=2,
        )
        compute = Compute(torch.device("cpu"), amp, compile)
        return open_search({"micro": micro_lut}, settings, tmp_path, compute, Ranks())[0]

    return search


def nothing(*_: object, **__: object) -> None:
    """Advance no bar, and do not stop."""


@pytest.mark.parametrize(
    ("strategy", "amp", "dtype"),
    [
        ("mixture", "bf16", torch.bfloat16),
        ("single-path", "fp16", torch.float16),
        pytest.param("mixture", "fp16", torch.float16, marks=pytest.mark.full),
        pytest.param("single-path", "bf16", torch.bfloat16, marks=pytest.mark.full),
    ],
)
def test_half_precision_trains_as_float32_does_up_to_its_rounding(
    strategy: str, amp: str, dtype: torch.dtype, make: Any
) -> None:
    exact, half = make(strategy), make(strategy, amp)
    seen: set[torch.dtype] = set()
    half.net.stem.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    expected, values = exact.epoch(nothing, nothing), half.epoch(nothing, nothing)
    assert seen == {dtype}
    assert {p.dtype for p in half.w} == {torch.float32}
    assert values["w_loss"] == pytest.approx(expected["w_loss"], rel=1e-2)
    assert values["w_loss"] != expected["w_loss"]
    theta_loss = values["objectives"]["micro"]["theta_loss"]
    assert theta_loss == pytest.approx(expected["objectives"]["micro"]["theta_loss"], rel=1e-2)
    assert half.scale == (LossScale(2.0**16, 3, True) if amp == "fp16" else LossScale())


def test_the_scale_is_taken_out_again_and_an_overflow_costs_one_step_and_half_the_scale() -> None:
    weight = nn.Parameter(torch.tensor([1.0, -2.0]))
    optimizer = torch.optim.SGD([weight], 0.5)
    scale = LossScale.of("fp16")

    def descend(loss: Tensor) -> None:
        optimizer.zero_grad()
        scale.backward(loss)
        scale.unscale([weight])
        optimizer.step()

    descend((weight**2).sum())
    assert weight.tolist() == [0.0, 0.0]  # w − 0.5 · 2w
    weight.data.fill_(1.0)
    descend((weight * 1e38).sum())
    assert weight.tolist() == [1.0, 1.0]
    assert (scale.value, scale.good_steps) == (2.0**15, 0)
    scale.good_steps = GROWTH_STEPS - 1
    descend(weight.sum())
    assert weight.tolist() == [0.5, 0.5]
    assert (scale.value, scale.good_steps) == (2.0**16, 0)


def test_the_scale_is_saved_and_another_precision_goes_on_without_it(make: Any) -> None:
    half = make("single-path", "fp16")
    half.scale.value, half.scale.good_steps = 512.0, 3
    again, exact = make("single-path", "fp16"), make("single-path")
    again.load_state(half.state())
    exact.load_state(half.state())
    assert (again.scale.value, again.scale.good_steps) == (512.0, 3)
    assert exact.scale == LossScale()


def test_compiling_is_refused_where_every_step_runs_another_path(make: Any) -> None:
    with pytest.raises(SearchError, match="--compile does not go with --strategy single-path"):
        make("single-path", compile=True)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's own look at m
@pytest.mark.full
def test_a_compiled_mixture_is_called_in_the_supernets_place(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With torch's own compiler but its plainest backend, which gives the same bits; inductor takes minutes here."""
    compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compile(module, backend="eager"))
    compiled, plain = make("mixture", compile=True), make("mixture")
    assert compiled.forward is not compiled.net
    values, expected = (search.epoch(nothing, nothing) for search in (compiled, plain))
    assert values["w_loss"] == expected["w_loss"]
    assert values["objectives"]["micro"]["theta"] == expected["objectives"]["micro"]["theta"]


def test_a_loss_that_is_not_finite_is_found_later_on_a_gpu_and_still_names_its_step(make: Any) -> None:
    search = make("single-path")
    for step, loss in enumerate([1.0, float("nan"), float("inf")]):
        search.position.step = step
        search.losses.unchecked.append((torch.tensor(loss), search.where, 0.1, "--lr"))
    with pytest.raises(DivergedError, match=r"nan in epoch 1, phase w, step 2 of 2 at learning rate 0\.1"):
        search.losses.look()
