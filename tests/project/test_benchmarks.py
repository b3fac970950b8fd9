"""The benchmarks measure what they say; how fast anything is, `make bench` says."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from benchmarks import __main__ as bench
from benchmarks import beside, figure, live, work
from benchmarks.endpoint import EndpointProcess, reply
from benchmarks.measure import Measurement
from benchmarks.peers.replies import formed

import semback as sb

pytestmark = [pytest.mark.network, pytest.mark.process]


@pytest.fixture(scope="module")
def endpoint():
    with EndpointProcess() as started:
        yield started


async def statuses(url, number):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(i):
            body = {"model": "m", "messages": work.messages("Say.", str(i))}
            async with session.post(url + "/chat/completions", json=body) as response:
                return response.status

        return await asyncio.gather(*map(one, range(number)))


def test_the_endpoint_replies_late_and_counts(endpoint):
    endpoint.configure(latency=0.5)
    start = time.perf_counter()
    assert asyncio.run(statuses(endpoint.url, 8)) == [200] * 8
    assert time.perf_counter() - start >= 0.5
    seen = endpoint.counters()
    assert (seen.requests, seen.refused, seen.in_flight, seen.most_in_flight) == (8, 0, 0, 8)
    assert [phase[:2] for phase in seen.phases] == [["forward", 8]]


def test_the_endpoint_refuses_what_is_above_its_cap(endpoint):
    endpoint.configure(latency=0.5, cap=3)
    assert sorted(asyncio.run(statuses(endpoint.url, 8))) == [200] * 3 + [429] * 5
    assert endpoint.counters().refused == 5 and endpoint.counters().most_in_flight == 3


def test_a_reply_depends_on_the_messages_alone_and_has_the_blocks_that_they_ask_for():
    user = 'Why?\n<gradient to="a">\n...\n</gradient>\n<gradient to="b">\n...\n</gradient>'
    messages = work.messages("Judge.", user)
    phase, text = reply(messages)
    assert phase == "backward" and text.count("</gradient>") == 2
    assert reply(json.loads(json.dumps(messages))) == (phase, text)
    assert reply(work.messages("Judge.", user + "!")) != (phase, text)
    phase, text = reply(work.messages("Solve.", "One and one?"))
    assert phase == "forward" and sb.tasks.gsm8k(train=1).read(text) in "0123456789"


FORMS = {  # by the end of a peer's message: the phase and the reply
    "Send it so: <IMPROVED_VARIABLE>{the improved variable}</IMPROVED_VARIABLE>": (
        "update",
        "<IMPROVED_VARIABLE>7</IMPROVED_VARIABLE>",
    ),
    "<proposed_variable>The proposed variable content</proposed_variable>\n<END_OF_USER_MESSAGE>": (
        "update",
        "<response><reasoning>7</reasoning><proposed_variable>7</proposed_variable></response>",
    ),
    "Why?\n\nProvide the new instructions within ``` blocks.": ("update", "```\n7\n```"),
    "\n#Variables\n(str) a=x\n(str) b=y\n\n#Constraints\n\n#Inputs\n(str) c=z\n\n"
    "Your response:\n": (
        "update",
        '{"reasoning": "7", "suggestion": {"a": "7", "b": "7"}}',
    ),
    "One?\n\nRespond with the corresponding output fields, starting with the field "
    "`[[ ## hint ## ]]`, and then `[[ ## completed ## ]]`.": (
        "forward",
        "[[ ## hint ## ]]\n7\n\n[[ ## completed ## ]]\n",
    ),
    "Respond with a JSON object in the following order of fields: `new_instruction`.": (
        "update",
        '{"new_instruction": "7"}',
    ),
}


@pytest.mark.parametrize("message", FORMS)
def test_a_peer_gets_the_reply_in_the_form_that_it_asks_for(message):
    assert formed(message, "7") == FORMS[message] and formed("What is 3 + 4?", "7") is None


@pytest.mark.slow
def test_a_peer_that_fails_is_named_after_the_rows_of_the_others(endpoint, monkeypatch, results):
    monkeypatch.setattr(work, "LATENCY", 0)
    rows = []
    with pytest.raises(beside.PeerFailed) as failed:  # semback's interpreter has none of the peers
        rows.extend(beside.by_peers(endpoint, 1, Path(sys.executable)))
    assert {row.name for row in rows} == {"semback, a new process"}
    text = bench.table({**results, "failed": {"peers": str(failed.value)}})
    for peer in list(beside.PROGRAMS)[1:]:
        assert re.search(rf"{peer}: \w+Error: ", text)


def test_a_peer_that_does_less_than_w_has_failed(endpoint, monkeypatch, tmp_path):
    requests = {"evaluate": 192, "step": 3, "evaluate again": 128}
    (tmp_path / "program.py").write_text(f"""print('{json.dumps({"requests": requests})}')""")
    monkeypatch.setattr(beside, "FOLDER", tmp_path)
    with pytest.raises(beside.PeerFailed, match="128 requests in evaluate again"):
        beside.by_peer(endpoint, "by_somebody", Path(sys.executable))


@pytest.mark.slow
def test_w_requests_each_node_of_each_question_once_and_judges_each_wrong_answer_once(endpoint):
    task = work.task()
    with work.fresh_cache() as cache:
        seen = work.timed(endpoint, lambda: work.by_semback(endpoint, task, cache), latency=0)
        assert len(cache) == 192 + 2 + 3 + 192
    assert seen["backward calls"] == 2
    assert sum(seen[part] for part in work.PARTS) == pytest.approx(seen["W"])


def test_w_by_a_plain_loop_is_the_same_work(endpoint):
    examples = work.task().train

    def loop():
        return work.by_plain_loop(work.aiohttp_client, endpoint.url, examples)

    assert work.timed(endpoint, loop, latency=0)["backward calls"] == 2


def test_the_bounds_follow_from_calls_depth_and_latency():
    assert sum(work.bounds(work.task()).values()) == pytest.approx(0.8)
    assert sum(work.bounds(work.task(), latency=1).values()) == pytest.approx(8)
    assert work.bound(3957, depth=2) == pytest.approx(6.18, abs=0.01)
    assert work.bound(192, depth=2, in_flight=16) == pytest.approx(1.2)
    assert work.bound(581, depth=30) == pytest.approx(3.0)


def test_a_capped_endpoint_gives_the_same_results_and_its_refusals_are_counted(endpoint):
    seconds, refused = live.limited(endpoint, rounds=1, questions=4, cap=3)
    assert min(seconds.values) >= 12 / 3 * work.LATENCY and refused.values[0] >= 0


def test_a_target_is_for_the_ratio_where_there_is_a_bound_and_else_for_the_median():
    row = Measurement("", "", "s", [3, 1, 2], bound=1, target=1.5).row()
    assert (row["low"], row["median"], row["high"], row["ratio"]) == (1, 2, 3, 2)
    assert row["met"] is False
    assert Measurement("", "", "MB", [9, 10], target=9).row()["met"] is False
    row = Measurement("", "", "calls/s", [9, 11], target=10, at_least=True).row()
    assert row["met"] is True


@pytest.fixture
def results():
    rows = [
        Measurement("work W", "semback", "s", [1.0, 1.1, 1.2], 0.8, 1.5),
        Measurement("deep graph", "forward", "s", [3.3], 3.0, 1.2),
        Measurement("work W", "another", "s", [3.0], 0.8, quoted="a paper"),
    ]
    return {
        "when": "2026-11-23T00:00:00Z",
        "commit": "0123456",
        "load": [0.1, 0.2],
        "failed": {},
        "machine": {"cpu": "a CPU", "cores": 2, "python": "3.11.7", "openai": "3.54.0"},
        "measurements": [row.row() for row in rows],
    }


def test_the_table_has_a_line_for_each_measurement(results):
    lines = bench.table(results).splitlines()
    assert "| work W | semback | 1.1 s | 1 to 1.2 | 3 | 0.8 | 1.38 | ≤ 1.5 | met |" in lines
    assert "| work W | another | 3 s | quoted from a paper |  | 0.8 | 3.75 |  |  |" in lines


def test_the_figure_is_the_same_every_time_and_there_is_none_of_nothing(results, tmp_path):
    one, two, none = (tmp_path / f"{name}.png" for name in ("one", "two", "none"))
    figure.draw(results, one)
    figure.draw(results, two)
    figure.draw({**results, "measurements": []}, none)
    assert one.read_bytes() == two.read_bytes() and not none.exists()
