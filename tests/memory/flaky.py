"""A proxy before a server: passes requests on, and fails or stalls some of them."""

import http.client
import random
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("busy", "hang up", "cut", "stall")
STALL_SECONDS = 0.8


class Flaky:
    """`share` of the requests meet a fault, drawn with the seed; `met` counts them, `passed` the others."""

    def __init__(self, port: int, share: float = 0.0, faults=FAULTS, seed: int = 0) -> None:
        self.upstream, self.share, self.faults = port, share, faults
        self.passed = 0
        self.met = dict.fromkeys(FAULTS, 0)
        self._random, self._lock = random.Random(seed), threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fault = outer.draw()
                if fault == "busy":
                    self.answer(503, {}, b"<Error><Code>SlowDown</Code></Error>")
                    return
                if fault == "hang up":
                    self.close_connection = True
                    return
                if fault == "stall":
                    time.sleep(STALL_SECONDS)
                    self.close_connection = True
                    return
                self.answer(*outer.forward(self, body), cut=fault == "cut")

            def answer(self, status, headers, body, cut=False) -> None:
                self.send_response(status)
                length = headers.pop("Content-Length", None) if self.command == "HEAD" else len(body)
                for name, value in headers.items():
                    if name not in ("Connection", "Transfer-Encoding", "Content-Length", "Date", "Server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(length or 0))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[: len(body) // 2] if cut else body)
                self.close_connection = cut

            def log_message(self, *_) -> None:
                pass

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = serve

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def draw(self) -> str:
        with self._lock:
            if self._random.random() >= self.share:
                self.passed += 1
                return ""
            fault = self._random.choice(self.faults)
            self.met[fault] += 1
        return fault

    def forward(self, request, body):
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        try:
            connection.request(request.command, request.path, body, dict(request.headers))
            answer = connection.getresponse()
            return answer.status, dict(answer.headers), answer.read()
        finally:
            connection.close()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
