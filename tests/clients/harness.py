"""Clients that are not ours, each a script run by an interpreter of its own, and what the gated model says to them.

A client is run as `<interpreter> SCRIPT SPEC.json RESULT.json` and imports nothing of this project.

SPEC    {"bundle": folder, "kind": what to load, "texts": [["text"], ["text", "pair"], ...],
         "inputs": {"input_ids": [[...]], ...} tokenized and padded, for clients without a tokenizer,
         "quantized": whether to take the int8 graph}
RESULT  {"outputs": {"logits": [[...]]}, "version": "..."}; outputs are named as in `finegates_export.common.tasks`

Shapes: B rows, S tokens, D hidden size.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from finegates_export.common.tasks import HIDDEN, LOGITS, SENTENCE

Array = npt.NDArray[Any]
HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".cache" / "clients"
REQUIRED = "FINEGATES_CLIENTS_REQUIRED"
"""Set by `make test-clients`, which has made every environment: one that is missing is then a failure."""
TOKENS = "tokens"
"""Ids of prompts and of what was written behind them."""
SECONDS = 300
"""A client that takes longer hangs."""
OUTPUTS = {
    "sequence-classification": LOGITS,
    "cross-encoder": LOGITS,
    "feature-extraction": HIDDEN,
    "sentence-transformer": SENTENCE,
    "sentence-embedding": SENTENCE,
    "text-generation": TOKENS,
}
"""What is compared, by the kind of loading; a bare graph gives what its task gives."""


@dataclass(frozen=True)
class Client:
    """One program that loads a bundle in one way."""

    script: str
    """Under tests/clients/."""
    environment: str
    """The folder under .cache/clients/; `own` is the environment that the tests run in."""
    kind: str
    """What it loads the bundle as."""

    def __str__(self) -> str:
        return f"{Path(self.script).stem.removesuffix('_client')} {self.kind}"

    def command(self) -> list[str]:
        """The interpreter and its script; the test is skipped where there is no such environment."""
        if self.environment == "own":
            return [sys.executable, str(HERE / self.script)]
        home = ENVIRONMENTS / self.environment
        if not (home / ".ready").is_file():
            reason = f"{home} is missing; `make test-clients` sets it up"
            if os.environ.get(REQUIRED) and (self.environment != "node" or shutil.which("npm")):
                pytest.fail(reason)
            pytest.skip(reason)
        interpreter = "node" if self.script.endswith(".mjs") else str(home / "bin" / "python")
        return [interpreter, str(HERE / self.script)]


@dataclass(frozen=True)
class Question:
    """Texts, tokenized once for the clients that cannot."""

    texts: list[list[str]]
    inputs: dict[str, Array]


def ask(client: Client, bundle: Path, question: Question, scratch: Path, *, quantized: bool = False) -> Array:
    """Run a client on a bundle.

    Args:
        client: the client; the test is skipped where it is not installed.
        bundle: the folder.
        question: what to compute.
        scratch: an empty folder for its two files.
        quantized: take the int8 graph.

    Returns:
        The output that the client's kind is about.
    """
    command = client.command()
    spec, result = scratch / "spec.json", scratch / "result.json"
    inputs = {name: np.asarray(values).tolist() for name, values in question.inputs.items()}
    asked = {"bundle": str(bundle), "kind": client.kind, "texts": question.texts, "inputs": inputs}
    spec.write_text(json.dumps({**asked, "quantized": quantized}), encoding="utf-8")
    result.unlink(missing_ok=True)
    home = ENVIRONMENTS / client.environment
    done = subprocess.run(
        [*command, str(spec), str(result)],
        cwd=home if client.script.endswith(".mjs") else scratch,
        env={**os.environ, "FINEGATES_NODE_MODULES": str(home), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{client} ended with status {done.returncode}: {done.stderr[-3000:]}", pytrace=False)
    answer = json.loads(result.read_text(encoding="utf-8"))
    outputs = answer["outputs"]
    name = OUTPUTS.get(client.kind) or next(name for name in (LOGITS, SENTENCE, HIDDEN) if name in outputs)
    print(f"{client}: {answer['version']}")  # noqa: T201  # pytest -s shows which version it was
    return np.asarray(outputs[name], np.float32)


def tokenized(run: Path, texts: list[list[str]], max_length: int) -> Question:
    """Texts or pairs as the run's own tokenizer makes them, cut at `max_length` and padded to the longest."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(run)
    columns: Iterable[tuple[str, ...]] = zip(*texts, strict=True)
    encoded = tokenizer(*map(list, columns), padding=True, truncation=True, max_length=max_length, return_tensors="np")
    return Question(texts, {name: np.asarray(values, np.int64) for name, values in encoded.items()})


def reference(run: Path, question: Question, output: str) -> Array:
    """What the gated torch model of a run computes, no bundle involved."""
    import torch

    from finegates_export.common.tasks.pooling import pool
    from finegates_export.families import family_of
    from finegates_export.sources.assemble import assemble, base_of
    from finegates_export.sources.run_folder import read_run

    read = read_run(run)
    assembled = assemble(read, base_of(read))
    names = family_of(assembled.config.model_type).input_names(assembled.config)
    with torch.no_grad():
        outputs = assembled.gated(**{name: torch.from_numpy(question.inputs[name]) for name in names})
    if output == LOGITS:
        return np.asarray(outputs.logits)
    hidden_BSD = np.asarray(outputs.last_hidden_state)
    pooling = read.info.pooled_by()
    if output == HIDDEN or pooling is None:
        return hidden_BSD
    return pool(hidden_BSD, question.inputs["attention_mask"], pooling)


def difference(expected: Array, given: Array, question: Question) -> float:
    """The largest difference as a share of the largest expected value; of token values, at attended tokens alone."""
    assert given.shape == expected.shape, f"a shape of {given.shape} and not {expected.shape}"
    assert np.isfinite(given).all()
    if expected.ndim == 3:
        attended = question.inputs["attention_mask"].astype(bool)
        expected, given = expected[attended], given[attended]
    return float(np.abs(expected - given).max() / np.abs(expected).max())
