"""Models of Triton's Python backend, copied into repositories as they are; they import nothing of this project."""
