"""Writes what sentence-transformers reads beside a graph: the model's modules, and how its tokens are pooled.

modules.json                         encoder, pooling, and normalisation where the run has one
1_Pooling/config.json                how tokens become a sentence
2_Normalize/config.json              what is brought to length 1
sentence_bert_config.json            where texts are cut
config_sentence_transformers.json    how two embeddings are compared

The arguments determine every byte, so that the same run gives the same files; for that reason they hold no version.
"""

from __future__ import annotations

from pathlib import Path

from finegates_export.common.files import write_json
from finegates_export.common.tasks import SENTENCE
from finegates_export.common.tasks.pooling import MODE_FIELDS, MODULES, POOLING_CONFIG

ENCODER_CONFIG = "sentence_bert_config.json"
MODEL_CONFIG = "config_sentence_transformers.json"
NORMALIZE_CONFIG = Path("2_Normalize") / "config.json"
OTHER_MODES = ("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens")
"""Pooling modes that no run uses, written as off: old readers replace an absent mode with their own default."""


def write_pooling_files(folder: Path, *, pooling: str, normalize: bool, hidden_size: int, max_length: int) -> None:
    """Write the files that make a bundle a sentence-transformers model.

    Args:
        folder: the bundle.
        pooling: a mode of `tasks.POOLINGS`: `mean` over attended tokens, or `cls`.
        normalize: whether embeddings are scaled to length 1.
        hidden_size: dims of an embedding.
        max_length: most tokens of a text.
    """
    modules = [("Transformer", ""), ("Pooling", POOLING_CONFIG.parent.name)]
    if normalize:
        modules.append(("Normalize", NORMALIZE_CONFIG.parent.name))
        # Old readers need no file here, but an empty folder would not survive git, nor have a hash in bundle.json.
        _write(folder / NORMALIZE_CONFIG, {"module_input_name": SENTENCE, "module_output_name": SENTENCE})
    _write(folder / MODULES, [_module(number, *module) for number, module in enumerate(modules)])
    modes = {field: mode == pooling for field, mode in MODE_FIELDS.items()} | dict.fromkeys(OTHER_MODES, False)
    _write(folder / POOLING_CONFIG, {"word_embedding_dimension": hidden_size, **modes})
    _write(folder / ENCODER_CONFIG, {"max_seq_length": max_length, "do_lower_case": False})
    _write(folder / MODEL_CONFIG, {"model_type": "SentenceTransformer", "similarity_fn_name": "cosine"})


def _module(number: int, kind: str, path: str) -> dict[str, object]:
    return {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    write_json(path, content)
