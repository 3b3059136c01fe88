"""Labelled rows from files, folders and `datasets` names: columns found by name, splits by a hash of the text."""

from __future__ import annotations

from finegates_trainer.data.image_files import open_image
from finegates_trainer.data.labels import encode_labels, label_name, label_names
from finegates_trainer.data.reading import read_data
from finegates_trainer.data.rows import DataSource, LabelledData, Rows, limit_rows

__all__ = [
    "DataSource", "LabelledData", "Rows", "encode_labels", "label_name", "label_names", "limit_rows", "open_image",
    "read_data",
]  # fmt: skip
