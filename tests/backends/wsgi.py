"""A WSGI application, for gunicorn."""

import journal


def app(environ, start_response):
    body = environ["wsgi.input"].read()
    fields = {
        "x-real-ip": environ.get("HTTP_X_REAL_IP", ""),
        "content-length": environ.get("CONTENT_LENGTH", ""),
        "transfer-encoding": environ.get("HTTP_TRANSFER_ENCODING", ""),
    }
    journal.write(environ["REQUEST_METHOD"], environ["RAW_URI"], fields, body)
    admin = journal.is_admin(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Length", "2"), ("x-admin", admin)])
    return [b"ok"]
