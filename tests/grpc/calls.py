"""Calls a method through 127.0.0.1:PORT so many times, one call after the other, and prints the status and the details of
each as a JSON array.

    calls.py PORT METHOD COUNT [SECONDS]
"""

import json
import sys

import grpc


def main():
    port, method, count, *timeout = sys.argv[1:]
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
    calls = []
    for _ in range(int(count)):
        call = channel.unary_stream(method)(b"x", timeout=float(timeout[0]) if timeout else None)
        try:
            list(call)
        except grpc.RpcError:
            pass
        calls.append([call.code().name, call.details()])
    print(json.dumps(calls))


main()
