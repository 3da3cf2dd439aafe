// Journals every request that node's own HTTP parser reads, whole with its body, and answers 200. Serves one protected
// path, as applications do: by comparing it.
'use strict';
const http = require('node:http');
const fs = require('node:fs');
const crypto = require('node:crypto');

const [journal, port] = [process.argv[2], Number(process.argv[3])];

const server = http.createServer({ maxHeaderSize: 65536, requireHostHeader: true }, (request, response) => {
  const digest = crypto.createHash('sha256');
  let length = 0;
  request.on('data', (piece) => {
    digest.update(piece);
    length += piece.length;
  });
  request.on('end', () => {
    const line = {
      method: request.method,
      target: request.url,
      client: request.headers['x-real-ip'] ?? '',
      length,
      digest: digest.digest('hex'),
      framing: [request.headers['content-length'] ?? '', request.headers['transfer-encoding'] ?? ''],
    };
    fs.appendFileSync(journal, JSON.stringify(line) + '\n');
    const path = new URL(request.url, 'http://a').pathname;
    response.setHeader('x-admin', path === '/admin' || path.startsWith('/admin/') ? 'yes' : 'no');
    response.end('ok');
  });
});
server.on('clientError', (error, socket) => {
  fs.appendFileSync(journal, JSON.stringify({ error: error.code }) + '\n');
  socket.destroy();
});
server.listen(port, '127.0.0.1');
