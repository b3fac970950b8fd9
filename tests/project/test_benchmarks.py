"""What the benchmarks are made of is right: the endpoint, the bounds, the work W, the sums. How fast anything is, is for `make bench`."""

import asyncio
import json
import re
import sys
import time
from pathlib import Path

import aiohttp
import pytest
from benchmarks import __main__ as bench
from benchmarks import beside, live, work
from benchmarks.endpoint import Endpoint, reply
from benchmarks.figure import speed
from benchmarks.measure import Measurement
from benchmarks.peers.replies import formed

import semback as sb


@pytest.fixture(scope="module")
def endpoint():
    with Endpoint() as started:
        yield started


async def statuses(url, number):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(i):
            async with session.post(
                url + "/chat/completions",
                json={"model": "m", "messages": work.messages("Say.", str(i))},
            ) as response:
                return response.status, response.headers.get("Retry-After")

        return await asyncio.gather(*map(one, range(number)))


def test_the_endpoint_answers_late_and_counts(endpoint):
    endpoint.set(latency=0.05)
    start = time.perf_counter()
    assert asyncio.run(statuses(endpoint.url, 8)) == [(200, None)] * 8
    assert time.perf_counter() - start >= 0.05
    seen = endpoint.counters()
    assert (seen.requests, seen.refused, seen.in_flight, seen.most_in_flight) == (8, 0, 0, 8)
    assert [phase[:2] for phase in seen.phases] == [["forward", 8]]


@pytest.mark.parametrize("wait", [None, 0.5])
def test_the_endpoint_refuses_what_is_above_its_cap(endpoint, wait):
    endpoint.set(latency=0.05, cap=3, retry_after=wait)
    assert (
        sorted(asyncio.run(statuses(endpoint.url, 8)))
        == [(200, None)] * 3 + [(429, wait and "0.5")] * 5
    )
    assert endpoint.counters().refused == 5 and endpoint.counters().most_in_flight == 3


def test_a_reply_depends_on_the_messages_alone_and_holds_what_is_asked_for():
    asked = work.messages(
        "Judge.", 'Why?\n<gradient to="a">\n...\n</gradient>\n<gradient to="b">\n...\n</gradient>'
    )
    assert (
        reply(asked)
        == reply(json.loads(json.dumps(asked)))
        != reply(work.messages("Judge.", asked[1]["content"] + "!"))
    )
    assert reply(asked)[0] == "backward" and reply(asked)[1].count("</gradient>") == 2
    kind, said = reply(work.messages("Solve.", "One and one?"))
    assert kind == "forward" and sb.tasks.gsm8k(train=1).read(said) in "0123456789"


@pytest.mark.parametrize(
    "asked, phase, said",
    [
        (
            "Send it so: <IMPROVED_VARIABLE>{the improved variable}</IMPROVED_VARIABLE>",
            "update",
            "<IMPROVED_VARIABLE>7</IMPROVED_VARIABLE>",
        ),
        (
            "<proposed_variable>The proposed variable content</proposed_variable>\n<END_OF_USER_MESSAGE>\n",
            "update",
            "<response><reasoning>7</reasoning><proposed_variable>7</proposed_variable></response>",
        ),
        ("Why?\n\nProvide the new instructions within ``` blocks.", "update", "```\n7\n```"),
        (
            "\n#Variables\n(str) a=x\n(str) b=y\n\n#Constraints\n\n#Inputs\n(str) c=z\n\nYour response:\n",
            "update",
            '{"reasoning": "7", "suggestion": {"a": "7", "b": "7"}}',
        ),
        (
            "One?\n\nRespond with the corresponding output fields, starting with the field `[[ ## hint ## ]]`, and then `[[ ## completed ## ]]`.",
            "forward",
            "[[ ## hint ## ]]\n7\n\n[[ ## completed ## ]]\n",
        ),
        (
            "Respond with a JSON object in the following order of fields: `new_instruction`.",
            "update",
            '{"new_instruction": "7"}',
        ),
    ],
)
def test_a_peer_gets_the_reply_in_the_form_that_it_asks_for(asked, phase, said):
    assert formed(asked, "7") == (phase, said) and formed("What is 3 + 4?", "7") is None


def test_a_peer_that_fails_is_told_after_the_rows_of_the_others(endpoint, monkeypatch, results):
    monkeypatch.setattr(work, "LATENCY", 0)
    rows = []
    with pytest.raises(beside.PeerFailed) as failed:  # semback's interpreter has none of the peers
        rows.extend(beside.by_peers(endpoint, 1, Path(sys.executable)))
    assert {row.name for row in rows} == {"semback, a new process"}
    told = bench.table({**results, "failed": {"peers": str(failed.value)}})
    assert all(re.search(rf"{who}: \w+Error: ", told) for who in list(beside.PROGRAMS)[1:])


