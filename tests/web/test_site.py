"""The folder for the browser: its files and their names, what the page may ask for, and what is refused."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from finegates_export import ExportOptions, export, load
from finegates_export.deploy.web import libraries
from finegates_export.deploy.web.page import HASH_PLACE, IMPORT_MAP, import_map_hash
from finegates_export.errors import InputError, UnsupportedError
from tests.export.conftest import bundle_info
from tests.web.conftest import LENIENT, stand_in

MODEL = {
    "README.md", "bundle.json", "check.safetensors", "config.json", "export.json", "onnx/model.onnx",
    "onnx/model.onnx.data", "onnx/model_quantized.onnx", "tokenizer.json", "tokenizer_config.json",
}  # fmt: skip
PAGE = {
    "index.html", "page/answers.js", "page/icon.svg", "page/models.js", "page/page.js", "page/style.css",
    "page/view.js",
}  # fmt: skip
LIBRARIES = {
    "libraries/LICENSE.transformers", "libraries/ort-wasm-simd-threaded.mjs", "libraries/ort-wasm-simd-threaded.wasm",
    "libraries/ort.wasm.bundle.min.mjs", "libraries/transformers.web.min.js", "libraries/versions.json",
}  # fmt: skip
READABLE = 4.5
"""The contrast that text needs: level AA of the Web Content Accessibility Guidelines."""


def files_of(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def web(run, out, **options):
    return export(ExportOptions(ckpt=run, out=out, threads=1, target="web", **{**LENIENT, **options}))


def page_of(site):
    return (site / "index.html").read_text(encoding="utf-8")


def scripts_of(site):
    return {path.name: path.read_text(encoding="utf-8") for path in sorted((site / "page").glob("*.js"))}


@pytest.mark.slow
def test_the_folder_holds_both_models_the_page_and_its_libraries(site):
    assert files_of(site) == MODEL | PAGE | LIBRARIES | {f"unpruned/{name}" for name in MODEL}
    info = bundle_info(site)
    assert set(info["files"]) == files_of(site) - {"bundle.json"}
    assert info["graphs"] == ["onnx/model.onnx", "onnx/model_quantized.onnx"]
    assert info["target"] == bundle_info(site / "unpruned")["target"] == "web"


@pytest.mark.slow
def test_both_are_bundles_that_went_through_the_chain(site, run, unpruned, tmp_path):
    removed = []
    for folder in (site, site / "unpruned"):
        assert len(load(folder, threads=1, form="int8").predict(["a lovely film"])) == 1
        report = bundle_info(folder)["report"]
        assert [link["exact"] for link in report["links"]] == [True] * 6 + [False] * 2
        removed.append(report["plan"]["removed"])
    assert removed[0] > removed[1] == 0
    spoilt = shutil.copytree(site, tmp_path / "spoilt")
    with (spoilt / "unpruned" / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(InputError, match=r"unpruned/config\.json was changed"):
        load(spoilt)


@pytest.mark.slow
def test_the_graph_is_that_of_ort_cpu(site, workshop, run):
    for_cpu = workshop.bundle(run, quantize="int8", **LENIENT)
    for name in ("model.onnx", "model_quantized.onnx"):
        assert (site / "onnx" / name).read_bytes() == (for_cpu / name).read_bytes()
        assert (site / "unpruned" / "onnx" / name).read_bytes() != (for_cpu / name).read_bytes()


def test_int8_is_the_default_of_a_bundle_for_the_web_alone(tmp_path):
    def chosen(**options):
        return ExportOptions(ckpt="run", **{"out": tmp_path / "out", **options}).quantize

    assert chosen(target="web") == "int8"
    assert chosen(target="web", quantize="none") == chosen(target="web", out=tmp_path / "one.onnx") == "none"
    assert chosen() == chosen(target="portable") == "none"


@pytest.mark.slow
def test_the_page_asks_nobody_but_its_server(site):
    page = page_of(site)
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["connect-src"] == "'self'"
    (script,) = [source for source in rules["script-src"].split() if source.startswith("'sha256-")]
    assert script == f"'{import_map_hash(page)}'"
    assert script != f"'{import_map_hash(page.replace('./libraries/', './elsewhere/'))}'"
    assert HASH_PLACE not in page
    for text in (page, *scripts_of(site).values()):
        assert not re.search(r"(https?:)?//[\w.-]+\.\w", re.sub(r"(^|\s)//.*", "", text)), "an address"


@pytest.mark.slow
def test_everything_that_the_page_names_is_there(site):
    page, scripts = page_of(site), scripts_of(site)
    imports = json.loads(IMPORT_MAP.search(page)[1])["imports"]
    named = [*re.findall(r'(?:src|href)="([^"]+)"', page), *imports.values()]
    assert len(named) == 6
    assert all((site / name).is_file() for name in named)
    bare = {name for text in scripts.values() for name in re.findall(r'from "([^"]+)"', text)}
    assert {name for name in bare if not name.startswith("./")} == {"@huggingface/transformers"} <= set(imports)
    ids = set(re.findall(r'\bid="([^"]+)"', page))
    wanted = {
        name
        for text in scripts.values()
        for name in re.findall(r'(?:getElementById|element|made)\("([\w-]+)"', text)
    }  # fmt: skip
    assert len(wanted) > 10
    assert wanted <= ids


@pytest.mark.slow
def test_everything_has_a_name_for_those_who_cannot_see_it(site):
    page = page_of(site)
    assert '<html lang="en">' in page
    assert 'role="status"' in page
    assert set(re.findall(r'<textarea id="([^"]+)"', page)) == set(re.findall(r'<label for="([^"]+)"', page))
    assert page.count("<fieldset") == page.count("<legend>")
    assert page.count('class="bar"') == page.count('class="bar" aria-hidden="true"')


@pytest.mark.slow
def test_text_can_be_read_on_light_and_on_dark(site):
    style = (site / "page" / "style.css").read_text(encoding="utf-8")
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6});", part)) for part in style.split("@media")[:2]]
    for colours in schemes:
        pairs = [("ink", "paper"), ("ink", "card"), ("muted", "paper"), ("muted", "card"), ("on-accent", "accent")]
        for text, ground in [*pairs, ("wrong", "paper")]:
            assert contrast(colours[text], colours[ground]) > READABLE, f"{text} on {ground}"
        assert contrast(colours["grid"], colours["paper"]) < READABLE, "a line is no text"
    assert schemes[0]["paper"] != schemes[1]["paper"]


def contrast(one, other):
    """The ratio of two colours' luminances, as the guidelines define it."""
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.slow
def test_a_folder_for_ones_own_page_has_the_model_alone(workshop, run, tmp_path):
    web(run, tmp_path / "bare", page=False, quantize="none")
    assert files_of(tmp_path / "bare") == MODEL - {"onnx/model_quantized.onnx"}


