#!/usr/bin/env -S node --experimental-websocket
// Shows that a built dist/ works from any folder: copies it elsewhere, starts the server there, runs one session.
//   setup/smoke.mjs DIST
import { spawn, execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const scratch = mkdtempSync(join(tmpdir(), 'berth-smoke-'));
const say = (text) => console.log(`smoke: ${text}`);
const within = (promise, seconds, what) =>
  Promise.race([
    promise,
    new Promise((_, reject) => setTimeout(() => reject(new Error(`${what}: nothing after ${seconds} s`)), seconds * 1000).unref()),
  ]);

let server;
try {
  const dist = join(scratch, 'moved');
  cpSync(process.argv[2] ?? 'dist', dist, { recursive: true, preserveTimestamps: true });
  const repository = join(scratch, 'repository');
  const git = (...args) => execFileSync('git', ['-C', repository, '-c', 'user.name=smoke', '-c', 'user.email=smoke@example.org', ...args]);
  execFileSync('git', ['init', '-q', repository]);
  writeFileSync(join(repository, 'README'), 'hello\n');
  git('add', '.');
  git('commit', '-qm', 'first');

  server = spawn(join(dist, 'bin/berth'), ['serve', '--listen', '127.0.0.1:0', '--data-dir', join(scratch, 'data'), '--default-backend', 'local'], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, HOME: scratch },
  });
  const url = await within(
    new Promise((resolve, reject) => {
      let text = '';
      server.stdout.on('data', (data) => {
        text += data;
        const line = /berth listening on (http:\S+)/.exec(text);
        if (line) resolve(line[1]);
      });
      server.on('exit', (code) => reject(new Error(`the server ended with ${code}`)));
    }),
    20,
    'start',
  );
  const api = async (method, path, body) => {
    const answer = await fetch(url + path, {
      method,
      body: body && JSON.stringify(body),
      headers: body && { 'content-type': 'application/json' },
    });
    const value = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(value)}`);
    return value;
  };
  say(`${url} answers: ${JSON.stringify(await api('GET', '/health'))}`);

  const { id } = await api('POST', '/api/sessions', { repo_path: repository, prompt: 'echo smoke-$((40+2))', agent: 'shell' });
  const socket = new WebSocket(`${url.replace('http', 'ws')}/ws/console/${id}?cols=80&rows=24`);
  socket.binaryType = 'arraybuffer';
  await within(
    new Promise((resolve, reject) => {
      let screen = '';
      socket.onerror = () => reject(new Error('the console socket failed'));
      socket.onmessage = ({ data }) => {
        screen += typeof data === 'string' ? data : new TextDecoder().decode(data);
        if (screen.includes('smoke-42')) resolve();
      };
    }),
    30,
    'the session\'s output',
  );
  socket.close();
  await api('DELETE', `/api/sessions/${id}`);
  say('a session ran and was deleted');
} catch (error) {
  console.error(`smoke: ${error.message}`);
  process.exitCode = 1;
} finally {
  if (server && server.exitCode === null) {
    const ended = new Promise((resolve) => server.on('exit', resolve));
    server.kill('SIGTERM');
    await ended;
  }
  rmSync(scratch, { recursive: true, force: true });
}
