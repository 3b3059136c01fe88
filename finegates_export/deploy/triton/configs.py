"""The models of a repository and their configs, as mappings that `pbtxt` writes.

NAME             the ensemble that requests call: text in, label and scores out
NAME_tokenizer   Python backend: texts to ids
NAME_graph       onnxruntime: the bundle's graph
NAME_answer      Python backend: logits to labels and probabilities, if the task has labels
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from finegates_export.common.tasks import LOGITS
from finegates_export.deploy.triton.accelerator import accelerated
from finegates_export.deploy.triton.pbtxt import Message, Word, pairs, parameters
from finegates_export.deploy.triton.served import Served
from finegates_export.deploy.triton.signature import FREE, Tensor

TOKENIZER, GRAPH, ANSWER = "tokenizer", "graph", "answer"
TEXT = Tensor("text", "TYPE_STRING", (FREE,))
"""A row holds one text or a pair of texts."""
LABELS_FILE = "labels.txt"
ATTENDED = "attention_mask"
WARM_UP_TEXT = "warm-up"
"""The file in the tokenizer's warm-up folder that holds a text in Triton's format."""


def ensemble_config(served: Served) -> Message:
    """The ensemble that requests call: which tensors go from model to model."""
    inputs = served.signature.inputs if served.task.images else (TEXT,)
    return {
        "name": served.name,
        "platform": "ensemble",
        "max_batch_size": served.options.max_batch,
        "input": [_declared(tensor) for tensor in inputs],
        "output": [_declared(tensor, LABELS_FILE if tensor.name == "scores" else None) for tensor in _answers(served)],
        "ensemble_scheduling": {"step": list(_steps(served))},
    }


def _steps(served: Served) -> Iterator[Message]:
    """The models of the ensemble, in their order."""
    inputs, answers = _names(served.signature.inputs), _names(_answers(served))
    if not served.task.images:
        yield _step(served, TOKENIZER, [TEXT.name], inputs)
    if served.decides:
        yield _step(served, GRAPH, inputs, [LOGITS])
        yield _step(served, ANSWER, [LOGITS], answers)
    else:  # the graph's output is the answer, renamed if it is a score
        outputs = _names(_graph_output(served))
        yield _step(served, GRAPH, inputs, outputs, dict(zip(outputs, answers, strict=True)))


def tokenizer_config(served: Served) -> Message:
    """Texts to ids, padded to one of a few lengths."""
    warm_up = {"name": "text", "batch_size": 1, "inputs": pairs({"text": _filled(TEXT, 1, WARM_UP_TEXT)})}
    values = {
        "lengths": ",".join(map(str, served.lengths)),
        "pad_id": str(served.text.pad_token_id),
        "truncation_side": served.text.truncation_side,
        "segments": str(int(served.text.segments)),
        "splits_special_tokens": str(int(served.text.splits_special_tokens)),
        "one_answer": "1" if served.task.one_answer else "0",
    }
    return {
        **_python_model(served, TOKENIZER, [TEXT], served.signature.inputs),
        "parameters": parameters(values),
        "model_warmup": [warm_up] if served.options.warm_up else [],
    }


def answer_config(served: Served) -> Message:
    """Logits to labels and probabilities."""
    logits = Tensor(LOGITS, "TYPE_FP32", (len(served.labels),))
    values = {"labels": json.dumps(list(served.labels)), "several": "1" if served.task.several_labels else "0"}
    return {**_python_model(served, ANSWER, [logits], _answers(served)), "parameters": parameters(values)}


def graph_config(served: Served) -> Message:
    """The bundle's graph in onnxruntime."""
    options, tensorrt = served.options, served.device == "tensorrt"
    threads = {"intra_op_thread_count": str(options.threads)} if options.threads else {}
    return {
        "name": served.part(GRAPH),
        "backend": "onnxruntime",
        "default_model_filename": served.graph.name,
        "max_batch_size": options.max_batch,
        "input": [_declared(tensor) for tensor in served.signature.inputs],
        "output": [_declared(one, LABELS_FILE if one.name == LOGITS and served.labels else None)
                   for one in served.signature.outputs],
        "instance_group": [_instances(options.instances, "KIND_CPU" if served.device == "cpu" else "KIND_GPU")],
        "dynamic_batching": {
            "preferred_batch_size": list(options.preferred_batches),
            "max_queue_delay_microseconds": options.queue_delay,
        },
        "optimization": accelerated(served) if tensorrt else None,
        "parameters": parameters(threads),
        "model_warmup": [_graph_warm_up(served, length) for length in warm_lengths(served)],
    }  # fmt: skip


def warm_lengths(served: Served) -> tuple[int, ...]:
    """The lengths that the graph warms up with: the shortest and the longest."""
    if not served.options.warm_up:
        return ()
    return tuple(sorted({served.lengths[0], served.lengths[-1]})) if not served.task.images else (0,)


def attended_file(length: int) -> str:
    """The file in the graph's warm-up folder that holds an attention mask of ones."""
    return f"attended-{length}"


def _graph_warm_up(served: Served, length: int) -> Message:
    inputs = {
        tensor.name: _filled(tensor, length, attended_file(length) if tensor.name == ATTENDED else None)
        for tensor in served.signature.inputs
    }
    return {"name": f"length {length}" if length else "image", "batch_size": 1, "inputs": pairs(inputs)}


def _filled(tensor: Tensor, length: int, file: str | None) -> Message:
    dims = [length if size == FREE else size for size in tensor.dims]
    content: Message = {"input_data_file": file} if file else {"zero_data": True}
    return {"data_type": Word(tensor.data_type), "dims": dims, **content}


def _python_model(served: Served, what: str, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> Message:
    return {
        "name": served.part(what),
        "backend": "python",
        "max_batch_size": served.options.max_batch,
        "input": [_declared(tensor) for tensor in inputs],
        "output": [_declared(tensor) for tensor in outputs],
        "instance_group": [_instances(1, "KIND_CPU")],
        "dynamic_batching": {},
    }


def _answers(served: Served) -> tuple[Tensor, ...]:
    """What the ensemble returns."""
    if served.decides:
        return tuple(
            Tensor(one.name, "TYPE_STRING" if one.text else "TYPE_FP32", (1 if one.width is None else one.width,))
            for one in served.task.answer_tensors(served.labels)
        )
    return tuple(Tensor("score", one.data_type, one.dims) if one.name == LOGITS else one
                 for one in _graph_output(served))  # fmt: skip


def _graph_output(served: Served) -> list[Tensor]:
    return [tensor for tensor in served.signature.outputs if tensor.name == served.task.answer_output]


def _step(
    served: Served, what: str, inputs: Iterable[str], outputs: Iterable[str], renamed: Mapping[str, str] | None = None
) -> Message:
    """One model of the ensemble; tensors keep their names, except those in `renamed`."""
    return {
        "model_name": served.part(what),
        "model_version": FREE,  # the newest
        "input_map": pairs({name: name for name in inputs}),
        "output_map": pairs({name: (renamed or {}).get(name, name) for name in outputs}),
    }


def _names(tensors: Iterable[Tensor]) -> list[str]:
    return [tensor.name for tensor in tensors]


def _declared(tensor: Tensor, labels: str | None = None) -> Message:
    told = {"name": tensor.name, "data_type": Word(tensor.data_type), "dims": list(tensor.dims)}
    return {**told, "label_filename": labels}


def _instances(count: int, kind: str) -> Message:
    return {"count": count, "kind": Word(kind)}
