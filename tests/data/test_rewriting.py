"""Captions from a language model behind an address: a real local server that answers, and one that misbehaves."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lapis.cli import app
from lapis.data.captioned import Captioned, read_table
from lapis.data.endpoint import Endpoint, Said
from lapis.data.rewriting import Rewriting, rewrite
from lapis.data.sources import Table
from lapis.data.storage import Patience, StorageError

PATIENCE = Patience(attempts=4, first_wait_seconds=0.001, longest_wait_seconds=0.05, timeout_seconds=5.0)
COUNT = 12


class Server:
    """Answers as OpenAI's does with what `say` makes of a prompt; `troubles` are used up, one a request."""

    def __init__(self, say=lambda prompt: f"Reworded: {prompt.splitlines()[-1]}", *, troubles=(), late_seconds=0.0):
        self.say, self.troubles, self.late_seconds = say, list(troubles), late_seconds
        self.asked: list[dict] = []
        self.keys: set = set()
        self.together = self.most_together = 0
        self.lock = threading.Lock()

    def __enter__(self) -> "Server":
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.answer(self)

            def do_GET(self) -> None:
                outer.keys.add(self.headers.get("Authorization"))
                self.send_error(404)

            def log_message(self, *arguments) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1"
        return self

    def __exit__(self, *error) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        asked = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        with self.lock:
            trouble = self.troubles.pop(0) if self.troubles else None
            self.asked.append(asked)
            self.keys.add(handler.headers.get("Authorization"))
            self.together += 1
            self.most_together = max(self.most_together, self.together)
        time.sleep(self.late_seconds)
        prompt = asked["messages"][0]["content"]
        said = self.say(prompt)
        if handler.path != "/v1/chat/completions":
            trouble = 404
        if isinstance(said, int):
            trouble = said
        reason = "length" if isinstance(said, str) and said.endswith("...cut") else "stop"
        content = json.dumps({"choices": [{"message": {"content": said}, "finish_reason": reason}]}).encode()
        content = {
            "no json": b"<html>busy</html>",
            "no choices": b'{"error": 1}',
            "cut json": content[:20],
            "deep json": b"[" * 200_000,
        }.get(trouble, content)
        with self.lock:
            self.together -= 1
        if trouble == "drop":
            handler.close_connection = True
            return
        handler.send_response(trouble if isinstance(trouble, int) else 200)
        if trouble == 429:
            handler.send_header("Retry-After", "0")
        if trouble == 302:
            handler.send_header("Location", f"{self.elsewhere}/chat/completions")
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:10] if trouble == "cut" else content)

    def endpoint(self, **fields) -> Endpoint:
        return Endpoint(self.address, "small", **{"patience": PATIENCE} | fields)


