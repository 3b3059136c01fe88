"""The transformers class that loads a base for a task, and the head's settings."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, TypeAlias

from finegates_export.common.foreign import model_classes
from finegates_export.common.tasks import PIXELS, TASKS, Task
from finegates_export.errors import UnsupportedError
from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Loader: TypeAlias = "type[PreTrainedModel]"
"""A model class of transformers, or an auto class, which loads in the same way."""


def loader_of(base_id: str, task: Task, config: ModelConfig, family: Family) -> Loader:
    """The class of transformers that loads a model for the task.

    Args:
        base_id: the base as messages call it.
        task: the task.
        config: the base's transformers config.
        family: its family.

    Raises:
        UnsupportedError: there is none for this architecture; the message lists the tasks that it has.
    """
    import transformers

    def served(one: Task) -> bool:
        images = family.input_names(config) == (PIXELS,)
        if one.generates and not family.causal:
            return False  # transformers has generation heads for encoders too, but each token would see the next
        known = model_classes(getattr(transformers, one.auto_class))
        if type(config) not in known.keys():  # noqa: SIM118  # not a mapping
            return False
        classes = known[type(config)]
        chosen = classes[0] if isinstance(classes, tuple) else classes
        # Llama's question answering names the inner model differently from its other heads.
        return not one.has_head or (one.images == images and chosen.base_model_prefix == family.prefix)

    if not served(task):
        raise UnsupportedError(
            f"{base_id}: model type {config.model_type!r} has no head for the task {task.name!r}; it has "
            f"{', '.join(name for name, one in TASKS.items() if served(one))}"
        )
    return getattr(transformers, task.auto_class) if task.has_head else transformers.MODEL_MAPPING[type(config)]


def head_settings(task: Task, labels: tuple[str, ...], loader: Loader) -> dict[str, object]:
    """A task's head settings, as arguments of `from_pretrained`.

    Args:
        task: the task.
        labels: label names; empty for tasks without.
        loader: of `loader_of`.
    """
    if not task.has_head:
        has_pooler = "add_pooling_layer" in inspect.signature(loader.__init__).parameters
        return {"add_pooling_layer": False} if has_pooler else {}
    return task.head_settings(labels)
