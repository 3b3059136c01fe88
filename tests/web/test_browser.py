"""The page in Chromium: a sentence is typed, and label, scores and times are read.

Needs Chromium and what `make test-web` installs; skipped without them.
"""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from finegates_export import load
from finegates_export.deploy.web.libraries import FOLDER
from tests.tiny import LORA
from tests.tiny_models import ENCODER_FAMILIES, IMAGE_VARIANTS
from tests.web.browser import LOOPBACK, need_browser, served, visit
from tests.web.conftest import LENIENT, site_of

TEXTS = (
    "a lovely film",
    "so",
    "The ending was sad, and the play was told rather ODDLY!",
    " ".join(["the play was very sad and told so"] * 6),
)
"""The last has more tokens than a row, and is cut."""
RUNTIME_FORMS = {"float32": "float", "int8": "int8"}
SHOWN = 6e-4
"""Scores are shown to a tenth of a percent."""
CLOSE = {"float32": SHOWN, "int8": 0.03}
"""WASM's integer kernels are not the processor's."""
OTHER = 0.05
PAGE = Path(__file__).parent.parent.parent / "docs" / "web.md"
BLOCK = re.compile(r"```bash\n(.*?)```", re.DOTALL)
FAMILIES = tuple(name for name in ENCODER_FAMILIES if name not in ("bert", *IMAGE_VARIANTS))


def silent(told):
    """Nothing on the console, and no request but to the page's server."""
    assert told["said"] == []
    assert {urlsplit(url).hostname for url in told["requested"]} == {LOOPBACK}
    return True


def expected(bundle, answer):
    (prediction,) = load(bundle, form=RUNTIME_FORMS[answer["form"]], threads=1).predict([answer["text"]])
    return prediction


def farthest(answer, prediction):
    return max(abs(answer["scores"][label] - score) for label, score in prediction.scores.items())


@pytest.fixture(scope="module")
def told(real_site, tmp_path_factory):
    """One visit, in both forms."""
    with served(real_site) as url:
        return visit(url, tmp_path_factory.mktemp("visit"), texts=TEXTS, forms=list(RUNTIME_FORMS))


def test_the_page_says_what_the_runtime_says(told, real_site):
    assert len(told["answers"]) == len(TEXTS) * len(RUNTIME_FORMS)
    for answer in told["answers"]:
        pruned, unpruned = (expected(bundle, answer) for bundle in (real_site, real_site / "unpruned"))
        assert answer["label"] == pruned.label
        assert farthest(answer, pruned) < CLOSE[answer["form"]]
        assert answer["says"]["pruned"].startswith(f"says {pruned.label}, ")
        assert answer["says"]["unpruned"].startswith(f"says {unpruned.label}, ")
        assert farthest(answer, unpruned) > OTHER, "another model would be told apart"


def test_both_models_are_timed_in_turns(told):
    for answer in told["answers"]:
        pruned, unpruned = (answer["times"][name] for name in ("pruned", "unpruned"))
        assert pruned > 0
        assert unpruned > 0
        assert re.match(r"Median of \d+ rounds in which both took turns; \d+ tokens.*, 1 thread\.", answer["how"])
        # Times are shown to a tenth of a millisecond, their ratio to a hundredth.
        low, high = (pruned - 0.05) / (unpruned + 0.05), (pruned + 0.05) / max(unpruned - 0.05, 0.01)
        assert low - 0.01 <= answer["ratio"] <= high + 0.01
    assert "the most that it reads" in told["answers"][len(TEXTS) - 1]["how"]
    assert "the most that it reads" not in told["answers"][0]["how"]


