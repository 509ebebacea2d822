"""How many families of timm's networks our tracer writes, as ONNX and TFLite, .pte and ncnn, with the outputs of torch.

usage: python benchmarks/coverage.py [--quick] [--only NAME…]

Networks are randomly initialised, in eval mode, and run once on an image of 128x128 (or as they need it) by the runtime
of each format; an output may be off by a thousandth of the largest. Each other is listed with the reason: the operator
that has no translation. `make install` brings timm; elsewhere: pip install --no-deps timm safetensors.
"""

import argparse
import sys
from typing import Any

from _report import Figure, report
from _torchvision import stand_in

FORMATS = ("onnx", "tflite")
"""A family passes in both."""
ALONE = ("pte", "ncnn")
"""Each has a figure of its own."""
TOLERANCE = 1e-3
SIZE = 128
FAMILIES = {
    "mobilenetv2_100": {}, "mobilenetv3_large_100": {}, "mobilenetv4_conv_small": {}, "efficientnet_lite0": {},
    "efficientnet_b0": {}, "fbnetc_100": {}, "fbnetv3_b": {}, "mnasnet_100": {}, "mixnet_s": {}, "tinynet_e": {},
    "ghostnet_100": {}, "hardcorenas_a": {}, "lcnet_050": {}, "mobileone_s0": {}, "repvgg_a0": {},
    "convnext_atto": {}, "edgenext_xx_small": {}, "fastvit_t8": {}, "levit_128s": {"size": 224},
    "efficientformer_l1": {"size": 224}, "resnet18": {}, "regnetx_002": {}, "regnety_002": {}, "spnasnet_100": {},
    "semnasnet_100": {}, "tf_mobilenetv3_small_100": {}, "ghostnetv2_100": {}, "mobilevit_xxs": {},
    "mobilevitv2_050": {}, "repghostnet_050": {}, "convnextv2_atto": {}, "starnet_s1": {}, "repvit_m0_9": {},
    "efficientvit_b0": {}, "poolformer_s12": {}, "vit_tiny_patch16_224": {"size": 224}, "hgnetv2_b0": {},
    "densenet121": {}, "rexnet_100": {}, "dla34": {}, "shvit_s1": {}, "mobilenetv4_hybrid_medium": {},
}  # fmt: skip
"""Names in timm, one for each family, and the size of the image where another is needed."""
QUICK = ("mobilenetv4_conv_small", "ghostnet_100", "convnext_atto", "mobileone_s0", "lcnet_050")


def deviations(name: str, size: int) -> dict[str, float | str]:
    """Return the largest deviation of a network's output by format, relative to the largest output, or why not."""
    import numpy as np
    import timm
    import torch

    from fbexport.formats import load_format
    from fbexport.runtimes import load_model, runtime_of

    torch.manual_seed(0)
    network = timm.create_model(name, pretrained=False).eval()
    x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = network(x).numpy()
    found: dict[str, float | str] = {}
    for each in (*FORMATS, *ALONE):
        try:
            content = load_format(each).write(network, (1, 3, size, size))
            result = load_model(content, runtime_of(each))(x.numpy())[-1]
            found[each] = float(np.abs(result - expected).max() / np.abs(expected).max())
        except Exception as error:  # whatever a network of others raises: it is what the report is about
            found[each] = f"{type(error).__name__}: {error}"
    return found


def operators() -> dict[str, int]:
    """Return how many of the operators in docs/extend/operators.md each format writes."""
    from pathlib import Path

    page = (Path(__file__).parents[1] / "docs/extend/operators.md").read_text()
    head, _, *rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return {name: sum(row[at] == "✓" for row in rows) for at, name in enumerate(head) if at}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these networks of timm")
    arguments = parser.parse_args()
    stand_in()
    try:
        import timm
    except ModuleNotFoundError:
        print("skipped: timm is not installed; pip install --no-deps timm safetensors", file=sys.stderr)
        report("coverage", [], quick=arguments.quick, missing="timm")
        return
    chosen: Any = arguments.only or (QUICK if arguments.quick else FAMILIES)
    found: dict[str, dict[str, float | str]] = {}
    for name in chosen:
        found[name] = deviations(name, FAMILIES.get(name, {}).get("size", SIZE))
        print(name, found[name], file=sys.stderr)

    def passing(*formats: str) -> list[str]:
        errors = {name: [each[of] for of in formats] for name, each in found.items()}
        return [name for name, each in errors.items() if all(isinstance(e, float) and e <= TOLERANCE for e in each)]

    passed = {"": passing(*FORMATS)} | {f"_{each}": passing(each) for each in ALONE}
    figures = [
        Figure(f"families{of}", len(names), "networks", goal=20, sense="at_least") for of, names in passed.items()
    ]
    figures += [Figure(f"operators_{name}", number, "operators") for name, number in operators().items()]
    others = {name: each for name, each in found.items() if any(name not in names for names in passed.values())}
    report("coverage", figures, quick=arguments.quick, timm=timm.__version__, passed=passed[""], others=others)


if __name__ == "__main__":
    main()
