"""The page of the benchmark of decoders, and which of its goals are met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finegates_bench.measuring.stamp import stamp_line
from finegates_export.costs.timing.statistics import Interval, median_interval, ratio_interval

UNPRUNED = "0 float"
EXACT = 1e-4
"""Of the scale: what a link of the chain in float may differ by."""
OF_ALLOWED = 0.93
"""Of the tokens a second that the bytes allow."""
OF_FLOPS = 1.08
"""Of the kept FLOPs: a prompt's time over the unpruned model's."""
EXPORT_SECONDS = 180.0
EXPORT_SIZES = 4.0
"""Memory of an export, in sizes of the base's weights."""
IN_FLOAT = ("float", "cut")
"""Exports without integers."""
IDLE_LOAD = 0.5
"""Load average above which the page says that the machine was busy."""
MB, MIB = 1e6, 1 << 20


@dataclass(frozen=True)
class Goal:
    """What was asked for, and what was measured."""

    what: str
    asked: str
    measured: str
    met: bool


def markdown(result: dict[str, Any]) -> str:
    """The whole page."""
    stamp, prompts = result["stamp"], _prompts(result)
    lines = [
        "# Decoders: tokens a second, pruned and quantized",
        "",
        f"{result['base']}, units closed without training by what they hand on (so no quality is claimed), exported by "
        f"`finegates-export`; {stamp['threads']} threads, one text at a time, medians of "
        f"{len(result['models'][UNPRUNED]['decode'])} rounds or more in which all models took turns in one process, "
        f"95 % intervals in brackets. A token is written behind {result['prompt']} and half of {result['tokens']}.",
        "",
        "| removed | form | file, MB | read a token, MB | written, tokens/s | over unpruned float32 | bytes allow | "
        "first token, ms | " + " | ".join(f"prompt of {length}, tokens/s" for length in prompts) + " | peak, MiB |",
        "|" + "---|" * (9 + len(prompts)),
        *(_row(result, name, prompts) for name in result["models"]),
        "",
        "*Read a token*: all weights but the rows that are looked up, and the keys and values behind the middle one of "
        "the written tokens. *Bytes allow*: what a reader of as many bytes a second as the unpruned float32 model "
        "would reach. *Head*: the LM head is in int8 too (`--quantize-head`). *First token* (from the text, on a "
        "loaded model) and *peak* come from processes of their own.",
        "",
        "## Prompts against kept FLOPs",
        "",
        "Time over the unpruned model's of the same form; FLOPs of the layers' linears, Q K^T, A V and the LM head at "
        "every token.",
        "",
        "| removed | form | " + " | ".join(f"{length}: kept FLOPs | {length}: time" for length in prompts) + " |",
        "|" + "---|" * (2 + 2 * len(prompts)),
        *(_prefill_row(result, name, prompts) for name in result["models"] if not name.startswith("0 ")),
        "",
        *_cut_lines(result),
        "## Exports",
        "",
        "*Load before*: the machine's load average as the export began, the export before it included, which counts "
        "for about 1; beside other programs it takes longer.",
        "",
        "| removed | with | seconds | load before | peak, MiB | sizes of the base | worst float link |",
        "|---|---|---|---|---|---|---|",
        *(_export_row(result, name) for name in result["exports"]),
        "",
        "## Goals",
        "",
        "| goal | asked | measured | |",
        "|---|---|---|---|",
        *(f"| {goal.what} | {goal.asked} | {goal.measured} | {'met' if goal.met else '**missed**'} |"
          for goal in goals(result)),
        "",
        stamp_line(stamp),
    ]  # fmt: skip
    if result["load_before"] > IDLE_LOAD:
        busy = f"Other programs were running (load average {result['load_before']} before the start)."
        lines += ["", f"{busy} Ratios within a round suffer less from them than figures alone."]
    return "\n".join(lines) + "\n"


def goals(result: dict[str, Any]) -> Iterator[Goal]:
    """Every goal against what was measured."""
    exports = result["exports"].values()
    worst = max(_worst_float(one) for one in exports)
    yield Goal("the chain's links in float", f"{EXACT:.0e} of the scale", f"{worst:.1e}", worst <= EXACT)
    pruned = [name for name in result["models"] if not name.startswith("0 ")]
    for name in pruned:
        of = f"0 {result['models'][name]['form']}"
        share = _speed_ratio(result, name, of).median / allowed(result, name, of)
        what = f"{_told(result, name)}: written tokens/s, of what the bytes allow over unpruned {_form(result, of)}"
        yield Goal(what, f"{OF_ALLOWED}", f"{share:.3f}", share >= OF_ALLOWED)
    for name in pruned:
        for length in _prompts(result):
            kept, ratio = _kept(result, name, length), _prefill_ratio(result, name, length).median
            what = f"{_told(result, name)}: time of a prompt of {length}, over kept FLOPs"
            yield Goal(what, f"{OF_FLOPS}", f"{ratio / kept:.3f}", ratio <= OF_FLOPS * kept)
    for told, of_kind in (("float32 alone", True), ("int8 or int4 beside it", False)):
        some = [one for name, one in result["exports"].items() if (name.split()[1] in IN_FLOAT) == of_kind]
        if some:
            seconds = max(one["seconds"] for one in some)
            yield Goal(
                f"an export, {told}, seconds", f"{EXPORT_SECONDS:.0f}", f"{seconds:.0f}", seconds < EXPORT_SECONDS
            )
            sizes = max(one["peak_memory_bytes"] for one in some) / result["base_bytes"]
            yield Goal(
                f"an export, {told}, sizes of the base in memory", f"{EXPORT_SIZES:.0f}", f"{sizes:.1f}",
                sizes <= EXPORT_SIZES,
            )  # fmt: skip