@pytest.fixture
def clips(tmp_path, monkeypatch) -> Table:
    rows = [{"audio": f"{n}.wav", "captions": {"eng_Latn": [f"A dog number {n} barks."]}} for n in range(COUNT)]
    rows.append({"audio": "again.wav", "captions": {"eng_Latn": ["A dog  number 0 barks."]}})
    rows.append({"audio": "label.wav", "captions": {}, "label": "dog;rain"})
    (tmp_path / "clips.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("LAPIS_DATA", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    return Table("clips.jsonl")


def _lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_text_is_asked_once_and_never_again(clips, tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    with Server(late_seconds=0.02) as server:
        report = rewrite(clips, endpoint=server.endpoint(key_variable="MY_KEY"), out=tmp_path / "out", concurrency=3)
        assert (report.questions, report.captions, report.unanswered) == (COUNT, COUNT, 0)
        assert len(server.asked) == COUNT and server.keys == {"Bearer secret"} and 1 < server.most_together <= 3
        again = rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out")
        assert len(server.asked) == COUNT and again.known == COUNT and again.captions == COUNT
        (asked, *_) = server.asked
        assert (
            asked["model"] == "small" and asked["temperature"] == 0 and "in English" in asked["messages"][0]["content"]
        )
        with pytest.raises(ValueError, match="differs in model"):
            rewrite(clips, endpoint=Endpoint(server.address, "large"), out=tmp_path / "out")
    assert "secret" not in "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    samples = Captioned(clips, ("out",)).build()
    assert samples[3].captions == {"eng_Latn": ("A dog number 3 barks.", "Reworded: A dog number 3 barks.")}
    assert samples[COUNT].captions["eng_Latn"][1] == "Reworded: A dog number 0 barks."


@pytest.mark.parametrize("trouble", [429, 500, 503, "no json", "no choices", "cut json", "deep json", "cut", "drop"])
def test_what_goes_by_is_waited_for(clips, tmp_path, trouble):
    with Server(troubles=[None, trouble, trouble, trouble, None, trouble]) as server:
        report = rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out", concurrency=1)
        assert (report.captions, report.unanswered) == (COUNT, 0) and len(server.asked) == COUNT + 4
    assert all(
        caption.startswith("Reworded") for made in read_table(tmp_path / "out").values() for caption in made[0][1]
    )


def test_texts_without_an_answer_are_listed_and_asked_again_the_next_time(clips, tmp_path):
    broken = {"number 1 ": 400, "number 2 ": 500, "number 7 ": 422}

    def say(prompt):
        return next((status for part, status in broken.items() if part in prompt), "Some dog is barking.")

    with Server(say) as server:
        report = rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out")
        assert (report.unanswered, report.captions) == (3, COUNT - 3) and report.left_out == {"no answer": 3}
        problems = {problem["text"]: problem["reason"] for problem in _lines(tmp_path / "out" / "problems.jsonl")}
        assert "the server answered 400" in problems["A dog number 1 barks."]
        assert "gave up after 4 attempts" in problems["A dog number 2 barks."]
        server.asked.clear()
        broken.clear()
        report = rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out")
        assert (report.unanswered, report.captions, report.known, len(server.asked)) == (0, COUNT, COUNT - 3, 3)


def test_a_server_that_is_away_ends_the_work_and_keeps_what_there_is(clips, tmp_path):
    with Server(troubles=[None, None, *["drop"] * 999]) as server:
        with pytest.raises(StorageError, match="gave up after 4 attempts"):
            rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out", concurrency=1)
        assert len(server.asked) == 2 + 5 * 4  # five texts in a row, four attempts each
        assert (
            len(_lines(tmp_path / "out" / "answers.jsonl")) == 2 and not (tmp_path / "out" / "captions.jsonl").exists()
        )
        server.troubles.clear()
        assert rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out").known == 2
    for status in (401, 404):
        with Server(lambda prompt: status) as server, pytest.raises(ValueError, match=f"answered {status}"):
            rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "x")


def test_a_server_that_refuses_everything_is_not_asked_to_the_end(clips, tmp_path):
    with Server(lambda prompt: 400) as server:
        with pytest.raises(ValueError, match="no answer to 5 texts; the last: the server answered 400"):
            rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out", concurrency=1)
        assert len(server.asked) == 5


def test_texts_that_are_refused_end_nothing_where_others_are_answered(clips, tmp_path):
    """The one good answer comes after five refusals; and in the next run there is nothing but refusals."""

    def say(prompt):
        if "number 0 " not in prompt:
            return 400
        while len(server.asked) < 6:
            time.sleep(0.01)
        time.sleep(0.1)
        return "Some dog is barking."

    with Server(say) as server:
        for known in (0, 1):
            report = rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out", concurrency=2)
            assert (report.known, report.unanswered, report.captions) == (known, COUNT - 1, 1)
        assert len(server.asked) == 2 * COUNT - 1


def test_failures_count_in_a_row_only(clips, tmp_path):
    once = Patience(attempts=1)
    with Server(troubles=[500, 500, 500, 500, None] * 2) as server:
        report = rewrite(clips, endpoint=server.endpoint(patience=once), out=tmp_path / "out", concurrency=1)
    assert (report.unanswered, report.captions) == (8, COUNT - 8)


@pytest.mark.parametrize(
    "said",
    [
        "<think>Let me see.</think>A dog, heard.",
        "Let me see.\nA hound barks.\n</think>\nA dog, heard.",
        "I end with </think>.\nSo.</think>A dog, heard.<think>Was it",
    ],
)
def test_what_a_model_thought_is_no_caption(said):
    assert Rewriting().captions_in(Said(said, finished=True)).texts == ("A dog, heard.",)


def test_a_key_is_never_shown(clips, tmp_path, monkeypatch):
    with Server() as server:
        monkeypatch.setenv("MY_KEY", "secret\n")
        rewrite(clips, endpoint=server.endpoint(key_variable="MY_KEY"), out=tmp_path / "out")
        assert server.keys == {"Bearer secret"}
        for key in ("secret\nX-More: secret", "secret\u2026"):
            monkeypatch.setenv("MY_KEY", key)
            with pytest.raises(ValueError, match=r"\$MY_KEY: expected a key of ASCII letters") as told:
                server.endpoint(key_variable="MY_KEY").ask("Hello")
            assert "secret" not in str(told.value) and told.value.__context__ is None


def test_a_key_is_not_sent_on_to_another_server(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    with Server() as other, Server(lambda prompt: 302) as server:
        server.elsewhere = other.address
        with pytest.raises(ValueError, match="the server answered 302"):
            server.endpoint().ask("Hello")
        assert server.keys == {"Bearer secret"} and not other.keys


def test_what_is_no_caption_is_left_out_with_its_reason(clips, tmp_path):
    answers = {
        0: '1. Barking of a dog.\n2) "A hound gives voice."\n- Barking of a dog.',
        1: "I'm sorry, but I cannot hear audio.",
        2: "bark bark bark bark bark bark",
        3: "Собака лает.",
        4: "A dog number 4 barks.",
        5: "<think>Let me see</think>\n\nA dog, heard barking.\n\nThere is a ...cut",
        6: "A **dog** barks",
        7: "One dog.\nOne barking dog.\nOne more dog.",
        8: "A dog barks. " + "Then other things happen that nobody has told us of, and a long tale begins. " * 2,
        9: "",
    }

    def say(prompt):
        return answers.get(int(re.search(r"number (\d+)", prompt).group(1)), "A dog.")

    with Server(say) as server:
        report = rewrite(clips, endpoint=server.endpoint(), out=tmp_path / "out", rewriting=Rewriting(count=2))
        assert all("Write 2 other captions" in asked["messages"][0]["content"] for asked in server.asked)
    assert report.left_out == {
        "rewriting that is there already": 1,
        "caption that is a language model's own talk": 1,
        "caption that repeats itself": 1,
        "caption in another script than Latn": 1,
        "rewriting that is the text itself": 1,
        "rewriting that does not end": 1,
        "caption with markup": 1,
        "more captions than were asked for": 1,
        "rewriting much longer than the text": 1,
        "empty answer": 1,
    }
    made = {text: captions for (_, text), ((_, captions),) in read_table(tmp_path / "out").items()}
    assert made["A dog number 0 barks."] == ("Barking of a dog.", "A hound gives voice.")
    assert made["A dog number 5 barks."] == ("A dog, heard barking.",)
    assert made["A dog number 7 barks."] == ("One dog.", "One barking dog.")
    assert len(made) == 5 and report.captions == 7


def test_the_command_describes_labels(clips, tmp_path, capsys):
    with Server(lambda prompt: "Ein Hund bellt im Regen.") as server:
        (tmp_path / "prompt.txt").write_text("Say in {language}, {count} time: {text}")
        words = ["data", "rewrite", str(tmp_path / "clips.jsonl"), "--endpoint", server.address, "--model", "small"]
        words += ["--task", "describe", "--language", "deu_Latn", "--out", str(tmp_path / "out")]
        app([*words, "--prompt", str(tmp_path / "prompt.txt")], result_action="return_value")
        (asked,) = server.asked
        assert asked["messages"][0]["content"] == "Say in German, 1 time: dog; rain"
        assert "14 clips, 1 texts to rewrite\n1 captions in" in capsys.readouterr().out
    sample = Captioned(clips, ("out",)).build()[-1]
    assert sample.captions == {"deu_Latn": ("Ein Hund bellt im Regen.",)}


def test_mistakes_are_told(clips, tmp_path):
    for message, make in (
        ("expected an address", lambda: Endpoint("localhost:8000", "small")),
        ("expected a temperature", lambda: Endpoint("http://x/v1", "m", temperature=float("nan"))),
        ("a count above zero", lambda: Rewriting(count=0)),
        (r"expected \{text\} in it", lambda: Rewriting(prompt="Hello")),
        ("no English name", lambda: Rewriting(language="ace_Latn")),
        ("at least one request", lambda: rewrite(clips, endpoint=Endpoint("http://x/v1", "m"), out="x", concurrency=0)),
    ):
        with pytest.raises(ValueError, match=message):
            make()


def test_a_killed_process_asks_nothing_twice(clips, tmp_path):
    with Server(late_seconds=0.1) as server:
        words = (sys.executable, "-m", "lapis.cli", "data", "rewrite", "clips.jsonl", "--endpoint", server.address)
        words += ("--model", "small", "--out", "out", "--concurrency", "2")
        process = subprocess.Popen(words, cwd=tmp_path, env=dict(os.environ))
        journal = tmp_path / "out" / "answers.jsonl"
        while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
            time.sleep(0.01)
        process.kill()
        process.wait()
        assert subprocess.run(words, cwd=tmp_path, check=False).returncode == 0
    asked = Counter(of["messages"][0]["content"] for of in server.asked)
    assert len(asked) == COUNT and sum(asked.values()) <= COUNT + 2  # those that were on their way
    assert len(read_table(tmp_path / "out")) == COUNT
