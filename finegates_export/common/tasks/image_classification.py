"""Image classification: one of several labels for each image."""

from __future__ import annotations

from finegates_export.common.tasks.classification import Classification


class ImageClassification(Classification):
    """Classification of pixels as the base's image processor makes them; served by Triton, not by `finegates-serve`."""

    name = "image-classification"
    auto_class = "AutoModelForImageClassification"
    architecture = "ForImageClassification"
    output_class = "ImageClassifierOutput"
    problem_type = None
    images = True
    joins_pairs = False
    takes = "takes an array of pixels"
    served = False
    has_page = False
