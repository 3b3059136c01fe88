"""The page of a bundle for the browser; nothing here imports torch, onnxruntime or transformers."""
