"""How texts of many requests are gathered and sent, with replicas that do what the test says."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from ray.exceptions import ActorDiedError, RayTaskError

from finegates_export.common.tasks import task_of
from finegates_export.deploy.serving.batches import AHEAD, Batches
from finegates_export.deploy.serving.cluster.replicas import RayReplicas
from finegates_export.deploy.serving.metrics import Metrics
from finegates_export.deploy.serving.model import Replica, ServedModel
from finegates_export.deploy.serving.options import ServeOptions
from finegates_export.deploy.serving.refusals import Refused

MODEL = ServedModel("regression", task_of("regression"), (), "float", ("CPUExecutionProvider",))


class Model:
    """Keeps every batch until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gates: list[asyncio.Event] = []

    async def ask(self, texts):
        self.batches.append(texts)
        self.gates.append(asyncio.Event())
        await self.gates[-1].wait()
        return [{"label": text} for text in texts]

    def release(self):
        for gate in self.gates:
            gate.set()


def gathered(ask, **options) -> Batches:
    settings = {"batch": 4, "queue": 10, "max_texts": 10, **options}
    return Batches(ask, ServeOptions("bundle", **settings), Metrics())


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


def run(steps):
    return asyncio.run(asyncio.wait_for(steps, 30))


def test_texts_gather_while_replicas_are_busy_and_come_back_in_order():
    async def steps():
        model = Model()
        batches = gathered(model.ask)
        asked = [asyncio.create_task(batches.answers([f"{name}{i}" for i in range(3)])) for name in "abcd"]
        await settled()
        assert model.batches == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]
        assert batches.waiting == 6
        model.release()
        await settled()
        assert model.batches[2:] == [["c0", "c1", "c2", "d0"], ["d1", "d2"]]
        model.release()
        answers = [await one for one in asked]
        assert answers == [[{"label": f"{name}{i}"} for i in range(3)] for name in "abcd"]

    run(steps())


def test_more_replicas_get_more_batches():
    async def steps():
        model = Model()
        batches = gathered(model.ask)
        batches.replicas = 3
        asked = [asyncio.create_task(batches.answers([str(i)])) for i in range(10)]
        await settled()
        assert len(model.batches) == 3 * AHEAD
        while not all(one.done() for one in asked):
            model.release()
            await settled()

    run(steps())


def test_texts_are_seen_to_wait_for_a_replica_that_may_be_added():
    async def steps():
        model = Model()
        batches = gathered(model.ask, max_replicas=2)
        asked = [asyncio.create_task(batches.answers([str(i)])) for i in range(10)]
        await settled()
        assert len(model.batches) == 2 * AHEAD
        while not all(one.done() for one in asked):
            model.release()
            await settled()

    run(steps())


def test_what_is_past_the_queue_is_sent_away():
    async def steps():
        model = Model()
        batches = gathered(model.ask)
        asked = [asyncio.create_task(batches.answers(["x"] * count)) for count in (8, 10)]
        await settled()
        assert batches.waiting == 10
        with pytest.raises(Refused, match="10 texts wait, and 1 more would exceed the limit of 10") as refused:
            await batches.answers(["y"])
        assert refused.value.status == 429
        while not all(one.done() for one in asked):
            model.release()
            await settled()
        assert [len(await one) for one in asked] == [8, 10]

    run(steps())


def test_an_answer_that_does_not_come_is_given_up_and_makes_room():
    async def steps():
        model = Model()
        batches = gathered(model.ask, timeout=0.05)
        found = await asyncio.gather(*(batches.answers(["x"] * 4) for _ in range(4)), return_exceptions=True)
        assert [one.status for one in found] == [504] * 4
        assert "the limit of 0.05 seconds" in found[0].message
        assert batches.waiting == 0

    run(steps())


@pytest.mark.parametrize(
    ("error", "status"), [(Refused(503, "they died"), 503), (KeyError("whatever"), 500)], ids=["refused", "unforeseen"]
)
def test_a_failed_batch_fails_its_requests_and_no_others(error, status):
    async def ask(texts):
        if "bad" in texts:
            raise error
        return [{"label": text} for text in texts]

    async def steps():
        batches = gathered(ask)
        found = await asyncio.gather(
            batches.answers(["good"]), batches.answers(["bad"] * 9), batches.answers(["fine"]), return_exceptions=True
        )
        assert found[0] == [{"label": "good"}]
        assert found[1].status == status
        assert "whatever" not in found[1].message
        assert (await batches.answers(["later"])) == [{"label": "later"}]

    run(steps())


def test_a_replica_that_answers_too_few_is_no_answer():
    async def ask(texts):
        return [{"label": "x"}] * (len(texts) - 1)

    async def steps():
        with pytest.raises(Refused, match="1 answers came for 2 texts") as refused:
            await gathered(ask).answers(["a", "b"])
        assert refused.value.status == 500

    run(steps())


def test_a_wait_brings_texts_together():
    async def steps():
        model = Model()
        batches = gathered(model.ask, batch_wait=1.0)
        asked = [asyncio.create_task(batches.answers([name])) for name in "ab"]
        while not model.batches:
            await asyncio.sleep(0)
        assert model.batches == [["a", "b"]]
        model.release()
        assert [await one for one in asked] == [[{"label": "a"}], [{"label": "b"}]]

    run(steps())


class Handle:
    """Ray Serve's, to replicas that fail so often."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.answers = self

    async def remote(self, texts):
        if self.failures:
            raise self.failures.pop(0)
        return [{"label": text} for text in texts]


def asked(*failures):
    metrics = Metrics()
    replicas = RayReplicas(Handle(*failures), "app", MODEL, metrics)
    return run(replicas.ask(["a", "b"])), metrics.page().decode()


def test_a_batch_whose_replica_died_goes_to_another_one_once():
    answers, page = asked(ActorDiedError())
    assert answers == [{"label": "a"}, {"label": "b"}]
    assert "finegates_batches_resent_total 1.0" in page
    with pytest.raises(Refused, match="2 replicas died on these texts") as refused:
        asked(ActorDiedError(), ActorDiedError())
    assert refused.value.status == 503


def test_a_model_that_fails_is_not_asked_again_and_shows_no_stack():
    failure = RayTaskError("answers", "Traceback: secret", RuntimeError("broken"))
    with pytest.raises(Refused, match=r"^the model failed; see the server's log$") as refused:
        asked(failure)
    assert refused.value.status == 500


def test_a_replica_cuts_calls_rather_than_pad_much(bundle):
    replica = Replica(bundle, ServeOptions(bundle))
    run, calls = replica._predictor._session.run, []
    replica._predictor._session = SimpleNamespace(run=lambda *asked: calls.append(asked) or run(*asked))
    texts = ["so", "a film " * 20, "so", "a film " * 20]
    answers = replica.answers(texts)
    assert [next(iter(feed.values())).shape[0] for _, feed in calls] == [2, 2], "long ones together, and short ones"
    assert answers[0] == answers[2] != answers[1] == answers[3]
    calls.clear()
    replica.answers(["so", "so a", "so"])
    assert len(calls) == 1, "a few tokens are not worth another call"
