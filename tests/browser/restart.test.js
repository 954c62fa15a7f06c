// The server is killed while the page is open; nothing is lost.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, screen, shows, type } from './browser.js';
import { Server } from './server.js';

let server;
let browser;

before(async () => {
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

test('the page comes back after kill -9, and the terminal goes on', async (t) => {
  const session = await server.session('survivor');
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
  t.after(() => context.close());
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  await page.goto(`${server.url}/#/sessions/survivor`);
  const terminal = page.getByTestId('terminal');
  const joined = page.locator('[data-testid="terminal"][data-joined="true"]');
  await joined.waitFor();
  await type(page, 'kept=$$; echo pid-$$; seq -f line-%g 1 100\r');
  await shows(page, /^line-100$/m);
  // Written while no server runs: it must be there afterwards.
  await type(page, 'until [ -e go ]; do sleep 0.05; done; echo while-away\r');
  await shows(page, /while-away/);

  await server.kill();
  await terminal.getByTestId('link-lost').waitFor();
  await page.locator('nav').getByTestId('link-lost').waitFor();
  assert.match(await screen(page), /^line-100$/m, 'the last screen stays');
  writeFileSync(join(session.worktree_path, 'go'), '');

  await server.run();
  await joined.waitFor();
  await page.getByTestId('link-lost').first().waitFor({ state: 'detached' });
  await shows(page, /^while-away$/m);
  await type(page, 'echo same-$((kept-$$))\r');
  await shows(page, /^same-0$/m);
  assert.match(await screen(page), /^line-100$/m);
  await page.locator('section.session [data-testid="status"]').filter({ hasText: 'Running' }).waitFor();

  const { events } = await server.api('GET', `/api/sessions/${session.id}/events`);
  const seqs = events.map(({ seq }) => seq);
  assert.deepEqual(
    seqs,
    seqs.map((_, index) => index + 1),
  );
  const shown = await page
    .locator('[data-testid="events"] [data-seq]')
    .evaluateAll((rows) => rows.map((row) => Number(row.dataset.seq)));
  assert.deepEqual(shown, seqs);

  await server.api('POST', `/api/sessions/${session.id}/stop`);
  await page.locator('section.session [data-testid="status"]').filter({ hasText: 'Stopped' }).waitFor();
});
