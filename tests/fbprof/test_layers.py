"""Where the time of a model goes: parts timed beside the whole, against times that are known."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from fbmodel.model import open_model
from fbprof.journal.journal import Failed, JournalContent
from fbprof.models.layers import with_layers, with_parts
from fbprof.models.profile import Variant, result_of, samples_of, variant_of
from fbprof.models.result import Profiled
from fbprof.plan.subject import Setting
from journals import journal, start, visit
from peers.small_models import onnx_model

CALL_US = 7.0
OWN_US = (120.0, 30.0, 60.0, 15.0, 240.0, 90.0, 45.0)
WIDTHS = (8, 40, 4, 100, 20, 64, 8, 8)
NUMBER_US = 0.05


@pytest.fixture
def chain(tmp_path: Path) -> list[Variant]:
    """A model of seven matrix products, and everything that is timed to see into it."""
    return chain_of([8] * (len(OWN_US) + 1), tmp_path)


def chain_of(widths: Sequence[int], tmp_path: Path) -> list[Variant]:
    """Matrix products between matrices of four rows and so many columns."""
    random = np.random.default_rng(0)
    nodes, weights = [], []
    for number, shape in enumerate(itertools.pairwise(widths)):
        weights.append(numpy_helper.from_array(random.normal(size=shape).astype("float32"), f"w{number}"))
        nodes.append(helper.make_node("MatMul", [f"x{number}", f"w{number}"], [f"x{number + 1}"], name=f"m{number}"))
    ends = ("float32", (4, widths[0])), ("float32", (4, widths[-1]))
    model = onnx_model({"x0": ends[0]}, {f"x{len(OWN_US)}": ends[1]}, nodes)
    import onnx

    whole = onnx.load_from_string(model)
    whole.graph.initializer.extend(weights)
    path = tmp_path / "chain.onnx"
    path.write_bytes(whole.SerializeToString())
    return with_parts([variant_of("chain.onnx", open_model(path), Setting("onnxruntime"))])


def times(variants: list[Variant], lost: tuple[str, ...] = (), number_us: float = 0.0) -> JournalContent:
    """A journal in which everything takes what its nodes take, one call, and what goes in and out where it was cut."""
    content = journal(first=start(space="model files"))
    for each in variants:
        if each.name in lost:
            content.add(Failed(key=each.subject.key, reason="cannot be loaded: no such operator"))
            continue
        first, last = 0, len(OWN_US) - 1
        if "nodes" in each.name:
            first, last = map(int, each.name.rpartition(" ")[2].split("-"))
        cut = [end for end in (first, last + 1) if 0 < end < len(OWN_US)]
        us = CALL_US + sum(OWN_US[first : last + 1]) + number_us * 4 * sum(WIDTHS[end] for end in cut)
        for _ in range(8):
            content.add(visit(each.subject.key, [us, us, us]))
    return content


def profiled(variants: list[Variant], content: JournalContent) -> Profiled:
    """Return the model with its layers."""
    sampled = samples_of(content, variants)
    return with_layers(result_of(content, sampled, variants[:1]), variants, content, sampled).models[0]


def test_parts_have_their_own_times_without_the_calls_and_add_up(chain: list[Variant]) -> None:
    found = profiled(chain, times(chain))
    whole = sum(OWN_US) + CALL_US
    layers = [each.latency_us or 0 for each in found.layers]
    assert found.latency_us == pytest.approx(whole)
    assert sum(layers) == pytest.approx(whole)
    # what the call of the whole costs is shared out, too: 1.2 % here
    assert layers == pytest.approx([us * whole / sum(OWN_US) for us in OWN_US], rel=1e-6)
    assert [each.alone_us for each in found.layers] == pytest.approx([us + CALL_US for us in OWN_US])
    assert [each.name for each in found.layers] == [f"m{number}" for number in range(len(OWN_US))]
    assert {each.macs for each in found.layers} == {4 * 8 * 8}
    assert {each.output_shape for each in found.layers} == {(4, 8)}
    assert "7.0 µs each" in found.layers_note


def test_what_goes_in_and_out_of_parts_is_no_time_of_theirs(tmp_path: Path) -> None:
    chain = chain_of(WIDTHS, tmp_path)
    found = profiled(chain, times(chain, number_us=NUMBER_US))
    whole = sum(OWN_US) + CALL_US
    layers = [each.latency_us or 0 for each in found.layers]
    assert layers == pytest.approx([us * whole / sum(OWN_US) for us in OWN_US], rel=1e-3)
    inside = 2 * 4 * sum(WIDTHS[1:-1]) * NUMBER_US
    assert sum(each.alone_us or 0 for each in found.layers) == pytest.approx(sum(OWN_US) + 7 * CALL_US + inside)
    assert f"({CALL_US:.1f} µs each) and what goes in and out {100 * inside / whole:.0f} %" in found.layers_note


def test_a_part_that_cannot_be_loaded_has_what_is_left(chain: list[Variant]) -> None:
    name = next(each.name for each in chain if each.name.endswith("nodes 2-2"))
    found = profiled(chain, times(chain, (name,)))
    layer = found.layers[2]
    assert layer.note == "cannot be loaded: no such operator"
    assert (layer.alone_us, layer.ci_low_us) == (None, None)
    assert sum(each.latency_us or 0 for each in found.layers) == pytest.approx(found.latency_us)
    assert layer.latency_us == pytest.approx(OWN_US[2] + CALL_US, rel=0.15)
    assert "1 parts could not be timed alone" in found.layers_note


def test_a_model_of_one_part_is_told(tmp_path: Path) -> None:
    path = tmp_path / "relu.onnx"
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    path.write_bytes(onnx_model({"x": ("float32", (4,))}, {"y": ("float32", (4,))}, nodes))
    variants = with_parts([variant_of("relu.onnx", open_model(path), Setting("onnxruntime"))])
    assert len(variants) == 1
    found = profiled(variants, times(variants))
    assert found.layers == ()
    assert found.layers_note == "the whole runs as one part"
