"""Rewrites of a graph: `onnx_ir` passes that check what they require and ensure."""
