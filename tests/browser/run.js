// Runs every *.test.js beside it, or those named, and says in one closing line what came of it.
//   node run.js [FILE…]
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from 'node:test';
import { spec as Spec } from 'node:test/reporters';

const folder = import.meta.dirname;
const named = process.argv.slice(2);
const files = (
  named.length > 0
    ? named
    : readdirSync(folder)
        .filter((name) => name.endsWith('.test.js'))
        .sort()
).map((name) => join(folder, name));

const began = Date.now();
const count = { passed: 0, failed: 0 };
// A file is told as a test of its own as well; it counts only when it failed without any of its tests failing.
const isFile = (event) => files.includes(event.name);

const stream = run({ files, concurrency: 1 });
stream.on('test:pass', (event) => {
  if (!isFile(event) && event.details?.type !== 'suite') count.passed += 1;
});
stream.on('test:fail', (event) => {
  process.exitCode = 1;
  if (event.details?.type !== 'suite' && (!isFile(event) || count.failed === 0)) count.failed += 1;
});
stream.compose(new Spec()).pipe(process.stdout);
process.on('exit', () => {
  if (count.passed === 0) process.exitCode = 1;
  const seconds = Math.round((Date.now() - began) / 1000);
  console.log(`browser: ${count.passed} passed, ${count.failed} failed (${files.length} files, ${seconds} s)`);
});
