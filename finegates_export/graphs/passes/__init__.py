"""Fusions of ours, for what onnxscript's do not find; each returns how many it made."""
