"""What stands before a worker in Python: how it is asked and answers, as described in lib.rs."""

import json
import sys
import time


def answer(reply):
    print(json.dumps(reply), flush=True)


def serve(worker, version, notes):
    answer({"ready": {"version": version, "notes": notes}})
    for line in sys.stdin:
        request = json.loads(line)
        what = request.pop("do")
        started = time.perf_counter()
        try:
            tokens = getattr(worker, what)(**request) or []
            answer({"done": {"seconds": time.perf_counter() - started, "tokens": tokens}})
        except Exception as error:
            answer({"failed": str(error)})


