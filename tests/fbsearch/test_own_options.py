"""Options that strategies, costs and losses declare: shown, given, refused, recorded, compared; and presets."""

import json
from pathlib import Path

import pytest
import torch
from click import Context

from fbbase.commandline import run
from fbbase.errors import FbError
from fbsearch.cli import fbsearch
from fbsearch.errors import SearchError
from fbsearch.fbnet.settings import PRESETS, Settings
from fbsearch.jobs.own_options import recorded, settings_of

OLD = {
    "objectives": [["micro", None]], "space": "micro", "data": "digits", "strategy": "mixture", "cost": "lut",
    "loss": "paper", "alpha": 0.2, "beta": 0.6, "latency_weight": 1.0, "epochs": 90, "warmup": None, "batch": 192,
    "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4, "theta_lr": 0.01, "theta_weight_decay": 5e-4, "temperature": 5.0,
    "temperature_decay": 0.045, "w_start": "alike", "w_sampling": "theta", "skip_delay": 0.5, "w_share": 0.8,
    "validation_share": 0.1, "augment": "none", "samples": 6, "evaluations": 200, "train_epochs": 0, "train_lr": 0.1,
    "train_weight_decay": 4e-5, "amp": "none", "seed": 0, "limit": None, "steps": None,
}  # fmt: skip
"""What a checkpoint of version 1.x holds of a search with all defaults, written down from one."""


@pytest.fixture
def arguments(micro_file: Path, micro_lut_file: Path, tmp_path: Path) -> list[str]:
    options = ["--threads", "1", "--epochs", "2", "--batch", "40", "--limit", "200", "--steps", "2"]
    return ["run", "--lut", str(micro_lut_file), "--space", str(micro_file), "-o", str(tmp_path / "run"), *options]


def test_the_record_of_a_search_is_that_of_earlier_versions() -> None:
    settings = Settings("micro", "digits", (("micro", None),))
    assert recorded(settings) == OLD
    assert settings_of(OLD) == Settings("micro", "digits", (("micro", None),), options={"alpha": 0.2, "beta": 0.6})
    targeted = Settings("micro", "digits", (("micro", 3.0),), options={"latency_weight": 2.0})
    assert recorded(targeted) == OLD | {"objectives": [["micro", 3.0]], "loss": "target", "latency_weight": 2.0}
    assert settings_of(recorded(targeted)) == targeted


def test_a_checkpoint_of_an_earlier_version_continues(arguments: list[str], tmp_path: Path) -> None:
    assert run(fbsearch, [*arguments, "--alpha", "0.3"]) == 0
    checkpoint, arch = tmp_path / "run" / "search.ckpt", tmp_path / "run" / "arch.json"
    content, found = torch.load(checkpoint, weights_only=True), json.loads(arch.read_text())
    given = {"space": arguments[4], "epochs": 2, "batch": 40, "limit": 200, "steps": 2, "alpha": 0.3}
    torch.save(content | {"settings": OLD | given}, checkpoint)
    arch.unlink()
    assert run(fbsearch, [*arguments, "--alpha", "0.3"]) == 0  # the search is read, the network derived again
    assert json.loads(arch.read_text())["choices"] == found["choices"]
    assert found["provenance"]["settings"] == OLD | given | {"target_ms": None}


def test_own_options_are_recorded_and_compared(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, [*arguments, "--alpha", "0.3"]) == 0
    settings = json.loads((tmp_path / "run" / "arch.json").read_text())["provenance"]["settings"]
    assert (settings["alpha"], settings["beta"], settings["latency_weight"]) == (0.3, 0.6, 1.0)
    capsys.readouterr()
    assert run(fbsearch, arguments) == 2
    assert "alpha: 0.3 then, 0.2 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--alpha", "-1"], "--alpha must be a positive number, not -1"),
        (["--latency-weight", "2"], "--latency-weight is no option of strategy mixture, cost lut and loss paper; loss "
                                    "additive, loss target has it"),
        (["--loss", "target", "--target-ms", "0.1", "--beta", "1"], "loss paper, loss product has it"),
        (["--alpha", "much"], "'much' is not a valid float"),
    ],
)  # fmt: skip
def test_an_option_that_does_not_fit_is_refused_by_name(
    extra: list[str], message: str, arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(fbsearch, [*arguments, *extra]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_help_says_of_which_plug_ins_an_option_is() -> None:
    command = fbsearch.get_command(Context(fbsearch), "run")
    assert command is not None
    text = {parameter.name: getattr(parameter, "help", "") for parameter in command.params}
    assert text["alpha"] == "α of the loss.  [default: 0.2; of loss paper, loss product]"
    assert text["latency_weight"] == "λ, the weight of the cost.  [default: 1.0; of loss additive, loss target]"


def test_the_papers_preset_is_the_paper_and_the_default_says_where_it_is_not() -> None:
    """Against FBNet section 3 and 4.1, as its reproductions give the values."""
    paper = Settings("fbnet", "digits", (("s8", 20.0),), **PRESETS["paper"])  # type: ignore[arg-type]
    assert recorded(paper) == OLD | {
        "space": "fbnet", "objectives": [["s8", 20.0]], "loss": "paper", "w_start": "random", "skip_delay": 0.0,
    }  # fmt: skip
    assert paper.skip_epochs == paper.warmup_epochs == 10  # skip is not held in any epoch of θ
    assert PRESETS["default"] == {}


def test_unknown_plug_ins_and_options_of_none_are_named() -> None:
    with pytest.raises(FbError, match=r"unknown loss 'papr'. Did you mean 'paper'\?"):
        recorded(Settings("micro", "digits", loss="papr"))
    with pytest.raises(SearchError, match=r"--gamma is no option of .*; no plug-in has it"):
        recorded(Settings("micro", "digits", options={"gamma": 1.0}))
