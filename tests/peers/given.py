"""What tests give to devices: an operator, a small space, names that a shell would act on."""

from fbspace.opspec import OpSpec

SPEC = OpSpec("ir", 16, 24, 16, 16, kernel=3, stride=2, expansion=3)
"""The operator of the fixture `models`."""
HOSTILE = ["two words", 'it\'s "quoted"', "a;touch pwned", "$(touch pwned)`touch pwned`", "line\nbreak", "-rf", "é*?"]
SPACE = """
description = "two layers"
input = { channels = 3, size = 16 }
classes = 4
head_channels = [16]
stem = [{ kind = "conv", channels = 8, kernel = 3, stride = 2 }]
stages = [{ channels = 8, repeats = 2, stride = 1 }]
[candidates]
k3 = { kind = "ir", kernel = 3, expansion = 2 }
skip = { kind = "skip" }
"""
