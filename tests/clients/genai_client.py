"""onnxruntime-genai on the bundle of a decoder: the likeliest tokens behind each prompt.

<interpreter> SCRIPT SPEC.json RESULT.json; the forms of both are described in harness.py. `inputs` has, beside the
prompts' ids, `count`: how many tokens to write.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import onnxruntime_genai


def main() -> None:
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = onnxruntime_genai.Model(spec["bundle"])
    written = []
    for prompt in spec["inputs"]["input_ids"]:
        settings = onnxruntime_genai.GeneratorParams(model)
        settings.set_search_options(max_length=len(prompt) + spec["inputs"]["count"], do_sample=False)
        generator = onnxruntime_genai.Generator(model, settings)
        generator.append_tokens(prompt)
        while not generator.is_done():
            generator.generate_next_token()
        written.append([int(token) for token in generator.get_sequence(0)])
    versions = f"onnxruntime-genai {version('onnxruntime-genai')}"
    Path(sys.argv[2]).write_text(json.dumps({"outputs": {"tokens": written}, "version": versions}), encoding="utf-8")


main()
