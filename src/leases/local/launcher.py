"""Starts xllamacpp's HTTP server: python launcher.py, with one line of JSON on stdin.

The settings come by stdin and not as arguments because one of them is the key, which any user of the machine could
read in a command line. Prints {"listening": "http://127.0.0.1:PORT"} once it answers, and ends when stdin does.
"""

import json
import os
import sys
import threading


def end_with_stdin():
    while sys.stdin.readline():
        pass
    # Native threads are at work: an orderly end of the interpreter would wait for them.
    os._exit(0)


def main():
    # Native code writes to fd 1 as it likes; the one line that our parent reads goes to a copy of it.
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    config = json.loads(sys.stdin.readline())
    threading.Thread(target=end_with_stdin, daemon=True).start()

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = config["model"]
    params.model_alias = {config["alias"]}
    params.hostnames = [config["host"]]
    params.port = config["port"]
    params.api_keys = [config["api_key"]]
    params.n_parallel = config["slots"]
    # Shared by the slots: each gets its part.
    params.n_ctx = config["context_tokens"]
    params.cpuparams.n_threads = config["threads"]
    params.cpuparams_batch.n_threads = config["threads"]
    if config["embeddings"]:
        params.embedding = True
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
        # An input is worked on in one batch or not at all.
        params.n_batch = params.n_ubatch = config["input_tokens"]
    params.endpoint_metrics = True
    params.ui = False
    # Errors only: a request's text has no place in logs.
    params.verbosity = 1
    # Measuring what fits a device loads the model twice (0.4 s instead of 0.7 s without), and the context is given.
    params.fit_params = False
    # Prompts of idle slots are kept in memory; the default would be 8 GiB for each server.
    params.cache_ram_mib = config["cache_mib"]

    server = xllamacpp.Server(params)
    print(json.dumps({"listening": server.listening_address}), file=report, flush=True)
    threading.Event().wait()


main()
