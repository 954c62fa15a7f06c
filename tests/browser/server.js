// A real server for a test: its own data, its own user's home with a git repository in it, and a free port.
import { execFileSync, spawn } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
const machine = { x64: 'x86_64', arm64: 'aarch64' }[process.arch] ?? process.arch;

/** How long the server may take to start or end. */
const LIMIT = 30_000;

/** A promise with a limit that says what was waited for. */
export function within(promise, what, limit = LIMIT) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${limit / 1000} s`)), limit);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/**
 * The server program, in a folder laid out as what is shipped: the server finds its plugins and the keeper beside itself.
 * BERTH_BIN names a program that stands in such a folder; BERTH_TARGET_DIR (with BERTH_KEEPER) a cargo target folder from
 * which one is put together in `scratch`; without either it is what `make build` left in dist/.
 */
function program(scratch) {
  if (process.env.BERTH_BIN) return resolve(process.env.BERTH_BIN);
  const built = process.env.BERTH_TARGET_DIR;
  if (!built) {
    const shipped = join(root, 'dist/bin/berth');
    if (existsSync(shipped)) return shipped;
    throw new Error('no server: run `make build`, or set BERTH_BIN, or BERTH_TARGET_DIR and BERTH_KEEPER');
  }
  const place = (from, to) => {
    mkdirSync(dirname(to), { recursive: true });
    try {
      linkSync(from, to);
    } catch {
      copyFileSync(from, to);
      chmodSync(to, 0o755);
    }
  };
  const keeper = [process.env.BERTH_KEEPER, join(built, '../keeper/berth-keeper'), join(built, 'berth-keeper')].find(
    (path) => path && existsSync(path),
  );
  if (!keeper) throw new Error(`no keeper: set BERTH_KEEPER, or run \`make keeper\``);
  place(join(built, 'berth'), join(scratch, 'dist/bin/berth'));
  place(keeper, join(scratch, 'dist/lib/berth/keeper', machine, 'berth-keeper'));
  for (const name of readdirSync(built)) {
    if (/^libberth_(backend|agent)_\w+\.so$/.test(name))
      place(join(built, name), join(scratch, 'dist/lib/berth/plugins', name));
  }
  return join(scratch, 'dist/bin/berth');
}

export class Server {
  /** Starts one. `end` must be called, whatever happens. */
  static async start() {
    const server = new Server();
    try {
      server.program = program(server.scratch);
      server.repository = server.makeRepository('project');
      await server.run();
    } catch (error) {
      await server.end();
      throw error;
    }
    return server;
  }

  constructor() {
    this.scratch = mkdtempSync(join(tmpdir(), 'berth-browser-'));
    this.home = join(this.scratch, 'home');
    this.data = join(this.scratch, 'data');
    this.log = join(this.scratch, 'log');
    mkdirSync(this.home);
    this.program = '';
    this.repository = '';
    this.child = null;
    this.port = 0;
  }

  get url() {
    return `http://127.0.0.1:${this.port}`;
  }

  /** A git repository with one commit in the home of the server's user. */
  makeRepository(name) {
    const path = join(this.home, name);
    const git = (...args) =>
      execFileSync('git', ['-C', path, '-c', 'user.name=Test', '-c', 'user.email=test@example.org', ...args], {
        env: { PATH: process.env.PATH, HOME: this.home, GIT_CONFIG_NOSYSTEM: '1' },
      });
    mkdirSync(path);
    git('init', '-q', '-b', 'main');
    writeFileSync(join(path, 'README.md'), '# A project\n');
    git('add', '.');
    git('commit', '-qm', 'First');
    return path;
  }

  /** Runs the server, at the port that it had before if it had one. */
  async run() {
    this.child = spawn(
      this.program,
      ['serve', '--listen', `127.0.0.1:${this.port}`, '--data-dir', this.data, '--default-backend', 'local'],
      {
        stdio: ['ignore', 'pipe', openSync(this.log, 'a')],
        env: { PATH: process.env.PATH, HOME: this.home, SHELL: '/bin/sh', LANG: 'C.UTF-8', PS1: '$ ' },
      },
    );
    const { child } = this;
    this.exited = new Promise((done) => child.once('exit', done));
    const started = new Promise((done, fail) => {
      let text = '';
      child.once('error', fail);
      child.stdout.on('data', (data) => {
        text += data;
        const line = /^berth listening on http:\/\/\S+:(\d+)/m.exec(text);
        if (line) done(Number(line[1]));
      });
      this.exited.then((code) =>
        fail(new Error(`the server ended with ${code}:\n${readFileSync(this.log, 'utf8').slice(-4000)}`)),
      );
    });
    this.port = await within(started, 'the start of the server');
  }

  /** Ends the server as a power cut would. Its sessions go on. */
  async kill() {
    this.child.kill('SIGKILL');
    await within(this.exited, 'the death of the server');
  }

  async api(method, path, body) {
    const answer = await fetch(`${this.url}${path}`, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
    });
    const value = await answer.json();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(value)}`);
    return value;
  }

  /** A session with a shell in it, running. */
  async session(name) {
    const { id } = await this.api('POST', '/api/sessions', {
      repo_path: this.repository,
      prompt: '',
      agent: 'shell',
      name,
    });
    return within(this.#running(id), `the session ${name}`);
  }

  async #running(id) {
    const socket = new URL(`${this.url}/api/sessions/${id}/events/stream`);
    for (;;) {
      const session = await this.api('GET', `/api/sessions/${id}`);
      if (session.status === 'running') return session;
      if (session.status === 'error') throw new Error(`session ${session.name}: ${session.status_message}`);
      await this.#nextEvent(socket);
    }
  }

  /** Waits for something to happen to a session, or for a moment where the server does not tell. */
  async #nextEvent(url) {
    const abort = AbortSignal.timeout(250);
    try {
      const reader = (await fetch(url, { signal: abort })).body.getReader();
      await reader.read();
      await reader.cancel();
    } catch {
      // It was the moment.
    }
  }

  /** Ends the sessions, the server, and what is left of either, and removes its folders. */
  async end() {
    if (this.child && this.child.exitCode === null && this.child.signalCode === null) {
      try {
        const { sessions } = await this.api('GET', '/api/sessions?include_archived=true');
        for (const { id } of sessions) await this.api('DELETE', `/api/sessions/${id}?force=true`);
      } catch (error) {
        console.error(`clearing up: ${error.message}`);
      }
      this.child.kill('SIGTERM');
      await within(this.exited, 'the end of the server').catch(() => this.child.kill('SIGKILL'));
    }
    this.#endProcesses();
    rmSync(this.scratch, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Ends every process that this server's sessions have left: they know its data folder by their environment. */
  #endProcesses() {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
        if (environment.includes(this.data) && Number(pid) !== process.pid) {
          console.error(`clearing up: ended ${basename(readFileSync(`/proc/${pid}/comm`, 'utf8').trim())} (${pid})`);
          process.kill(Number(pid), 'SIGKILL');
        }
      } catch {
        // It has ended, or is not ours.
      }
    }
  }
}
