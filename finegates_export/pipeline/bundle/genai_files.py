"""Writes what generation clients read beside a graph with a cache.

generation_config.json   transformers' own: which tokens end a text, and how the base's makers sample
genai_config.json        onnxruntime-genai's description of the graph, where it runs it

onnxruntime-genai reads heads and widths of each layer off the graph, and skips layers without a cache; tried with
0.18.0. It gives keys and values of one layer the same shape, so it cannot run a layer whose values are narrower or
wider than its keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finegates_export.common.cache_layout import IDS, MASK, PAST, POSITIONS, PRESENT, CacheLayout
from finegates_export.common.files import write_json
from finegates_export.common.tasks import LOGITS
from finegates_export.errors import InputError
from finegates_export.families.model_config import ModelConfig
from finegates_export.pruning.vocabulary.cut import Settings

GENERATION_CONFIG, GENAI_CONFIG = "generation_config.json", "genai_config.json"
SAMPLING = ("do_sample", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams")
"""Settings of sampling, with the same names in both files."""


def generation_settings(folders: list[Path], config: ModelConfig) -> Settings:
    """The content of `generation_config.json`.

    Args:
        folders: where to look for it: the run's, the base's.
        config: the base's transformers config, the fallback if there is none.

    Raises:
        InputError: transformers cannot read it.
    """
    from transformers import GenerationConfig

    from finegates_export.sources.base_config import FOREIGN, one_line

    found = next((folder for folder in folders if (folder / GENERATION_CONFIG).is_file()), None)
    try:
        made = GenerationConfig.from_model_config(config) if found is None else GenerationConfig.from_pretrained(found)
        values: Settings = made.to_diff_dict()
    except FOREIGN as error:
        place = "the base's config.json" if found is None else str(found / GENERATION_CONFIG)
        raise InputError(
            f"{place} has no usable generation settings ({one_line(error)}); restore the base's own"
        ) from error
    return {name: value for name, value in values.items() if name != "_from_model_config"}


def genai_refusal(layout: CacheLayout) -> str | None:
    """Why onnxruntime-genai cannot run a graph with this cache; None if it can."""
    if not layout.layers:
        return "no layer has attention left, and it wants a cache"
    uneven = next((one for one in layout.layers if one.key_width != one.value_width), None)
    if uneven is None:
        return None
    return (
        f"layer {uneven.layer} has keys of {uneven.key_width} and values of {uneven.value_width} dims, and it gives "
        "both one shape"
    )


@dataclass(frozen=True)
class GenerationFiles:
    """Both files of one export."""

    config: ModelConfig
    """The base's transformers config."""
    layout: CacheLayout
    settings: Settings
    """See `generation_settings`."""
    max_length: int
    """Most tokens that the model reads."""

    def write(self, folder: Path, graph: Path) -> None:
        """Write both, the second only if `genai_refusal` allows it.

        Args:
            folder: the bundle.
            graph: the graph to run.
        """
        write_json(folder / GENERATION_CONFIG, self.settings)
        if genai_refusal(self.layout) is None:
            write_json(folder / GENAI_CONFIG, self._genai(graph.relative_to(folder).as_posix()))

    def _genai(self, graph: str) -> dict[str, object]:
        first = self.layout.layers[0]
        caches = {
            f"{word}_{part}_names": f"{prefix}.%d.{part}"
            for word, prefix in (("past", PAST), ("present", PRESENT))
            for part in ("key", "value")
        }
        inputs = {IDS: IDS, MASK: MASK, POSITIONS: POSITIONS}
        decoder = {
            "session_options": {"log_id": "onnxruntime-genai", "provider_options": []},
            "filename": graph,
            "head_size": first.key_width,
            "hidden_size": self.config.hidden_size,
            "inputs": {**inputs, **{name: value for name, value in caches.items() if name.startswith("past")}},
            "outputs": {
                LOGITS: LOGITS,
                **{name: value for name, value in caches.items() if name.startswith("present")},
            },
            "num_attention_heads": self.config.num_attention_heads,
            "num_hidden_layers": self.layout.layer_count,
            "num_key_value_heads": first.heads,
        }
        tokens = {f"{name}_token_id": self.settings.get(f"{name}_token_id") for name in ("bos", "eos", "pad")}
        if tokens["pad_token_id"] is None:  # padding is masked, so any token will do
            ends = tokens["eos_token_id"]
            tokens["pad_token_id"] = ends[0] if isinstance(ends, list) else ends
        known = {name: value for name, value in tokens.items() if value is not None}
        search = {name: self.settings[name] for name in SAMPLING if self.settings.get(name) is not None}
        return {
            "model": {
                "type": "decoder",
                "context_length": self.max_length,
                "vocab_size": self.config.vocab_size,
                **known,
                "decoder": decoder,
            },
            "search": {"max_length": self.max_length, **search},
        }
