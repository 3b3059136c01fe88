"""Models of Triton's Python backend, copied into repositories unchanged; they import nothing from this project."""
