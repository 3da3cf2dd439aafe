"""Makes every kind of gRPC call through 127.0.0.1:PORT and prints what came of each as one JSON object.

    client.py PORT
"""

import json
import queue
import sys

import grpc

DEADLINE = 30


def outcome(call):
    """The status of a call that should fail."""
    try:
        call()
    except grpc.RpcError as error:
        trailers = [key for key, _ in error.trailing_metadata() or ()]
        return {"status": error.code().name, "details": error.details(), "trailers": trailers}
    return {"status": "OK"}


def turns(channel):
    """Sends a message only after the answer to the one before: nothing may be held back on the way."""
    to_send = queue.Queue()
    answers = channel.stream_stream("/test.Echo/Bidirectional")(iter(to_send.get, None), timeout=DEADLINE)
    said = []
    for message in (b"one", b"two", b"three"):
        to_send.put(message)
        said.append(next(answers).decode())
    to_send.put(None)
    return {"said": said, "rest": len(list(answers)), "status": answers.code().name}


def main():
    channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[1]}", options=[("grpc.enable_http_proxy", 0)])
    unary = channel.unary_unary("/test.Echo/Unary")
    large = b"x" * 3_000_000
    answer, call = unary.with_call(b"hello", timeout=DEADLINE, metadata=(("x-asked", "1"),))
    many = list(channel.unary_stream("/test.Echo/ServerStream")(b"1000", timeout=DEADLINE))
    total = channel.stream_unary("/test.Echo/ClientStream")(iter([b"ab"] * 1000), timeout=DEADLINE)
    results = {
        "unary": {
            "answer": answer.decode(),
            "status": call.code().name,
            "trailers": [key for key, _ in call.trailing_metadata()],
        },
        "large": unary(large, timeout=DEADLINE) == large,
        "server_stream": len(many),
        "client_stream": total.decode(),
        "turns": turns(channel),
        "fail": outcome(lambda: channel.unary_unary("/test.Echo/Fail")(b"", timeout=DEADLINE)),
        "slow": outcome(lambda: channel.unary_unary("/test.Echo/Slow")(b"", timeout=1)),
        "unknown_method": outcome(lambda: channel.unary_unary("/test.Echo/None")(b"", timeout=DEADLINE)),
        "no_route": outcome(lambda: channel.unary_unary("/other.Service/Call")(b"", timeout=DEADLINE)),
        "refused": outcome(lambda: channel.unary_unary("/test.Closed/Call")(b"", timeout=DEADLINE)),
        "down": outcome(lambda: channel.unary_unary("/test.Down/Call")(b"", timeout=DEADLINE)),
        "firewall": outcome(
            lambda: unary(b"", timeout=DEADLINE, metadata=(("x-probe", "<script>evil</script>"),))
        ),
    }
    print(json.dumps(results))


main()
