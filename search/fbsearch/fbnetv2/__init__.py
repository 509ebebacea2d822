"""FBNetV2 (CVPR'20), section 3: widths, expansions and input sizes searched by masks."""
