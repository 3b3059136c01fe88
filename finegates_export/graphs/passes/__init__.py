"""Rewrites of a graph, each an `onnx_ir` pass that says what it requires and ensures."""
