#!/usr/bin/env python3
"""A stand-in for llama.cpp's server, started in its place with its arguments: costs no memory and is there at once.

It makes as many tokens as max_tokens says, streamed one each 40 ms, and tells exact counts.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STEP_S = 0.04
KEY = os.environ.get("LLAMA_API_KEY", "")
HEAD = {"id": "chatcmpl-of-the-server", "created": 1700000001, "model": "model-of-the-server"}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(200 if self.headers.get("authorization") == f"Bearer {KEY}" else 401, {})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        if self.headers.get("authorization") != f"Bearer {KEY}":
            return self.answer(401, {})
        if self.path != "/v1/chat/completions":
            return self.answer(404, {})
        tokens = body.get("max_tokens") or 1
        usage = {"prompt_tokens": 12, "completion_tokens": tokens, "total_tokens": 12 + tokens}
        if not body.get("stream"):
            time.sleep(STEP_S)
            message = {"role": "assistant", "content": "".join(f"t{at} " for at in range(tokens))}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            return self.answer(200, {**HEAD, "object": "chat.completion", "choices": choices, "usage": usage})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for at in range(tokens):
            timings = {"cache_n": 0, "prompt_n": 12, "predicted_n": at + 1, "predicted_ms": 1.5}
            self.event([{"index": 0, "delta": {"content": f"t{at} "}, "finish_reason": None}], timings=timings)
            time.sleep(STEP_S)
        self.event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        self.event([], usage=usage)
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def event(self, choices, **more):
        chunk = {**HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
        self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        self.wfile.flush()

    def answer(self, status, body):
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        """A client that left."""


args = dict(zip(sys.argv[1::1], sys.argv[2::1]))
Server((args["--host"], int(args["--port"])), Handler).serve_forever()