def test_nothing_goes_wrong_and_nobody_else_is_asked(told, real_site, tmp_path):
    assert silent(told)
    spoilt = shutil.copytree(real_site, tmp_path / "spoilt")
    page = spoilt / "index.html"
    alien = page.read_text(encoding="utf-8").replace(
        "</main>", '<img src="http://example.invalid/a.png" alt=""></main>'
    )
    page.write_text(alien, encoding="utf-8")
    with served(spoilt) as url:
        heard = visit(url, tmp_path)
    assert any("example.invalid" in words and "Content Security Policy" in words for words in heard["said"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(scheme, told, real_site, tmp_path):
    with served(real_site) as url:
        narrow = visit(url, tmp_path, texts=TEXTS[-1:], forms=["int8"], width=360, scheme=scheme)
    assert silent(narrow)
    assert narrow["needed"] == 360
    assert (narrow["background"] == told["background"]) == (scheme == "light")


def test_several_threads_where_the_server_isolates_the_page(real_site, tmp_path):
    answers = []
    for isolated in (True, False):
        with served(real_site, isolated=isolated) as url:
            seen = visit(url, tmp_path, texts=TEXTS[:1], forms=["float32"], cores=4)
        assert silent(seen)
        answers += seen["answers"]
    assert answers[0]["how"].count(", 2 threads.") == answers[1]["how"].count(", 1 thread.") == 1
    assert answers[0]["scores"] == answers[1]["scores"]


def test_missing_libraries_are_told(real_site, tmp_path):
    bare = shutil.copytree(real_site, tmp_path / "bare", ignore=shutil.ignore_patterns(FOLDER))
    with served(bare) as url:
        seen = visit(url, tmp_path, texts=TEXTS[:1], forms=["int8"])
    assert seen["answers"] == []
    assert "the libraries are missing: export with --web-libraries" in seen["status"]


def test_a_folder_without_an_unpruned_model_shows_one(workshop, run, real_libraries, tmp_path):
    one = site_of(workshop, "site of one", run, web_libraries=real_libraries, quantize="none")
    with served(one) as url:
        seen = visit(url, tmp_path, texts=TEXTS[:1], forms=["float32"])
    assert silent(seen)
    (answer,) = seen["answers"]
    assert list(answer["times"]) == ["pruned"]
    assert answer["ratio"] is None
    assert answer["label"] == expected(one, answer).label


@pytest.mark.parametrize("variant", FAMILIES)
def test_every_family_of_texts_runs(variant, workshop, real_libraries, tmp_path):
    run = workshop.run("coupled", LORA, variant=variant, layers=1)
    site = site_of(workshop, f"site {variant}", run, web_libraries=real_libraries)
    with served(site) as url:
        seen = visit(url, tmp_path, texts=TEXTS[-2:], forms=list(RUNTIME_FORMS))
    assert silent(seen)
    for answer in seen["answers"]:
        assert answer["label"] == expected(site, answer).label
        assert farthest(answer, expected(site, answer)) < CLOSE[answer["form"]]


@pytest.mark.parametrize("task", ["multi-label", "regression"])
def test_the_other_tasks_are_shown(task, workshop, real_libraries, tmp_path):
    run = workshop.run("coupled", task=task, layers=1, **({"labels": 1} if task == "regression" else {}))
    site = site_of(workshop, f"site {task}", run, web_libraries=real_libraries, quantize="none")
    with served(site) as url:
        seen = visit(url, tmp_path, texts=TEXTS[:1], forms=["float32"])
    assert silent(seen)
    (answer,) = seen["answers"]
    prediction = expected(site, answer)
    if task == "regression":
        assert abs(float(answer["label"]) - prediction.score) < SHOWN
    else:
        assert set(answer["label"].split(", ")) == set(prediction.labels or ("no label",))
        assert farthest(answer, prediction) < SHOWN


def test_the_commands_of_the_documentation(run, unpruned, tmp_path):
    need_browser()
    install, made, serve = BLOCK.search(PAGE.read_text(encoding="utf-8"))[1].splitlines()
    for name, folder in (("run", run), ("unpruned", unpruned)):
        (tmp_path / name).symlink_to(folder)
    subprocess.run(shlex.split(install), cwd=tmp_path, check=True, capture_output=True)
    lenient = [word for name, value in LENIENT.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    program, *words = shlex.split(made)
    subprocess.run([Path(sys.executable).parent / program, *words, *lenient, "--quiet"], cwd=tmp_path, check=True)
    port = free_port()
    *words, usual = shlex.split(serve)
    assert usual == "8000"
    server = subprocess.Popen([*words, port], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(int(port))
        seen = visit(f"http://{LOOPBACK}:{port}/", tmp_path, texts=TEXTS[:1], forms=["int8"])
    finally:
        server.terminate()
        server.wait()
    assert silent(seen)
    (answer,) = seen["answers"]
    assert answer["label"] == expected(tmp_path / "site", answer).label
    assert set(answer["times"]) == {"pruned", "unpruned"}


def free_port():
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return str(probe.getsockname()[1])


def wait_for(port):
    """Until a server that was started answers."""
    end = time.monotonic() + 60
    while True:
        try:
            return socket.create_connection((LOOPBACK, port), timeout=5).close()
        except OSError:
            assert time.monotonic() < end, "the server does not answer"
            threading.Event().wait(0.1)
