"""The chain of equivalence checks: gated, folded, shrunk, plain ONNX, fused ONNX, quantized, delivered."""
