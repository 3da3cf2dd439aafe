"""aiohttp's server: `aiohttp_app.py PORT`."""

import sys

import journal
from aiohttp import web


async def handle(request):
    body = await request.read()
    fields = {name.lower(): value for name, value in request.headers.items()}
    journal.write(request.method, request.raw_path, fields, body)
    return web.Response(text="ok", headers={"x-admin": journal.is_admin(request.path)})


app = web.Application(client_max_size=16 * 1024 * 1024)
app.router.add_route("*", "/{path:.*}", handle)
web.run_app(
    app,
    host="127.0.0.1",
    port=int(sys.argv[1]),
    print=None,
    max_line_size=65536,
    max_field_size=65536,
)
