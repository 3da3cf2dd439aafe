"""An ASGI application, for uvicorn with either of its parsers."""

import journal


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            # The body broke off: no request was read.
            return
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    target = scope["raw_path"].decode("latin-1")
    if scope["query_string"]:
        target += "?" + scope["query_string"].decode("latin-1")
    journal.write(scope["method"], target, fields, body)
    admin = journal.is_admin(scope["path"]).encode()
    headers = [(b"content-length", b"2"), (b"x-admin", admin)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"ok"})