def test_a_peer_that_does_less_than_w_has_failed(endpoint, monkeypatch, tmp_path):
    (tmp_path / "program.py").write_text(
        """print('{"requests": {"evaluate": 192, "step": 3, "evaluate again": 128}}')"""
    )
    monkeypatch.setattr(beside, "FOLDER", tmp_path)
    with pytest.raises(beside.PeerFailed, match="128 requests in evaluate again"):
        beside.by_peer(endpoint, "by_somebody", Path(sys.executable))


def test_w_asks_each_node_of_each_question_once_and_each_wrong_answer_once(endpoint, monkeypatch):
    monkeypatch.setattr(work, "LATENCY", 0)
    with work.fresh_cache() as cache:
        seen = work.timed(endpoint, lambda: work.by_semback(endpoint, work.task(), cache))
        assert len(cache) == 192 + 2 + 3 + 192
    assert seen["backward calls"] == 2 and sum(seen[part] for part in work.PARTS) == pytest.approx(
        seen["W"]
    )
    seen = work.timed(
        endpoint, lambda: work.by_plain_loop(work.aiohttp_asking, endpoint.url, work.task().train)
    )
    assert seen["backward calls"] == 2


def test_the_bounds_are_those_of_the_issue():
    assert sum(work.bounds(work.task()).values()) == pytest.approx(0.8)
    assert work.bound(3957, depth=2) == pytest.approx(6.18, abs=0.01)
    assert work.bound(192, depth=2, in_flight=16) == pytest.approx(1.2)
    assert work.bound(581, depth=30) == pytest.approx(3.0)


def test_a_limited_endpoint_gives_the_same_results_and_its_extra_requests_are_counted(
    endpoint, monkeypatch
):
    monkeypatch.setattr(live, "LATENCY", 0.01)
    seconds, extra = live.limited(endpoint, rounds=1, questions=4, cap=3)
    assert min(seconds.values) >= 12 / 3 * 0.01 and extra.values[0] >= 0


def test_a_target_is_for_the_ratio_where_there_is_a_bound_and_for_the_median_else():
    slow = Measurement("", "", "s", [3, 1, 2], bound=1, target=1.5).row()
    assert (slow["low"], slow["median"], slow["high"], slow["ratio"], slow["met"]) == (
        1,
        2,
        3,
        2,
        False,
    )
    assert Measurement("", "", "calls/s", [9, 11], target=10, more=True).row()["met"] is True
    assert Measurement("", "", "MB", [9, 10], target=9).row()["met"] is False


@pytest.fixture
def results():
    rows = [
        Measurement("work W", "semback", "s", [1.0, 1.1, 1.2], 0.8, 1.5),
        Measurement("deep graph", "forward", "s", [3.3], 3.0, 1.2),
        Measurement("work W", "another", "s", [3.0], 0.8, quoted="a paper"),
    ]
    rows += [
        Measurement("growth", "replay", "µs per call", [80.0 + size / 1000], size=size)
        for size in (100, 10_000)
    ]
    return {
        "when": "2026-11-23T00:00:00Z",
        "commit": "0123456",
        "load": [0.1, 0.2],
        "failed": {},
        "machine": {"cpu": "a CPU", "cores": 2, "python": "3.11.7", "openai": "3.54.0"},
        "measurements": [row.row() for row in rows],
    }


def test_the_table_has_a_line_for_each_measurement_and_one_for_a_series(results):
    lines = bench.table(results).splitlines()
    assert "| work W | semback | 1.1 s | 1 to 1.2 | 3 | 0.8 | 1.38 | ≤ 1.5 | met |" in lines
    assert "| work W | another | 3 s | quoted from a paper |  | 0.8 | 3.75 |  |  |" in lines
    assert "| growth | replay | 100: 80.1; 10,000: 90 µs per call |  |  |  |  |  |  |" in lines


def test_the_figure_shows_every_measurement_and_is_the_same_every_time(results, tmp_path):
    plot = speed(results)
    labels = [label.get_text() for ax in plot.figure.axes for label in ax.get_yticklabels()]
    assert {"semback", "another (a paper)", "deep graph: forward"} <= set(labels) and len(
        plot.data
    ) == 5
    one, two = (
        sb.figures.save(speed(results), tmp_path / name) for name in ("one", "two")
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    with pytest.raises(sb.DataError, match="no results of a benchmark"):
        speed({**results, "measurements": []})
