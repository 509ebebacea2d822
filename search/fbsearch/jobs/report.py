"""What a person is told of a search that ended: each network, how the devices compare, and a warning."""

from collections.abc import Sequence
from pathlib import Path

from fblut.listing import list_layers
from fblut.table import Lut, is_published
from fbsearch.costs import COSTS, Cost
from fbsearch.jobs.search_job import Found


def describe_network(found: Found, lut: Lut, lut_file: Path, output: Path) -> str:
    """Return a network's layers, latency and accuracies, where it is written, and the next command."""
    architecture = found.architecture
    provenance, predicted = architecture.provenance, architecture.predicted
    assert predicted is not None
    low, high = predicted.ci_low_us, predicted.ci_high_us
    interval = "" if low is None or high is None else f" (95 %: {low:.1f} to {high:.1f})"
    lines = [
        f"predicted latency    {predicted.latency_us:.1f} µs{interval} on {predicted.device} ({predicted.runtime})",
        f"skip layers          {provenance['skip_layers']} of {len(architecture.choices)}",
        f"validation accuracy  {provenance['validation_accuracy_percent']:.1f} % of {provenance['validation_images']} "
        "images, with the supernet's weights",
    ]
    if found.goal.target is not None:
        share = 100 * provenance["candidates"][0]["cost"] / provenance["target"][0]
        lines.insert(1, f"target               {found.goal.target}; the network takes {share:.1f} % of it")
    if "test_accuracy_percent" in provenance:
        lines += [
            f"training accuracy    {provenance['training']['train_accuracy_percent']:.1f} % from scratch",
            f"test accuracy        {provenance['test_accuracy_percent']:.1f} % of {provenance['test_images']} images "
            "held out",
        ]
        device = "DEVICE" if is_published(lut.metadata) else predicted.device
        next_ = f"fbprof verify {found.path} --lut {lut_file} --device {device}"
        if predicted.runtime == "unknown":  # nothing can be measured as the table was
            weights = output / ("" if found.path.stem == "arch" else found.goal.name) / "weights.pt"
            next_ = f"fbprof export {found.path} --weights {weights} --format tflite"
    else:
        next_ = f"fbsearch train {found.path} --data {provenance['settings']['data']}"
    lines += [f"written              {found.path}; all of the run: {output}", f"next                 {next_}"]
    return f"network for {found.goal.name}\n\n{list_layers(architecture, lut)}\n\n" + "\n".join(lines) + "\n"


def describe_devices(found: Sequence[Found], table: dict[str, dict[str, float]]) -> str:
    """Return predicted latencies: a line for each network, a column for each device."""
    devices = list(next(iter(table.values())))
    width = max(len(each.goal.name) for each in found)
    lines = [f"{'network':{width}}  accuracy  " + "  ".join(f"{f'{name}, ms':>12}" for name in devices)]
    for each in found:
        accuracy = each.architecture.provenance["validation_accuracy_percent"]
        cells = "  ".join(f"{table[each.goal.name][name] / 1000:{max(12, len(name) + 4)}.4f}" for name in devices)
        lines.append(f"{each.goal.name:{width}}  {accuracy:6.1f} %  {cells}")
    return "\n".join(lines)


def skip_warning(found: Found) -> str:
    """Return a warning of a network that is mostly skip; empty for another."""
    provenance = found.architecture.provenance
    skips, layers = provenance["skip_layers"], len(found.architecture.choices)
    if skips <= layers / 2:
        return ""
    option = COSTS.declared("target_option").get(provenance["settings"]["cost"], Cost.target_option)
    cure = "a higher target leaves room for more" if provenance["target"] else f"{option} keeps it from that"
    return (
        f"warning: {skips} of {layers} layers of the network for {found.goal.name} are skip. Skip has no weights "
        f"to learn and looks good early; {cure}, and so do --skip-delay and --w-sampling uniform "
        "(docs/searching/skip.md)"
    )
