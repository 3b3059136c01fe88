"""Writing, fusing, quantizing and inspecting ONNX graphs."""
