"""Asks a server over HTTP and gRPC; run by the environment that has tritonclient, imports nothing of this project.

`python client.py SPEC.json RESULT.json`

SPEC    {"http": "host:port", "grpc": "host:port", "model": name, "outputs": [name, ...],
         "requests": [{"text": [["text"], ["text", "pair"]]} or {"pixel_values": nested lists}, ...],
         "together": whether to send all requests at once, "classes": how many to ask for by name, 0 for none}
RESULT  {"http": [{"outputs": {name: nested lists}} or {"error": message}, ...], "grpc": [...]}
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

WORKERS = 8


def plain(array):
    decoded = [item.decode("utf-8") if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()]
    return np.array(decoded, object if array.dtype == object else array.dtype).reshape(array.shape).tolist()


def ask(module, address, spec, request):
    ((name, rows),) = request.items()
    words = name == "text"
    values = np.array(rows, object if words else np.float32)
    given = module.InferInput(name, list(values.shape), "BYTES" if words else "FP32")
    given.set_data_from_numpy(values)
    wanted = [module.InferRequestedOutput(output, class_count=spec["classes"]) for output in spec["outputs"]]
    try:
        with module.InferenceServerClient(address) as client:  # the HTTP client serves one thread alone
            answer = client.infer(spec["model"], [given], outputs=wanted)
    except InferenceServerException as error:
        return {"error": error.message()}
    return {"outputs": {output: plain(answer.as_numpy(output)) for output in spec["outputs"]}}


def main():
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    result = {}
    for name, module in (("http", tritonclient.http), ("grpc", tritonclient.grpc)):
        with ThreadPoolExecutor(WORKERS if spec["together"] else 1) as pool:
            result[name] = list(pool.map(partial(ask, module, spec[name], spec), spec["requests"]))
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


main()
