"""The base model: found in a folder or on the hub, hashed, and loaded from safetensors in float32.

Everything works on a folder: a hub id is first downloaded into the local cache. Weights in pickle are refused, and
`trust_remote_code` stays off.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.tasks import Task, task_of
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.errors import InputError, UnsupportedError, missing_extra
from finegates_export.families import family_of
from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig
from finegates_export.sources.base_config import CONFIG_JSON, FOREIGN, make_config, one_line, stored_quantized
from finegates_export.sources.heads import Loader, head_settings, loader_of
from finegates_export.sources.tokenizer import check_readable
from finegates_export.sources.weights import Loading, check_amount, check_fit, hash_tensors

if TYPE_CHECKING:
    from torch import nn
    from transformers import BaseImageProcessor, PreTrainedModel, PreTrainedTokenizerBase

HUB_FILES = [
    "*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "*.txt", "*.model", "*.codes", "LICENSE*",
    "README.md",
]  # fmt: skip
SINGLE_FILE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONVERT = "Convert it once if you trust it: AutoModel.from_pretrained(X).save_pretrained(Y) writes safetensors"


@dataclass(frozen=True)
class BaseModel:
    """A base model on disk."""

    id: str
    """What the user named: a folder or a hub id."""
    revision: str | None
    """The hub's commit; None for a folder."""
    folder: Path

    def config(self) -> ModelConfig:
        """The transformers config.

        Raises:
            InputError: there is none, or transformers cannot read it.
            UnsupportedError: it describes a model that is not served.
        """
        return make_config(self.id, self.folder, {})[0]

    def family(self) -> Family:
        """The family of this base; see `family_of`.

        Raises:
            UnsupportedError: there is none, or it does not support this config.
        """
        config = self.config()
        family = family_of(config.model_type)
        refusal = stored_quantized(config) or family.refusal(config)
        if refusal is None and getattr(config, "is_decoder", False) and not family.causal:
            refusal = "its config.json has is_decoder true: each token sees those before it only; use an encoder"
        if refusal:
            raise UnsupportedError(f"{self.id}: {refusal}")
        return family

    def weight_files(self) -> list[Path]:
        """The safetensors files with the weights, as transformers reads them.

        Raises:
            InputError: there are none, or only pickled ones.
        """
        single, index = self.folder / SINGLE_FILE, self.folder / INDEX
        # Saving over a sharded model leaves its index behind; transformers looks at it last.
        files = [single] if single.is_file() or not index.is_file() else _shards(index)
        missing = [file.name for file in files if not file.is_file()]
        if not missing:
            return files
        if any(self.folder.glob("*.bin")):
            raise InputError(
                f"{self.id} holds its weights in pickle (.bin), which can run code when loaded and is refused. "
                f"{CONVERT}"
            )
        if self.revision is not None and missing == [SINGLE_FILE]:
            raise InputError(
                f"{self.id} has no {SINGLE_FILE} on the hub, and weights in pickle (.bin), which can run code when "
                f"loaded, are not downloaded. {CONVERT}"
            )
        raise InputError(f"{self.id}: weights not found, {missing[0]} is missing in {self.folder}")

    def tensor_hashes(self) -> dict[str, str]:
        """SHA-256 of every base tensor's bytes as stored, by name.

        Raises:
            InputError: a weight file is truncated or not safetensors.
        """
        return {name: digest for file in self.weight_files() for name, digest in hash_tensors(file)}

    def load(self, task: str, labels: tuple[str, ...], pooling: Pooling | None = None) -> nn.Module:
        """The model for the task, in float32 and in evaluation mode.

        The base's own head is kept if it fits; otherwise transformers creates a new one. Tasks without a head get an
        `EncoderModel`.

        Args:
            task: a name of `TASKS`.
            labels: label names in the order of the head's outputs; empty for tasks without.
            pooling: how to pool the hidden state into an embedding.

        Raises:
            InputError: the weights cannot be read, or do not fit config.json.
            UnsupportedError: transformers has no such head for this architecture.
        """
        kind, config, family = task_of(task), self.config(), self.family()
        loader = loader_of(self.id, kind, config, family)
        causal = self._causal_settings(kind) if family.causal else {}
        try:
            with _quiet_transformers():
                model, loading = self.build(loader, {**head_settings(kind, labels, loader), **causal})
        except KeyError as error:  # of an activation, a kind of layer or of position
            raise InputError(f"{self.id}: config.json names {error}, which transformers does not support") from error
        except FOREIGN as error:
            raise InputError(f"{self.id}: weights cannot be loaded ({one_line(error)})") from error
        head = family.head_modules(model) if kind.has_head else ()
        check_fit(self.id, loading, model, head, config.num_hidden_layers)
        family.make_linears(model)
        if not kind.has_head:
            from finegates_export.sources.encoder_model import EncoderModel

            model = EncoderModel(model, family.prefix, pooling)
        return model.eval()

    def build(self, loader: Loader, settings: dict[str, object]) -> tuple[PreTrainedModel, Loading]:
        """A model with this base's weights, and transformers' report on the loading.

        Args:
            loader: of `loader_of`.
            settings: of `head_settings`.

        Raises:
            InputError: a weight file is truncated or not safetensors.
            Exception: transformers cannot load the weights; of those that `FOREIGN` lists, or KeyError.
        """
        import torch

        config, rest = make_config(self.id, self.folder, settings)
        check_amount(self.id, loader, config, self.weight_files())
        model, loading = loader.from_pretrained(
            self.folder,
            config=config,
            dtype=torch.float32,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            output_loading_info=True,
            **rest,
        )
        # Loaded tensors are views of the mapped file: keeping one would keep all of it resident.
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.clone()
        return model, loading

    def check_task(self, task: str) -> None:
        """Refuse a task for which this base has no head, without loading anything.

        Raises:
            UnsupportedError: transformers has no such head for this architecture; the message lists those it has.
        """
        loader_of(self.id, task_of(task), self.config(), self.family())

    def tokenizer(self, **settings: object) -> PreTrainedTokenizerBase:
        """The base's tokenizer; without a padding token, it pads with its end token, as is usual for decoders.

        Args:
            settings: changes to make.

        Raises:
            InputError: there is none.
            MissingExtraError: its only file needs a package that is not installed.
        """
        from transformers import AutoTokenizer

        check_readable(self.id, self.folder)
        try:
            if (self.folder / CONFIG_JSON).is_file():  # a run folder has none
                settings["config"] = self.config()
            tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False, **settings)
        except Exception as error:  # transformers and tokenizers raise everything here, plain Exception among it
            raise InputError(f"{self.id}: no usable tokenizer ({one_line(error)})") from error
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        return tokenizer

    def _causal_settings(self, task: Task) -> dict[str, object]:
        """Settings of a decoder's config: the cache for generation, and the padding token."""
        settings: dict[str, object] = {} if task.generates else {"use_cache": False}
        if task.one_answer:
            settings["pad_token_id"] = self.tokenizer().pad_token_id
            if settings["pad_token_id"] is None:
                raise InputError(
                    f"{self.id}: its tokenizer has neither a padding nor an end token, so that no row's last token can "
                    "be told; set pad_token in tokenizer_config.json"
                )
        return settings

    def preprocessor(self, task: str) -> PreTrainedTokenizerBase | BaseImageProcessor:
        """The image processor or tokenizer that makes a model's input for the task.

        Tokenizers that split at spaces are set to take words one by one if the task labels words.

        Raises:
            InputError: there is none.
            MissingExtraError: Pillow is not installed.
        """
        kind = task_of(task)
        if kind.images:
            return self.image_processor()
        tokenizer = self.tokenizer()
        if kind.reads_words and getattr(tokenizer, "add_prefix_space", True) is False:
            return self.tokenizer(add_prefix_space=True)
        return tokenizer

    def image_processor(self) -> BaseImageProcessor:
        """The base's image processor, on Pillow: it computes the same everywhere.

        Raises:
            InputError: there is none.
            MissingExtraError: Pillow is not installed.
        """
        try:
            import PIL  # noqa: F401  # transformers would name a dozen packages
        except ImportError as error:
            raise missing_extra("PIL", "train") from error
        from transformers import AutoImageProcessor

        try:
            with _quiet_transformers():
                return AutoImageProcessor.from_pretrained(self.folder, backend="pil", trust_remote_code=False)
        except FOREIGN as error:
            raise InputError(f"{self.id}: no usable image processor ({one_line(error)})") from error


