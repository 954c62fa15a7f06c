// The xterm.js client of the API reference, unchanged, in Chromium against a real session.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { launch, screen, shows, sizeInside, type } from './browser.js';
import { Server } from './server.js';

const example = join(import.meta.dirname, '../../examples/client-xterm');

let server;
let site;
let browser;

before(async () => {
  server = await Server.start();
  site = await serveExample();
  // The client names port 3030. The browser is told that this port is found elsewhere; the client is not touched.
  browser = await launch([`--host-resolver-rules=MAP localhost:3030 127.0.0.1:${server.port}`]);
});

after(async () => {
  await browser?.close();
  site?.close();
  await server?.end();
});

/** The example's page as `npm start` builds and serves it, at a free port. */
async function serveExample() {
  const { outputFiles } = await build({
    entryPoints: [join(example, 'main.js')],
    bundle: true,
    format: 'esm',
    outdir: join(example, 'dist'),
    write: false,
    nodePaths: [join(import.meta.dirname, 'node_modules')],
  });
  const files = new Map(outputFiles.map((file) => [file.path.slice(example.length), file.text]));
  files.set('/', readFileSync(join(example, 'index.html'), 'utf8'));
  const types = { js: 'text/javascript', css: 'text/css' };
  const listener = createServer((request, response) => {
    const path = new URL(request.url, 'http://site').pathname;
    const text = files.get(path);
    response.writeHead(text === undefined ? 404 : 200, { 'content-type': types[path.split('.').pop()] ?? 'text/html' });
    response.end(text);
  });
  await new Promise((done) => listener.listen(0, '127.0.0.1', done));
  return listener;
}

async function open(t, session, viewport = { width: 900, height: 600 }) {
  const context = await browser.newContext({ viewport });
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/?session=${session}`);
  await shows(page, /\S/);
  return page;
}

test("the client is the reference's own", () => {
  const text = readFileSync(join(example, 'client.js'));
  assert.equal(
    createHash('sha256').update(text).digest('hex'),
    'b70df00b732b0ba8568d99e339f22e0ddd03e7183a088588eb80255ae23867fe',
  );
});

test('types and sees the output', async (t) => {
  const session = await server.session('typing');
  const page = await open(t, session.id);
  await type(page, 'echo sum-$((40+2))\r');
  await shows(page, /^sum-42$/m);
});

test('sees characters of every width whole', async (t) => {
  const session = await server.session('utf8');
  const page = await open(t, session.id);
  await type(
    page,
    "printf 'h\\303\\251llo \\342\\202\\254 \\344\\275\\240\\345\\245\\275 \\360\\237\\232\\242 end\\n'\r",
  );
  const shown = await shows(page, /^héllo € .* end$/m);
  assert.ok(!shown.includes('\ufffd'), shown);
});

test('gives the session its size', async (t) => {
  const session = await server.session('sizes');
  const page = await open(t, session.id, { width: 900, height: 600 });
  const rows = await page.locator('.xterm-rows > div').count();
  const first = await sizeInside(page);
  assert.equal(first.split(' ')[0], String(rows));
  await page.setViewportSize({ width: 600, height: 400 });
  await page.reload();
  await shows(page, /^size\w+:/m);
  const second = await sizeInside(page);
  assert.equal(second.split(' ')[0], String(await page.locator('.xterm-rows > div').count()));
  assert.ok(Number(second.split(' ')[1]) < Number(first.split(' ')[1]), `${first} then ${second}`);
});

test('comes back to a session that went on, and sees its history', async (t) => {
  const session = await server.session('history');
  const page = await open(t, session.id);
  await type(page, 'seq -f line-%g 1 200\r');
  await shows(page, /^line-200$/m);
  await type(page, 'kept=yes; read answer; echo "got $answer, kept $kept"\r');
  await shows(page, /read answer/);
  await page.goto('about:blank');
  const back = await open(t, session.id);
  await shows(back, /^line-200$/m);
  await type(back, 'this\r');
  await shows(back, /^got this, kept yes$/m);
  for (let pages = 0; pages < 30 && !/^line-1$/m.test(await screen(back)); pages += 1)
    await back.keyboard.press('Shift+PageUp');
  const shown = await shows(back, /^line-1$/m);
  assert.match(shown, /^line-1\nline-2\nline-3$/m);
});

test('two of them see the same', async (t) => {
  const session = await server.session('together');
  const one = await open(t, session.id);
  const two = await open(t, session.id);
  await type(one, 'echo from-one-$((1+1))\r');
  await shows(two, /^from-one-2$/m);
  await type(two, 'echo from-two-$((2+2))\r');
  await shows(one, /^from-two-4$/m);
});

test('is told of an unknown session', async (t) => {
  const context = await browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/?session=00000000-0000-0000-0000-000000000000`);
  await shows(page, 'Session not found');
});

test('stops a flood with Control-C', async (t) => {
  const session = await server.session('flood');
  const page = await open(t, session.id);
  await type(page, 'while :; do echo flooding the terminal with a line of text; done\r');
  await shows(page, /^flooding the terminal/m);
  await page.keyboard.press('Control+c');
  await page.keyboard.type('echo calm-$((3+4))\r');
  await shows(page, /^calm-7$/m);
});
