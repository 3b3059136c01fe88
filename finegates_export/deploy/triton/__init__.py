"""A bundle as a model repository of NVIDIA Triton Inference Server; nothing here imports torch or transformers."""

from __future__ import annotations

from finegates_export.deploy.triton.options import TritonOptions
from finegates_export.deploy.triton.repository import RepositoryReport, write_repository

__all__ = ["RepositoryReport", "TritonOptions", "write_repository"]
