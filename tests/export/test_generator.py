"""A generator writes what its graph says, whatever company a prompt has and however it is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import finegates_export
from finegates_export.common.tasks import task_of
from finegates_export.deploy.serving.model import Replica
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.triton.served import check_task
from finegates_export.errors import InputError, MissingExtraError, UnsupportedError
from finegates_export.runtime import GenerationOptions, causal
from finegates_export.runtime.limits import Limits
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import read_run
from tests.export.conftest import bundle_info
from tests.tiers import tiered
from tests.tiny import tiny_run
from tests.tiny_generator import END, POSITIONS, TinyDecoder, seal, tiny_generator
from tests.trainer.decoders import END as END_WORD
from tests.trainer.decoders import decoder_base, decoder_tokenizer

PROMPTS = ["a film", "", "the play told a story", "so", "\N{GRINNING FACE} ok", "x" * 30]
NEW = 9
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a song?"}]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return tiny_generator(tmp_path_factory.mktemp("generator") / "bundle")


@pytest.fixture(scope="module")
def generator(bundle):
    return finegates_export.load(bundle, threads=1)


def expected(generator, prompts, count=NEW, ends=(END,)):
    model = TinyDecoder()
    return [tuple(model.greedy(generator.encode(prompt), count, ends)) for prompt in prompts]


@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_greedy_tokens_are_those_of_the_model_without_a_cache(generator, batch_size):
    found = generator.generate(PROMPTS, GenerationOptions(max_new_tokens=NEW), batch_size=batch_size)
    assert [one.token_ids for one in found] == expected(generator, PROMPTS)
    assert [one.prompt_tokens for one in found] == [1 + len(prompt.encode()) for prompt in PROMPTS]
    assert all(one.new_tokens == NEW and one.finish_reason == "length" for one in found)


def test_a_prompt_that_is_read_part_by_part_is_continued_alike(generator, monkeypatch):
    monkeypatch.setattr(causal, "READ_TOGETHER", 12)
    found = generator.generate(PROMPTS, GenerationOptions(max_new_tokens=NEW))
    assert [one.token_ids for one in found] == expected(generator, PROMPTS)


def test_rows_that_end_early_leave_the_others_as_they_are(generator, tmp_path):
    whole = expected(generator, PROMPTS, ends=())
    ends = [whole[0][2], whole[2][5]]
    stopping = finegates_export.load(tiny_generator(tmp_path / "b", generation={"eos_token_id": ends}), threads=1)
    found = stopping.generate(PROMPTS, GenerationOptions(max_new_tokens=NEW))
    assert [one.token_ids for one in found] == expected(generator, PROMPTS, ends=tuple(ends))
    assert len({one.new_tokens for one in found}) > 2
    for one in found:
        assert (one.finish_reason == "stop") == (one.token_ids[-1] in ends)
        assert one.new_tokens == len(one.token_ids)


@pytest.mark.parametrize(
    ("config", "generation", "ends"),
    [
        ({"eos_token_id": 7}, {"eos_token_id": [5, 6]}, (5, 6)),
        ({"eos_token_id": 7}, {"temperature": 1.0}, (7,)),
        ({"eos_token_id": [7, 8]}, None, (7, 8)),
        ({}, None, (END,)),
    ],
)
def test_tokens_that_end_a_text_come_from_the_first_file_that_says_some(tmp_path, config, generation, ends):
    bundle = tiny_generator(tmp_path / "bundle", config=config, generation=generation)
    assert finegates_export.load(bundle).limits.ends == ends


@pytest.mark.parametrize("length", [POSITIONS - 3, POSITIONS])
def test_a_text_ends_where_the_positions_do(generator, length):
    prompt = "b" * (length - 1)  # and a start token
    (found,) = generator.generate([prompt], GenerationOptions(max_new_tokens=100))
    assert (found.finish_reason, found.new_tokens) == ("context", POSITIONS - length + 1)
    assert found.token_ids == expected(generator, [prompt], found.new_tokens, ends=())[0]


def test_a_prompt_that_is_too_long_is_refused_with_the_numbers(generator):
    with pytest.raises(InputError, match=f"prompt 1 has {POSITIONS + 1} tokens, but the model reads {POSITIONS}"):
        generator.generate(["a", "b" * POSITIONS])


def test_a_bundle_that_knows_no_positions_is_refused(bundle, tmp_path):
    lost = tiny_generator(tmp_path / "bundle", config={"max_position_embeddings": None})
    with pytest.raises(InputError, match=r"config\.json lacks max_position_embeddings and n_positions"):
        finegates_export.load(lost)


def test_streamed_pieces_are_the_text_of_generate_and_its_characters_are_whole(generator):
    options = GenerationOptions(max_new_tokens=30, temperature=1.0, seed=3)
    for prompt in PROMPTS[:5]:
        stream = generator.stream(prompt, options)
        assert stream.result is None
        pieces = list(stream)
        (whole,) = generator.generate([prompt], options)
        assert "".join(pieces) == whole.text
        assert stream.result == whole
        assert all(pieces)


def test_a_stop_string_ends_a_text_before_it(generator):
    (whole,) = generator.generate(["a film"], GenerationOptions(max_new_tokens=30))
    stop = whole.text[4:7]
    options = GenerationOptions(max_new_tokens=30, stop=("never there", stop))
    stream = generator.stream("a film", options)
    text = "".join(stream)
    assert text == whole.text[: whole.text.index(stop)]
    assert stream.result.finish_reason == "stop"
    assert stream.result.new_tokens < whole.new_tokens


def test_draws_depend_on_the_seed_and_on_no_company(generator):
    options = GenerationOptions(max_new_tokens=12, temperature=1.3, top_k=50, top_p=0.9, seed=5)
    together = generator.generate(PROMPTS, options)
    assert together == generator.generate(PROMPTS, options, batch_size=1)
    assert together[0] == generator.generate(PROMPTS[:1], options)[0]
    other = GenerationOptions(max_new_tokens=12, temperature=1.3, top_k=50, top_p=0.9, seed=6)
    assert together[0] != generator.generate(PROMPTS[:1], other)[0]
    twice = generator.generate(["a film", "a film"], options)
    assert twice[0] != twice[1]


def test_several_threads_agree_with_one(generator):
    options = GenerationOptions(max_new_tokens=NEW)
    expected_ones = [generator.generate([prompt], options) for prompt in PROMPTS] * 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda prompt: generator.generate([prompt], options), PROMPTS * 4)) == expected_ones


def test_a_chat_is_what_its_template_says_with_one_start_token(generator):
    ids = generator.encode(CHAT)
    assert ids.count(0) == 1 and ids[0] == 0
    assert ids.count(END) == 2
    (found,) = generator.generate([CHAT], GenerationOptions(max_new_tokens=3))
    assert found.token_ids == tuple(TinyDecoder().greedy(ids, 3))
    assert found.prompt_tokens == len("[system]be brief[user]a song?[assistant]") + 3


def test_a_chat_is_that_of_transformers(bundle, generator):
    from transformers import PreTrainedTokenizerFast

    theirs = PreTrainedTokenizerFast.from_pretrained(bundle)
    assert generator.encode(CHAT) == theirs.apply_chat_template(CHAT, add_generation_prompt=True)["input_ids"]


def test_templates_of_transformers_4_are_read(bundle, tmp_path):
    for number, template in enumerate(
        ("{{ messages[0].content }}", [{"name": "default", "template": "{{ bos_token }}!"}])
    ):
        older = tiny_generator(tmp_path / str(number), chat=False)
        config = json.loads((older / "tokenizer_config.json").read_text())
        (older / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))
        seal(older)
        loaded = finegates_export.load(older)
        assert len(loaded.encode(CHAT)) == (len("be brief"), 2)[number]


def test_chats_that_cannot_be_rendered_say_why(generator, tmp_path, monkeypatch):
    plain = finegates_export.load(tiny_generator(tmp_path / "bundle", chat=False))
    with pytest.raises(InputError, match="prompt 0 is a chat, but this bundle's tokenizer lacks a chat template"):
        plain.generate([CHAT])
    with pytest.raises(InputError, match="prompt 1: the chat template refuses this chat: no tools here"):
        generator.generate([CHAT, [{"role": "tool", "content": "7"}]])
    with pytest.raises(InputError, match=r"prompt 0: a message must be a mapping .* got \['role'\]"):
        generator.generate([[{"role": "user"}]])
    with pytest.raises(InputError, match=r"prompt 0: a message must be a mapping .* got \['1', 'role'\]"):
        generator.generate([[{"role": "user", 1: "a song?"}]])
    with pytest.raises(InputError, match="a chat needs at least one message"):
        generator.generate([[]])
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(
        MissingExtraError, match=r"jinja2 is not installed. Run: pip install 'finegates-export\[chat\]'"
    ):
        generator.generate([CHAT])


@pytest.mark.parametrize(
    "template",
    ["{% for call in messages[0].tool_calls %}{% endfor %}", "{{ '' + messages[0].tool_calls }}", "{% break %}"],
)
def test_a_template_that_fails_on_a_chat_is_told_as_one_that_refuses_it(tmp_path, template):
    failing = tiny_generator(tmp_path / "bundle")
    (failing / "chat_template.jinja").write_text(template)
    seal(failing)
    with pytest.raises(InputError, match="prompt 0: the chat template refuses this chat: "):
        finegates_export.load(failing).generate([[{"role": "user", "content": "a song?", "tool_calls": None}]])


def test_a_template_stays_in_its_sandbox(bundle, tmp_path):
    outside = tiny_generator(tmp_path / "bundle")
    (outside / "chat_template.jinja").write_text("{{ ''.__class__.__mro__[1].__subclasses__() }}")
    seal(outside)
    with pytest.raises(InputError, match=r"refuses this chat: .*unsafe"):
        finegates_export.load(outside).generate([CHAT])


@pytest.mark.parametrize(
    ("prompts", "told"),
    [
        ("a film", r"wrap a single one: generate\(\[prompt\]\)"),
        (CHAT, r"a chat is one prompt: generate\(\[messages\]\)"),
        ({"role": "user"}, "takes a list of prompts, got dict"),
        (7, "takes a list of prompts, got int"),
        (type("Table", (list,), {"columns": ("text",)})(), "takes a list, got Table; pass one of its columns"),
        (["a", 7], "prompt 1 must be a text or a list of messages, got int"),
        (["\ud800"], "is not valid Unicode"),
    ],
)
def test_what_is_no_prompt_is_refused(generator, prompts, told):
    with pytest.raises(InputError, match=told):
        generator.generate(prompts)


def test_a_prompt_without_a_token_is_refused(bundle, tmp_path):
    bare = tiny_generator(tmp_path / "bundle")
    tokenizer = json.loads((bare / "tokenizer.json").read_text())
    (bare / "tokenizer.json").write_text(json.dumps({**tokenizer, "post_processor": None}))
    seal(bare)
    with pytest.raises(InputError, match="prompt 1 has no token"):
        finegates_export.load(bare).generate(["a", ""])


def test_no_prompts_have_no_continuations(generator):
    assert generator.generate([]) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0}, {"max_new_tokens": 1.5}, {"temperature": -1.0}, {"temperature": float("nan")},
        {"temperature": 1.0, "top_k": 0}, {"top_k": 5}, {"temperature": 1.0, "top_p": 0.0}, {"top_p": 0.5},
        {"temperature": 1.0, "top_p": 1.1}, {"seed": -1}, {"stop": "text"}, {"stop": ("",)},
    ],
)  # fmt: skip
def test_impossible_options_are_named(wrong):
    with pytest.raises(ValueError, match=f"^{list(wrong)[-1]}: "):
        GenerationOptions(**wrong)


def test_options_go_to_json_and_back():
    options = GenerationOptions(temperature=0.7, top_k=4, stop=("a", "b"))
    assert GenerationOptions.from_json(json.loads(json.dumps(options.to_json()))) == options


def test_the_wrong_verb_is_told_the_right_one(generator, bundle):
    with pytest.raises(InputError, match="writes texts: call generate or stream, not predict"):
        generator.predict(["a film"])
    with pytest.raises(ValueError, match="buckets: a bundle for text-generation takes none"):
        finegates_export.load(bundle, buckets=8)
    with pytest.raises(InputError, match="has no int4 graph"):
        finegates_export.load(bundle, form="int4")


def test_servers_and_the_page_refuse_it(bundle):
    with pytest.raises(UnsupportedError, match="task text-generation cannot be served; supported are classification"):
        Replica(bundle, ServeOptions(bundles=(bundle,)))
    with pytest.raises(UnsupportedError, match="text-generation: Triton repositories do not keep a cache"):
        check_task(task_of("text-generation"), ["logits"])
    assert not task_of("text-generation").has_page


@pytest.mark.slow
@pytest.mark.parametrize("variant", tiered(["llama", "gpt2"], default=1))
def test_an_exported_decoder_writes_what_the_gated_one_does(workshop, variant):
    base = workshop.make(f"decoder base {variant}", lambda folder: decoder_base(folder, variant, layers=2))
    gates = {"qk": 0.3, "vo": 0.3, "ffn": 0.4}
    run = workshop.make(
        f"decoder run {variant}",
        lambda folder: tiny_run(folder, base, "coupled", task="text-generation", gates=gates, samples=0),
    )
    loose = {"quantize": "int8", "min_agreement": 0.01, "max_metric_loss": 100.0}
    bundle = workshop.bundle(run, **loose)
    prompts = ["the film was great", "a", "so the play told a story and"]
    told = GenerationOptions(max_new_tokens=8)
    gated = assemble(read_run(run), base_of(read_run(run))).gated
    loaded = finegates_export.load(bundle, threads=1)
    assert loaded.limits == Limits(bundle_info(bundle)["positions"], (decoder_tokenizer().eos_token_id,))
    for prompt, found in zip(prompts, loaded.generate(prompts, told), strict=True):
        known = loaded.encode(prompt)
        for token in found.token_ids:
            with torch.no_grad():
                assert token == int(gated(input_ids=torch.tensor([known])).logits[0, -1].argmax())
            known.append(token)
        words = [decoder_tokenizer().convert_ids_to_tokens(token) for token in found.token_ids]
        assert found.text.split() == [word for word in words if word not in (None, END_WORD)]
    quantized = finegates_export.load(bundle, form="int8", threads=1).generate(prompts, told)
    assert [one.prompt_tokens for one in quantized] == [4, 1, 7]


@pytest.mark.slow
def test_a_decoder_without_attention_left_is_exported_and_writes(workshop):
    base = workshop.make("decoder base llama", lambda folder: decoder_base(folder, "llama", layers=2))
    run = workshop.make(
        "decoder run without attention",
        lambda folder: tiny_run(folder, base, "coupled", task="text-generation", gates={"heads": 1.0}, samples=0),
    )
    loaded = finegates_export.load(workshop.bundle(run, quantize="none"), threads=1)
    assert loaded.graph.layout.layers == ()
    (found,) = loaded.generate(["the film"], GenerationOptions(max_new_tokens=3))
    gated = assemble(read_run(run), base_of(read_run(run))).gated
    known = loaded.encode("the film")
    with torch.no_grad():
        assert found.token_ids[0] == int(gated(input_ids=torch.tensor([known])).logits[0, -1].argmax())


WRITING = """
import json, sys
import finegates_export
from finegates_export import GenerationOptions
found = finegates_export.load(sys.argv[1]).generate(["a film"], GenerationOptions(max_new_tokens=4))
print(json.dumps([sorted(set(sys.modules) & {"torch", "transformers", "onnx", "peft", "jinja2"}), found[0].token_ids]))
"""


def test_writing_needs_neither_torch_nor_transformers(bundle, generator):
    command = [sys.executable, "-c", WRITING, bundle]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert json.loads(done.stdout) == [[], list(expected(generator, ["a film"], 4)[0])]


def test_the_model_of_these_tests_looks_at_places_and_at_what_was_read():
    model = TinyDecoder()
    one = model.logits([5, 6, 7])
    assert np.abs(one - model.logits([6, 5, 7])).max() > 0.1
    assert np.abs(one - model.logits([0, 5, 6, 7])).max() > 0.1
