"""A language model that speaks OpenAI's protocol, says what a case wants, and keeps everything that it was asked."""

import http.server
import json
import threading
import time

# Dollars for a million tokens read and written; what one call of it costs by its own account.
CONFIG = "llm: {{provider: openai, model: stub, url: '{url}', input_price: 1.5, output_price: 6, budget: {budget}, timeout_seconds: 5}}\n"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}


def completion(text, **message):
    """An answer that says this."""
    message = {"role": "assistant", "content": text, **message}
    return 200, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USAGE})


def asked(request):
    """What a request asks: the fields that are lost and those that came."""
    question = json.loads(request["messages"][-1]["content"])
    return question["lost"], question["added"]


class Model:
    """A running model. `say` is a function of a request that gives a status and a body."""

    def __init__(self):
        self.requests, self.say = [], self.nothing
        model = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                model.requests.append(request)
                status, body = model.say(request)
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def config(self, budget):
        """How a server is told of it."""
        return CONFIG.format(url=f"http://127.0.0.1:{self.server.server_port}/v1/", budget=budget)

    @staticmethod
    def nothing(_):
        """It knows of nothing."""
        return completion('{"moves":[]}')

    @staticmethod
    def late(_):
        """It answers when nobody waits any more."""
        time.sleep(10)
        return completion('{"moves":[]}')
