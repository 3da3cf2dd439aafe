// Says how node's parser reads streams of requests. In: for each stream its length in four bytes, then the stream. Out: a
// line of JSON for each, `{messages: [{method, target, headers, body}], error}`, strings in Latin-1, one byte a character.
'use strict';
const { HTTPParser, allMethods } = process.binding('http_parser');

const { kOnHeaders, kOnHeadersComplete, kOnBody, kOnMessageComplete } = HTTPParser;

function read(stream) {
  const messages = [];
  let headers = [];
  let url = '';
  let body = [];
  let head = null;
  const parser = new HTTPParser();
  // No leniency: what `insecureHTTPParser: false` is.
  parser.initialize(HTTPParser.REQUEST, {}, 1 << 20, 0);
  parser[kOnHeaders] = (more, target) => {
    headers = headers.concat(more);
    url += target;
  };
  parser[kOnHeadersComplete] = (major, minor, fields, method, target) => {
    head = { method: allMethods[method], target: url + (target ?? ''), headers: headers.concat(fields ?? []) };
    return 0;
  };
  parser[kOnBody] = (piece, offset, length) => {
    body.push(offset === undefined ? Buffer.from(piece) : Buffer.from(piece.subarray(offset, offset + length)));
  };
  parser[kOnMessageComplete] = () => {
    if (head === null) return;
    head.body = Buffer.concat(body).toString('latin1');
    // Trailers come as headers after the head.
    messages.push(head);
    [headers, url, body, head] = [[], '', [], null];
  };
  const result = parser.execute(stream);
  parser.close();
  return { messages, error: result instanceof Error ? result.code : null };
}

let waiting = Buffer.alloc(0);
process.stdin.on('data', (piece) => {
  waiting = waiting.length === 0 ? piece : Buffer.concat([waiting, piece]);
  const lines = [];
  while (waiting.length >= 4) {
    const length = waiting.readUInt32BE(0);
    if (waiting.length < 4 + length) break;
    lines.push(JSON.stringify(read(waiting.subarray(4, 4 + length))));
    waiting = waiting.subarray(4 + length);
  }
  if (lines.length > 0) process.stdout.write(lines.join('\n') + '\n');
});
