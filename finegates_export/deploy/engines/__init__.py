"""TensorRT engines from exported graphs; nothing here imports torch, onnxruntime or transformers."""
