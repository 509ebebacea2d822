"""How many families of timm's networks our tracer writes as ONNX and TFLite with the outputs of torch.

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


def worst(name: str, size: int) -> float:
    """Return the largest deviation of a network's output in any format, relative to the largest output."""
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
    errors = []
    for each in FORMATS:
        content = load_format(each).write(network, (1, 3, size, size))
        result = load_model(content, runtime_of(each))(x.numpy())[-1]
        errors.append(float(np.abs(result - expected).max() / np.abs(expected).max()))
    return max(errors)


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
    errors: dict[str, float] = {}
    refused: dict[str, str] = {}
    for name in chosen:
        try:
            errors[name] = worst(name, FAMILIES.get(name, {}).get("size", SIZE))
        except Exception as error:  # whatever a network of others raises: it is what the report is about
            refused[name] = f"{type(error).__name__}: {error}"
        print(name, errors.get(name, refused.get(name)), file=sys.stderr)
    passed = [name for name, error in errors.items() if error <= TOLERANCE]
    figures = [Figure("families", len(passed), "networks", goal=20, sense="at_least")]
    figures += [Figure(f"operators_{name}", number, "operators") for name, number in operators().items()]
    wrong = {name: error for name, error in errors.items() if error > TOLERANCE}
    report(
        "coverage", figures, quick=arguments.quick, timm=timm.__version__, passed=passed, wrong=wrong, refused=refused
    )


if __name__ == "__main__":
    main()
