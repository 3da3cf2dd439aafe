"""A gRPC server with the health service of grpcio itself, for tests/health.rs.

With two arguments, certificate and key, it speaks TLS. Prints its port; then sets the status that a line of standard
input names, for the service "test.Echo" and the server as a whole. Ends when its standard input does.
"""

import sys
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    servicer = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if len(sys.argv) == 3:
        with open(sys.argv[1], "rb") as certificate, open(sys.argv[2], "rb") as key:
            pair = (key.read(), certificate.read())
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    else:
        port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for line in sys.stdin:
        status = health_pb2.HealthCheckResponse.ServingStatus.Value(line.strip())
        servicer.set("test.Echo", status)
        servicer.set("", status)
    server.stop(0)


main()
