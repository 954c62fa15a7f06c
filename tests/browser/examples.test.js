// The example clients that need no browser, run as their READMEs say.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { build } from 'esbuild';
import { Server, within } from './server.js';

const examples = join(import.meta.dirname, '../../examples');
let server;
let scratch;

before(async () => {
  server = await Server.start();
  scratch = mkdtempSync(join(tmpdir(), 'berth-examples-'));
});

after(async () => {
  await server?.end();
  if (scratch) rmSync(scratch, { recursive: true, force: true });
});

/** Runs a program to its end. */
function run(program, args) {
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' },
  });
  const told = { out: '', err: '' };
  child.stdout.on('data', (data) => (told.out += data));
  child.stderr.on('data', (data) => (told.err += data));
  const ended = new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (code) => done({ code, ...told }));
  });
  return within(ended, program).catch((error) => {
    child.kill('SIGKILL');
    throw new Error(`${error.message}\n${told.out}\n${told.err}`);
  });
}

test('the client in TypeScript', async () => {
  const program = join(scratch, 'main.mjs');
  await build({
    entryPoints: [join(examples, 'client-typescript/main.ts')],
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile: program,
    nodePaths: [join(import.meta.dirname, 'node_modules')],
    // `ws` is a CommonJS module that asks for parts of Node.js.
    banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" },
  });
  const { code, out, err } = await run(process.execPath, [
    program,
    server.repository,
    'echo sum-$((40+2)); (exit 7)',
    server.url,
  ]);
  assert.match(out, /^sum-42\r?$/m);
  assert.match(err, /1: starting[\s\S]*running[\s\S]*ended with 7/);
  assert.equal(code, 7);
});

test('the client in Python', async () => {
  const { code, out, err } = await run('python3', [
    join(examples, 'client-python/main.py'),
    server.repository,
    'echo sum-$((40+2))',
    server.url,
  ]);
  assert.match(out, /^sum-42$/m, err);
  assert.match(err, /1: starting[\s\S]*running[\s\S]*stopped/);
  assert.equal(code, 0);
});

test('they leave nothing', async () => {
  assert.deepEqual((await server.api('GET', '/api/sessions')).sessions, []);
});
