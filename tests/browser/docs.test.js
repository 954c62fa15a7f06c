// The examples of docs/api.md, run one after the other as a reader would.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { Server, within } from './server.js';

let server;

before(async () => {
  server = await Server.start();
});

after(async () => {
  await server?.end();
});

const page = readFileSync(join(import.meta.dirname, '../../docs/api.md'), 'utf8');
const examples = [...page.matchAll(/^```(sh|js)\n([\s\S]*?)^```$/gm)].map(([, kind, text]) => ({ kind, text }));
const ws = pathToFileURL(join(import.meta.dirname, 'node_modules/ws/wrapper.mjs')).href;

function run(program, args, input, environment) {
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'], env: { ...process.env, ...environment } });
  let told = '';
  child.stdout.on('data', (data) => (told += data));
  child.stderr.on('data', (data) => (told += data));
  child.stdin.end(input);
  const ended = new Promise((done, fail) => {
    child.once('error', fail);
    child.once('close', (code) => done({ code, told }));
  });
  return within(ended, input).catch((error) => {
    child.kill('SIGKILL');
    throw new Error(`${error.message}\n${told}`);
  });
}

test('every example of the API page does what it says', async (t) => {
  assert.ok(examples.length > 5);
  for (const { kind, text } of examples) {
    const name = text.trim().split('\n')[0].slice(0, 70);
    await t.test(name, async () => {
      const environment = { BERTH: server.url, REPO: server.repository, no_proxy: '127.0.0.1', NO_PROXY: '127.0.0.1' };
      const program =
        kind === 'sh'
          ? ['bash', ['-euo', 'pipefail'], text]
          : [
              process.execPath,
              ['--input-type=module'],
              `import { WebSocket } from '${ws}';\nconst BERTH = process.env.BERTH;\nconst SESSION = 'api-example';\n${text}`,
            ];
      const { code, told } = await run(program[0], program[1], program[2], environment);
      assert.equal(code, 0, told);
    });
  }
});
