"""Files that are written: one set of rights for all, and JSON that is read by people."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from finegates_export.common.files import readable_json, staged_file, staged_folder, write_json
from finegates_export.common.tensor_files import save_tensors


@pytest.fixture(params=[0o022, 0o027, 0o077])
def rights(request: pytest.FixtureRequest) -> Iterator[int]:
    """The rights that a umask leaves a file."""
    before = os.umask(request.param)
    yield 0o666 & ~request.param
    os.umask(before)


def test_all_files_of_a_result_have_the_rights_that_the_umask_leaves(tmp_path: Path, rights: int) -> None:
    (tmp_path / "elsewhere").touch(mode=0o600)
    with staged_folder(tmp_path / "run", overwrite=False) as stage:
        save_tensors({"a": torch.zeros(2)}, stage / "a.safetensors")
        (stage / "adapter").mkdir()
        save_tensors({"a": torch.zeros(2)}, stage / "adapter" / "b.safetensors")
        write_json(stage / "run.json", {})
        (stage / "link").symlink_to(tmp_path / "elsewhere")
    with staged_file(tmp_path / "c.safetensors", overwrite=False) as file:
        save_tensors({"a": torch.zeros(2)}, file)
    written = [path for path in tmp_path.rglob("*") if path.suffix in (".json", ".safetensors")]
    assert {path.name: path.stat().st_mode & 0o777 for path in written} == dict.fromkeys(
        ("a.safetensors", "b.safetensors", "c.safetensors", "run.json"), rights
    )
    assert (tmp_path / "elsewhere").stat().st_mode & 0o777 == 0o600, "what a link leads to is not ours"


def test_lists_of_plain_values_are_on_one_line() -> None:
    content = {
        "kept": list(range(300)), "rows": [[1, 2], [3]], "words": ["é", 'a "b"'], "layers": [{"heads": [0, 1]}, {}],
        "nothing": [], "none": None, "pair": (1, 2), 7: 0.5,
    }  # fmt: skip
    text = readable_json(content)
    assert json.loads(text) == json.loads(json.dumps(content))
    assert f'  "kept": [{", ".join(map(str, range(300)))}],' in text.splitlines()
    assert '  "words": ["é", "a \\"b\\""],' in text.splitlines()
    assert '      "heads": [0, 1]' in text.splitlines()
    assert len(text.splitlines()) == 18
