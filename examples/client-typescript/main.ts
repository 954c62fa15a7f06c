// Runs one command in a session of its own and shows its terminal:
//   npm start -- REPOSITORY 'COMMAND' [URL]
import { Berth } from './berth.ts';

const [repository, command = 'git log --oneline -5', url = process.env.BERTH_URL] = process.argv.slice(2);
if (!repository) {
  console.error("usage: npm start -- REPOSITORY ['COMMAND'] [URL]");
  process.exit(2);
}
const berth = new Berth(url);

const session = await berth.create({ repo_path: repository, prompt: '', agent: 'shell' });
console.error(`created ${session.name}`);

// The first event says `starting`; asking from 0 on, none is missed.
for await (const event of berth.events(session.id)) {
  if (event.type !== 'session_status') continue;
  console.error(`${event.seq}: ${event.status}`);
  if (event.status === 'running') break;
  if (event.status === 'error') {
    console.error((await berth.session(session.id)).status_message);
    process.exit(1);
  }
}

const terminal = await berth.console(session.id, (bytes) => process.stdout.write(bytes));
terminal.type(`${command}; exit\n`);
const code = await terminal.exited;
terminal.leave();
console.error(`\nended with ${code}`);
await berth.delete(session.id, true);
process.exitCode = code;
