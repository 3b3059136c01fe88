"""How the page cuts texts, in Node: at the end where the runtime cuts them, whatever marks are around a text."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from finegates_export.deploy import web

SCRIPT = Path(web.__file__).parent / "page_files" / "models.js"
NODE = shutil.which("node") or ""
LIBRARY = """
export const AutoModelForSequenceClassification = {}, AutoTokenizer = {};
export const env = { backends: { onnx: { wasm: {}, versions: {} } } };
export class Tensor { constructor(type, data) { this.data = data; } }
"""
ASK = """
import { readText } from "./models.js";

const { front, behind, tokens, how } = JSON.parse(process.argv[2]);
const tokenizer = (text, { add_special_tokens = true }) => {
  const own = text === "a" ? [7] : tokens;
  const input_ids = add_special_tokens ? [...front, ...own, ...behind] : own;
  return { input_ids, attention_mask: input_ids.map(() => 1) };
};
const read = readText(tokenizer, "any text", how);
console.log(JSON.stringify(Object.values(read).map(({ data }) => Array.from(data, Number))));
"""
LONGEST = 8

pytestmark = pytest.mark.skipif(not NODE, reason="needs Node")


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("count", [3, LONGEST, 20])
@pytest.mark.parametrize(("front", "behind"), [([], []), ([1], []), ([1], [2]), ([1], [2, 3])])
def test_a_long_text_loses_one_end_and_no_mark(tmp_path, front, behind, count, side):
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copyfile(SCRIPT, tmp_path / "models.js")
    (tmp_path / "ask.js").write_text(ASK)
    library = tmp_path / "node_modules" / "@huggingface" / "transformers"
    library.mkdir(parents=True)
    (library / "package.json").write_text('{"type": "module", "exports": "./index.js"}')
    (library / "index.js").write_text(LIBRARY)
    tokens = list(range(10, 10 + count))
    how = {"max_length": LONGEST, "truncation_side": side}
    asked = json.dumps({"front": front, "behind": behind, "tokens": tokens, "how": how})
    done = subprocess.run([NODE, "ask.js", asked], cwd=tmp_path, capture_output=True, text=True, check=True)
    room = LONGEST - len(front) - len(behind)
    expected = [*front, *(tokens[:room] if side == "right" else tokens[-room:]), *behind]
    assert json.loads(done.stdout) == [expected, [1] * len(expected)]