def allowed(result: dict[str, Any], name: str, of: str) -> float:
    """How many times the tokens a second of another model the bytes allow."""
    return _read(result["models"][of]) / _read(result["models"][name])


def _row(result: dict[str, Any], name: str, prompts: list[str]) -> str:
    model = result["models"][name]
    speed = median_interval([1 / seconds for seconds in model["decode"]])
    first = median_interval([one["first token"] * 1000 for one in model["processes"]]).median
    reading = [f"{median_interval([int(n) / seconds for seconds in model['prefill'][n]]).median:.0f}" for n in prompts]
    peak = median_interval([one["peak_memory_bytes"] / MIB for one in model["processes"]]).median
    cells = [
        f"{model['removed']:.1%}", _form(result, name), f"{model['file_bytes'] / MB:.0f}", f"{_read(model) / MB:.0f}",
        _bracketed(speed, 1), _bracketed(_speed_ratio(result, name, UNPRUNED), 2),
        f"{allowed(result, name, UNPRUNED):.2f}", f"{first:.0f}", *reading, f"{peak:.0f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _cut_lines(result: dict[str, Any]) -> Iterator[str]:
    """Apart from the rest: a cut vocabulary is no longer the model that was pruned, but one of fewer words."""
    yield "## With a vocabulary cut to the text"
    yield ""
    yield (
        "`--vocabulary-of` with the text that is read here: the tokens it needs, the parts they are made of, and every "
        "byte. Their logits are those of the model with all tokens (the chain holds, on the random rows of --seed 1). "
        "In float32."
    )
    yield ""
    columns = "removed | tokens | file, MB | read a token, MB | written, tokens/s | over all tokens | bytes allow"
    yield f"| {columns} |"
    yield "|" + "---|" * 7
    for name, cut in result["cuts"].items():
        whole = result["models"][f"{name.split()[0]} float"]
        speeds = [whole["decode"], cut["decode"]]
        tokens = f"{cut['vocabulary']:,} of {whole['vocabulary']:,}"
        cells = [
            f"{cut['removed']:.1%}", tokens, f"{cut['file_bytes'] / MB:.0f}", f"{_read(cut) / MB:.0f}",
            _bracketed(median_interval([1 / seconds for seconds in speeds[1]]), 1),
            _bracketed(ratio_interval(speeds, [0], [1]), 2), f"{_read(whole) / _read(cut):.2f}",
        ]  # fmt: skip
        yield "| " + " | ".join(cells) + " |"
    yield ""


def _prefill_row(result: dict[str, Any], name: str, prompts: list[str]) -> str:
    cells = [f"{result['models'][name]['removed']:.1%}", _form(result, name)]
    for length in prompts:
        cells += [f"{_kept(result, name, length):.3f}", _bracketed(_prefill_ratio(result, name, length), 3)]
    return "| " + " | ".join(cells) + " |"


def _export_row(result: dict[str, Any], name: str) -> str:
    one = result["exports"][name]
    peak = one["peak_memory_bytes"]
    cells = [
        f"{one['removed']:.1%}", name.split()[1], f"{one['seconds']:.0f}", f"{one['load_before']}",
        f"{peak / MIB:.0f}", f"{peak / result['base_bytes']:.1f}", f"{_worst_float(one):.1e}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _worst_float(export: dict[str, Any]) -> float:
    exact = [link for link in export["links"] if link["exact"]]
    return max(max(link["relative"], link["hidden_relative"] or 0.0) for link in exact)


def _speed_ratio(result: dict[str, Any], name: str, of: str) -> Interval:
    """Tokens a second over another model's, round by round."""
    times = [result["models"][which]["decode"] for which in (of, name)]
    return ratio_interval(times, [0], [1])


def _prefill_ratio(result: dict[str, Any], name: str, length: str) -> Interval:
    """Time of a prompt over that of the unpruned model of the same form, round by round."""
    of = f"0 {result['models'][name]['form']}"
    times = [result["models"][which]["prefill"][length] for which in (name, of)]
    return ratio_interval(times, [0], [1])


def _kept(result: dict[str, Any], name: str, length: str) -> float:
    models = result["models"]
    return float(models[name]["prefill_flops"][length] / models[UNPRUNED]["prefill_flops"][length])


def _read(model: dict[str, Any]) -> float:
    return float(model["weight_bytes"] + model["cache_bytes"])


def _prompts(result: dict[str, Any]) -> list[str]:
    return list(result["models"][UNPRUNED]["prefill_flops"])


def _told(result: dict[str, Any], name: str) -> str:
    return f"{result['models'][name]['removed']:.0%} removed, {_form(result, name)}"


def _form(result: dict[str, Any], name: str) -> str:
    form: str = result["models"][name]["form"]
    return "float32" if form == "float" else form.replace("-", ", ")


def _bracketed(interval: Interval, digits: int) -> str:
    return f"{interval.median:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"
