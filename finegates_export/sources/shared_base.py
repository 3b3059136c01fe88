"""A base that many runs share: read and hashed once, its tensors shared in memory by every model made from it.

Each model has its own modules, whose parameters are views of the shared tensors. An export writes its changes into new
memory (pruning/fold.py, assemble.py), so memory holds one base and the results of the current export. If a shared
tensor were changed anyway, every later run would be folded onto another base, and its chain would not notice, because
its reference would be wrong as well: a checksum of all tensors is compared before each model is made.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from finegates_export.common.foreign import model_class
from finegates_export.errors import InputError
from finegates_export.sources.base import BaseModel, find_base
from finegates_export.sources.base_config import make_config
from finegates_export.sources.weights import Loading, check_amount, read_tensors

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from finegates_export.sources.heads import Loader


@dataclass(frozen=True)
class _Stored:
    """The stored tensors and their hashes, by name."""

    tensors: dict[str, Tensor]
    """Floating-point tensors in float32."""
    hashes: dict[str, str]
    """SHA-256 of the bytes as stored."""
    checksums: dict[str, int]
    """Checksums of the tensors in memory."""


@dataclass(frozen=True)
class SharedBase(BaseModel):
    """A base model whose files are read once, when first needed; otherwise like its parent class.

    It works wherever a `BaseModel` does. A caller that trains parameters of a model made from it must copy them first.
    The tensors stay in memory as long as the object does.
    """

    @classmethod
    def of(cls, base: BaseModel) -> SharedBase:
        """The same base, shared."""
        return base if isinstance(base, cls) else cls(base.id, base.revision, base.folder)

    @classmethod
    def find(cls, id_or_folder: str, revision: str | None = None) -> SharedBase:
        """Find a base in a folder or on the hub; see `find_base`.

        Raises:
            InputError: neither a folder nor reachable on the hub.
        """
        return cls.of(find_base(id_or_folder, revision))

    def tensor_hashes(self) -> dict[str, str]:
        """SHA-256 of every base tensor's bytes as stored, by name; computed while the files were read.

        Raises:
            InputError: a weight file is truncated or not safetensors.
        """
        return dict(self._stored.hashes)

    def build(self, loader: Loader, settings: dict[str, object]) -> tuple[PreTrainedModel, Loading]:
        """See `BaseModel.build`; the model's parameters are views of the shared tensors wherever names match.

        Raises:
            InputError: a weight file is truncated, or a shared tensor was changed.
        """
        import torch

        stored = self._stored
        self._check_unchanged(stored)
        config, rest = make_config(self.id, self.folder, settings)
        check_amount(self.id, loader, config, self.weight_files())
        model, loading = model_class(loader, config).from_pretrained(
            None,
            config=config,
            state_dict=dict(stored.tensors),
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **rest,
        )
        model.name_or_path = model.config.name_or_path = str(self.folder)
        return model, loading

    @cached_property
    def _stored(self) -> _Stored:
        import torch

        stored = _Stored({}, {}, {})
        for file in self.weight_files():
            for name, tensor, digest in read_tensors(file):
                held = tensor.to(torch.float32) if tensor.is_floating_point() else tensor
                stored.tensors[name], stored.hashes[name], stored.checksums[name] = held, digest, _checksum(held)
        return stored

    def _check_unchanged(self, stored: _Stored) -> None:
        for name, tensor in stored.tensors.items():
            if _checksum(tensor) != stored.checksums[name]:
                raise InputError(
                    f"{self.id}: tensor {name} was changed in memory by an earlier user of this shared base; share "
                    "the base again, and train only on copies of its tensors"
                )


def _checksum(tensor: Tensor) -> int:
    return zlib.crc32(tensor.numpy().data)