def find_base(id_or_folder: str, revision: str | None = None) -> BaseModel:
    """Find a base model in a folder or, failing that, on the hub.

    Raises:
        InputError: neither a folder nor reachable on the hub.
        MissingExtraError: a hub id without the `export` extra installed.
    """
    local = local_base(id_or_folder)
    if local is not None:
        return local
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    except ImportError as error:
        raise missing_extra("huggingface_hub", "export") from error
    try:
        path = Path(snapshot_download(id_or_folder, revision=revision, allow_patterns=HUB_FILES))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        raise InputError(
            f"{id_or_folder} is neither a folder nor a model that the hub returned ({one_line(error)})"
        ) from error
    return BaseModel(id_or_folder, path.name, path)


def local_base(id_or_folder: str) -> BaseModel | None:
    """The base model in a folder; None for what is no folder and may be a hub id.

    Raises:
        InputError: the folder is not there, or has no config.json.
    """
    folder = Path(id_or_folder).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise InputError(f"{id_or_folder} is a folder without config.json; --base takes a saved transformers model")
        return BaseModel(str(folder.absolute()), None, folder.absolute())
    if folder.is_absolute() or id_or_folder.startswith("."):
        raise InputError(
            f"base model folder {id_or_folder} does not exist; give a saved transformers model or a hub id"
        )
    return None


def _shards(index: Path) -> list[Path]:
    """The files that an index names, without duplicates.

    Raises:
        InputError: it is damaged.
    """
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return [index.parent / name for name in sorted(set(names))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{index} does not say which files hold the weights ({error}); download it again") from error


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Silence the report on the new head, which is intended."""
    from transformers.utils import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        if bars:
            transformers_logging.enable_progress_bar()
