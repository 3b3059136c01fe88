"""Tiny language models with a tokenizer that has no padding token, and text to train them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.tiny import FILLERS, OPINIONS, labelled_texts
from tests.tiny_models import VOCABULARY, redraw, tiny_config

END = "<|end|>"
ROLES = ("<system>", "<user>", "<assistant>")
CHAT = (
    "{% for message in messages %}<{{ message.role }}> {{ message.content }} {{ eos_token }} {% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
MARKED_CHAT = (
    "{% for message in messages %}<{{ message.role }}> {% if message.role == 'assistant' %}"
    "{% generation %}{{ message.content }} {{ eos_token }}{% endgeneration %} "
    "{% else %}{{ message.content }} {{ eos_token }} {% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
"""The same, and it says what the assistant's words are."""


def decoder_tokenizer(chat_template: str | None = None) -> Any:
    """A token for every word; the end of a text is the only special token, as in GPT-2."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = ["<unk>", "\n", "<unused>", END, *ROLES, *FILLERS, *(word for group in OPINIONS for word in group)]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))  # noqa: S106  # not a password
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, chat_template=chat_template)


def byte_pair_tokenizer(texts: list[str], chat_template: str | None = None) -> Any:
    """Pieces of the texts' words, at most as many as a tiny model has rows."""
    from tokenizers import Tokenizer
    from tokenizers.decoders import Metaspace as SpaceDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import Metaspace
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE(unk_token="<unk>"))  # noqa: S106  # not a password
    tokenizer.pre_tokenizer, tokenizer.decoder = Metaspace(), SpaceDecoder()
    tokenizer.train_from_iterator(
        texts, BpeTrainer(vocab_size=VOCABULARY, special_tokens=["<unk>", "\n", "<unused>", END])
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, chat_template=chat_template)


def decoder_base(folder: Path, variant: str, *, head: str = "CausalLM", tied: bool = True, **shape: Any) -> Path:
    """Write a language model of one variant, as transformers stores it, its config without a padding token.

    Args:
        folder: where it goes.
        variant: a key of `DECODER_VARIANTS`.
        head: what follows `AutoModelFor` in the class that is written.
        tied: whether the head is the embeddings.
        shape: see `tiny_config`.
    """
    import transformers

    config = tiny_config(variant, **{"layers": 1, "intermediate": 96, **shape})
    config.tie_word_embeddings, config.pad_token_id = tied, None
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config)
    redraw(model, 0)
    model.save_pretrained(folder, safe_serialization=True)
    decoder_tokenizer(CHAT).save_pretrained(folder)
    return folder


def write_documents(folder: Path, rows: int = 96) -> Path:
    """A text file of short documents."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "documents.txt"
    path.write_text("\n\n\n".join(text for text, _ in labelled_texts(rows)) + "\n", encoding="utf-8")
    return path
