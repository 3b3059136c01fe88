"""RoBERTa, XLM-RoBERTa and CamemBERT: BERT's layers, positions counted from after the padding id."""

from __future__ import annotations

from finegates_export.families.bert import Bert
from finegates_export.families.model_config import ModelConfig


class Roberta(Bert):
    """`RobertaModel` and the models that share its modules (Liu et al., 2019)."""

    name = "roberta"
    model_types = ("roberta", "xlm-roberta", "camembert")
    prefix = "roberta"

    def max_length(self, config: ModelConfig) -> int:
        """Positions start at `pad_token_id + 1`, so that as many rows of the table are never used."""
        return int(config.max_position_embeddings - config.pad_token_id - 1)
