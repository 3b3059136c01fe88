"""The fresh process that loads a bundle and predicts: seconds of import, of loading and of the first prediction."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Read the spec named by the first argument, write the result to the second."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    started = time.perf_counter()
    from finegates_export import load

    imported = time.perf_counter()
    predictor = load(spec["bundle"], threads=spec["threads"])
    loaded = time.perf_counter()
    predictor.predict(spec["texts"])
    predicted = time.perf_counter()
    seconds = {"import": imported - started, "load": loaded - imported, "first prediction": predicted - loaded}
    heavy = sorted({"torch", "transformers"} & set(sys.modules))
    Path(sys.argv[2]).write_text(json.dumps({"seconds": seconds, "heavy": heavy}), encoding="utf-8")


if __name__ == "__main__":
    main()