@pytest.mark.slow
def test_a_task_that_the_page_cannot_show_gets_none(workshop, node_modules, tmp_path):
    vectors = workshop.run("coupled", task="embedding", layers=1)
    web(vectors, tmp_path / "vectors")
    assert files_of(tmp_path / "vectors").isdisjoint(PAGE | LIBRARIES)
    with pytest.raises(UnsupportedError, match="--web-libraries is for the page, and there is none for embedding"):
        web(vectors, tmp_path / "again", web_libraries=node_modules)
    assert not (tmp_path / "again").exists()


@pytest.mark.slow
def test_an_unpruned_model_that_is_none_is_refused(workshop, run, unpruned, tmp_path):
    other = workshop.run("none", labels=2, layers=1)
    for baseline, told in ((run, "has the layout 'coupled'"), (other, "base tensors differ")):
        with pytest.raises(InputError, match=told):
            web(run, tmp_path / "out", baseline=baseline)
    assert list(tmp_path.iterdir()) == []


def test_options_of_the_page_belong_to_the_web(tmp_path):
    out = {"out": tmp_path / "out"}
    for options in (out, {"target": "web", "page": False, **out}):
        for name in ("baseline", "web_libraries"):
            with pytest.raises(ValueError, match=f"{name.replace('_', '-')}: applies only to the page of --target web"):
                ExportOptions(ckpt="run", **options, **{name: "folder"})
    with pytest.raises(ValueError, match="baseline: applies to a bundle"):
        ExportOptions(ckpt="run", target="web", out=tmp_path / "one.onnx", baseline="folder")


def test_libraries_are_found_where_npm_puts_them(tmp_path):
    packages = stand_in(tmp_path / "node_modules")
    inside = packages / libraries.TRANSFORMERS / "node_modules" / libraries.ONNXRUNTIME
    found = libraries.find_libraries(packages)
    shutil.copytree(packages / libraries.ONNXRUNTIME, inside)
    assert libraries.find_libraries(packages).packages[1].folder == inside != found.packages[1].folder
    (tmp_path / "site").mkdir()
    found.copy(tmp_path / "site")
    told = json.loads((tmp_path / "site" / "libraries" / "versions.json").read_text())
    assert told[libraries.TRANSFORMERS] == {"version": "4.3.1", "licence": "MIT"}


TRANSFORMERS, ONNXRUNTIME = libraries.TRANSFORMERS, libraries.ONNXRUNTIME
SPOILT = {
    "is missing; run: npm install": lambda folder: shutil.rmtree(folder / TRANSFORMERS),
    "threaded.wasm is missing": lambda folder: (folder / ONNXRUNTIME / libraries.FILES[ONNXRUNTIME][2]).unlink(),
    "is version 3.7.1, but the page": lambda folder: stand_in(folder, **{TRANSFORMERS: "3.7.1"}),
    "is damaged": lambda folder: (folder / TRANSFORMERS / "package.json").write_text("{"),
}


@pytest.mark.parametrize("told", SPOILT)
def test_libraries_that_are_not_right_are_refused_before_anything_runs(told, run, tmp_path):
    folder = stand_in(tmp_path / "node_modules")
    SPOILT[told](folder)
    with pytest.raises(InputError, match=re.escape(told)):
        web(run, tmp_path / "out", web_libraries=folder)
    assert not (tmp_path / "out").exists()
