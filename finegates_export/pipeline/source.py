"""The first stage: find and check what is exported."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from finegates_export.common.tasks import Task, task_of
from finegates_export.families.model_config import ModelConfig

if TYPE_CHECKING:
    from finegates_export.common.tasks.pooling import Pooling
    from finegates_export.common.text_inputs import TextInputs
    from finegates_export.families.family import Family
    from finegates_export.families.structure import Structure
    from finegates_export.pruning.vocabulary.cut import Settings, VocabularyCut
    from finegates_export.sources.base import BaseModel
    from finegates_export.sources.run_folder import Run
    from finegates_export.verification.inputs import Batch


@dataclass(frozen=True)
class Source:
    """A run over its base, or a saved shrunk model, which is a run without gates and has no base."""

    run: Run
    base: BaseModel | None
    """None for a saved shrunk model."""
    config: ModelConfig
    """The base's transformers config."""
    vocabulary: VocabularyCut | None = None
    """The tokens that the exported model keeps; None if it keeps all."""

    @property
    def task(self) -> Task:
        """The task that was trained."""
        return task_of(self.run.info.task)

    @property
    def pooling(self) -> Pooling | None:
        """How the last hidden state is pooled into an embedding; None for other tasks."""
        return self.run.info.pooled_by()

    @cached_property
    def text_inputs(self) -> TextInputs | None:
        """How the delivered model's texts are read; None for images."""
        from finegates_export.sources.tokenizer import run_text_inputs

        how = run_text_inputs(self.run.info, self.run.folder)
        return self.vocabulary.text_inputs(how) if how and self.vocabulary else how

    @cached_property
    def family(self) -> Family:
        """The architecture."""
        from finegates_export.families import family_of

        return family_of(self.config.model_type)

    @cached_property
    def structure(self) -> Structure:
        """Where the unpruned model's linears are."""
        return self.family.structure(self.config)

    @property
    def delivered_config(self) -> ModelConfig:
        """The config as the graph's clients read it."""
        return self.vocabulary.config(self.config) if self.vocabulary else self.config

    def generation_settings(self) -> Settings:
        """A decoder's `generation_config.json`, with the ids of the whole vocabulary."""
        from finegates_export.pipeline.bundle.genai_files import GENERATION_CONFIG, generation_settings

        own = [self.run.folder] if GENERATION_CONFIG in self.run.info.files else []
        return generation_settings([*own, *([self.base.folder] if self.base else [])], self.config)

    def batches(self, seed: int = 0) -> list[Batch]:
        """The batches on which every form of the model is verified.

        Args:
            seed: seed of the random rows.
        """
        from finegates_export.verification.batches import inputs_for

        run = self.run
        if self.vocabulary:
            samples, texts = self.vocabulary.samples(run.samples), self.vocabulary.texts(run.texts)
            run = replace(run, samples=samples, texts=texts)
        return inputs_for(run, self.family, self.delivered_config, seed)


def find_source(ckpt: Path, base_place: str | None = None, base: BaseModel | None = None) -> Source:
    """Read a run, or a saved shrunk model, and verify its base by its hashes.

    Args:
        ckpt: the folder.
        base_place: where the base is now, if it has moved since training.
        base: the base, if the caller has found it already.

    Raises:
        InputError: the base cannot be found.
        RunFolderError: the folder is missing or damaged, or the base is not the one that the run was trained on.
    """
    from finegates_export.pruning.shrunk_folder import is_shrunk, read_config, run_of
    from finegates_export.sources.assemble import base_of, check_base
    from finegates_export.sources.run_folder import read_run
    from finegates_export.sources.run_tokenizer import check_tokenizer

    if is_shrunk(ckpt):
        run = run_of(ckpt)
        check_tokenizer(run)
        return Source(run, None, read_config(ckpt))
    run = read_run(ckpt)
    check_tokenizer(run)
    if base is None:
        base = base_of(run, base_place)
    else:
        check_base(run, base)
    return Source(run, base, base.config())


def cut_vocabulary(source: Source, text: Path) -> Source:
    """The same source with the vocabulary that a text needs.

    Args:
        source: a decoder.
        text: see `pruning.vocabulary.cut.cut_to_text`.

    Raises:
        InputError: the text or the tokenizer cannot be read.
        UnsupportedError: the vocabulary is not byte-pair encoding.
    """
    from finegates_export.pruning.vocabulary.cut import cut_to_text

    config = source.config
    settings = [source.generation_settings(), config.to_dict()]
    return replace(source, vocabulary=cut_to_text(text, source.run.folder, config.vocab_size, settings))
