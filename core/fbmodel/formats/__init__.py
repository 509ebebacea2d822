"""Formats of model files: one class in one file each, which derives from `fbmodel.model.Model`."""
