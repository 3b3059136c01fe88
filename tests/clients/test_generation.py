"""onnxruntime-genai writes what the gated model writes, whatever heads each layer kept."""

from __future__ import annotations

import numpy as np
import pytest

from finegates_export import ExportOptions, export
from finegates_export.gates.gated_model import plain_model
from finegates_export.pruning.cache_widths import unpruned_cache
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import read_run
from finegates_export.verification.cached_forms import cached_torch_form
from finegates_export.verification.inputs import Batch
from finegates_export.verification.prompts import left_padded
from tests.clients.harness import Client, Question, ask
from tests.export.conftest import bundle_info
from tests.tiny import random_gates, tiny_run

GENAI = Client("genai_client.py", "genai", "text-generation")
COUNT = 24
PROMPTS = np.asarray([[5, 9, 14, 23, 41, 6], [7, 7, 50, 31, 11, 60]])
VARIANTS = ("llama", "qwen2", "qwen3", "mistral", "gpt2")


def written(run):
    """What the gated model writes behind the prompts, one after the other."""
    read = read_run(run)
    assembled = assemble(read, base_of(read))
    plain = plain_model(assembled.gated.model)
    layout = unpruned_cache(assembled.family.structure(assembled.config))
    form = cached_torch_form(assembled.gated, assembled.family.encoder(plain), layout)
    rows = [form.write(Batch(left_padded([prompt])), COUNT).inputs["input_ids"][0] for prompt in PROMPTS]
    return np.stack(rows)


@pytest.mark.parametrize("variant", VARIANTS)
def test_it_writes_the_gated_model_s_tokens_though_layers_kept_other_heads(variant, workshop, tmp_path):
    GENAI.command()
    base = workshop.base(variant=variant, generator=True)
    found = find_base(str(base))
    structure = found.family().structure(found.config())
    gates = random_gates(structure, "coupled", {"qk": 0.0, "vo": 0.0, "ffn": 0.5}, 1)
    gates["layers.0.heads"][0] = -0.9
    run = tiny_run(tmp_path / "run", base, "coupled", task="text-generation", gates=gates)
    bundle = tmp_path / "bundle"
    export(ExportOptions(ckpt=run, out=bundle, threads=1))
    heads = [layer["heads"] for layer in bundle_info(bundle)["cache"]["cached"]]
    assert len(set(heads)) == 2
    question = Question([], {"input_ids": PROMPTS, "count": np.asarray(COUNT)})
    tokens = ask(GENAI, bundle, question, tmp_path).astype(int)
    expected = written(run)
    ends = [[*row[PROMPTS.shape[1] :], 3].index(3) for row in expected.tolist()]
    for row, (ours, theirs) in enumerate(zip(expected, tokens, strict=True)):
        stop = PROMPTS.shape[1] + ends[row]
        assert ours[:stop].tolist() == theirs[:stop].tolist()
    assert max(ends) > 4
