"""A gRPC server for tests/grpc.rs: messages are plain bytes, so that no generated code is needed.

Prints its port, then a line of JSON for each call that it saw. Ends when its standard input does. With the argument
`sick`, calls of the services other than test.Echo end badly.
"""

import json
import sys
import threading
from concurrent import futures

import grpc


def note(method, context):
    remaining = context.time_remaining()
    metadata = {key: str(value) for key, value in context.invocation_metadata()}
    print(json.dumps({"method": method, "remaining": remaining, "metadata": metadata}), flush=True)


def unary(request, context):
    note("Unary", context)
    context.set_trailing_metadata((("x-not-allowed", "1"),))
    return request


def fail(request, context):
    note("Fail", context)
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not yet: grüße")


def slow(request, context):
    note("Slow", context)
    cancelled = threading.Event()
    context.add_callback(cancelled.set)
    cancelled.wait(20)
    print(json.dumps({"method": "SlowEnded", "cancelled": cancelled.is_set()}), flush=True)
    return request


def server_stream(request, context):
    note("ServerStream", context)
    for number in range(int(request)):
        yield str(number).encode()


def client_stream(requests, context):
    note("ClientStream", context)
    return str(sum(len(request) for request in requests)).encode()


def bidirectional(requests, context):
    note("Bidirectional", context)
    for request in requests:
        yield request.upper()


def end_badly(status, context):
    if "sick" in sys.argv:
        context.abort(status, "sick")


def in_head(request, context):
    end_badly(grpc.StatusCode.UNAVAILABLE, context)
    return request


def behind_a_message(request, context):
    yield request
    end_badly(grpc.StatusCode.UNAVAILABLE, context)


def late(request, context):
    end_badly(grpc.StatusCode.DEADLINE_EXCEEDED, context)
    return request


def unimplemented(request, context):
    end_badly(grpc.StatusCode.UNIMPLEMENTED, context)
    return request


def main():
    ends = {
        "InHead": grpc.unary_unary_rpc_method_handler(in_head),
        "BehindAMessage": grpc.unary_stream_rpc_method_handler(behind_a_message),
        "Late": grpc.unary_unary_rpc_method_handler(late),
        "Unimplemented": grpc.unary_unary_rpc_method_handler(unimplemented),
    }
    handlers = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidirectional": grpc.stream_stream_rpc_method_handler(bidirectional),
    }
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    for name in ("Ejected", "Broken", "Patient", "Hasty", "Unknown", "Shared", "Chosen"):
        service = f"test.{name}"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, ends),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(0)


main()
