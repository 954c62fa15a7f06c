// berth's own page in Chromium: a person's way through it.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, screen, shows, sizeInside, type } from './browser.js';
import { Server } from './server.js';

let server;
let browser;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

before(async () => {
  server = await Server.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.end();
});

/** A page at `hash`; at the end of the test it must have asked nothing of anyone else, and broken no rule. */
async function open(t, hash = '#/', options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  const faults = [];
  page.setDefaultTimeout(15_000);
  page.on('request', (request) => {
    if (!request.url().startsWith(server.url)) faults.push(`asked ${request.url()}`);
  });
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('console', (message) => {
    // The browser itself reports each answer of 4xx; those are the tests' own doing.
    if (message.type() === 'error' && !message.text().startsWith('Failed to load resource'))
      faults.push(message.text());
  });
  t.after(async () => {
    await context.close();
    assert.deepEqual(faults, []);
  });
  await page.goto(`${server.url}/${hash}`);
  return page;
}

const joined = (page) => page.locator('[data-testid="terminal"][data-joined="true"]').waitFor();
const status = (page) => page.locator('section.session [data-testid="status"]');
const inList = (page, name) => page.locator(`[data-session="${name}"]`);
const waitForText = (locator, text) => locator.filter({ hasText: text }).first().waitFor();

test('a session from the first visit to its end', async (t) => {
  const page = await open(t);
  await page.getByRole('heading', { name: 'Start your first session' }).waitFor();
  await page.getByRole('main').getByRole('link', { name: 'New session' }).click();

  await page.getByRole('button', { name: 'Browse…' }).click();
  const browser = page.getByTestId('folder-browser');
  await browser.getByRole('button', { name: 'project git repository' }).click();
  await browser.waitFor({ state: 'hidden' });
  assert.equal(await page.getByLabel('Repository').inputValue(), server.repository);
  await page.getByRole('radio', { name: 'shell' }).check();
  await page.getByRole('radio', { name: 'local' }).check();
  await page.getByLabel('Prompt').fill('echo first-$((20+1))');
  await page.getByLabel('Name').fill('from-the-form');
  await page.getByRole('button', { name: 'Create session' }).click();

  await page.getByRole('heading', { name: 'from-the-form' }).waitFor();
  await waitForText(status(page), 'Running');
  await joined(page);
  await shows(page, /^([$#] )?first-21$/m);
  await type(page, 'echo typed-$((40+2))\r');
  await shows(page, /^typed-42$/m);
  await waitForText(inList(page, 'from-the-form'), 'Running');
  await waitForText(page.getByTestId('events'), 'Running');

  await type(page, 'exit 3\r');
  await waitForText(page.getByTestId('exit'), 'exit code 3');
  await waitForText(status(page), 'Error');
  await waitForText(inList(page, 'from-the-form'), 'Error');
  await page.getByRole('button', { name: 'Recreate' }).click();
  await waitForText(status(page), 'Running');
  await page.getByTestId('exit').waitFor({ state: 'hidden' });
  await type(page, 'echo again-$((50+5))\r');
  await shows(page, /^again-55$/m);

  await page.getByRole('button', { name: 'Stop' }).click();
  await waitForText(status(page), 'Stopped');
  await page.getByRole('button', { name: 'Start', exact: true }).click();
  await waitForText(status(page), 'Running');
  await type(page, 'echo once-more-$((60+6))\r');
  await shows(page, /once-more-66$/m);
  await page.getByRole('button', { name: 'Delete…' }).click();
  await page.getByTestId('delete-dialog').getByRole('button', { name: 'Delete', exact: true }).click();
  await inList(page, 'from-the-form').waitFor({ state: 'detached' });
  await page.waitForFunction(() => location.hash === '#/');
  assert.deepEqual((await server.api('GET', '/api/sessions')).sessions, []);
});

test('what the server refuses is said at its field', async (t) => {
  const page = await open(t, '#/new');
  await page.getByRole('button', { name: 'Create session' }).click();
  await page.locator('#repo_path-error').waitFor();
  await page.getByLabel('Repository').fill(server.home);
  await page.getByRole('radio', { name: 'shell' }).check();
  await page.getByRole('button', { name: 'Create session' }).click();
  await waitForText(page.locator('#repo_path-error'), /git repository/i);
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'repo_path');
  await page.getByLabel('Repository').fill(server.repository);
  await page.getByLabel('Name').fill('Not A Name');
  await page.getByRole('button', { name: 'Create session' }).click();
  await page.locator('#name-error').waitFor();
  assert.equal(await page.locator('#repo_path-error').count(), 0);

  await page.getByLabel('Name').fill('bad-base');
  await page.getByLabel('Base branch').fill('no-such-branch');
  await page.getByRole('button', { name: 'Create session' }).click();
  await waitForText(page.locator('#base_branch-error'), 'no-such-branch');
  assert.deepEqual((await server.api('GET', '/api/sessions')).sessions, []);
});

test('uncommitted work is shown, and saved when deleted by force', async (t) => {
  const session = await server.session('with-work');
  const page = await open(t, '#/sessions/with-work');
  await joined(page);
  writeFileSync(join(session.worktree_path, 'unfinished.txt'), 'work\n');
  await page.getByRole('button', { name: 'Delete…' }).click();
  const dialog = page.getByTestId('delete-dialog');
  await dialog.getByRole('button', { name: 'Delete', exact: true }).click();
  await waitForText(dialog.getByTestId('conflict'), 'unfinished.txt');
  await dialog.getByRole('button', { name: 'Delete anyway' }).click();
  await waitForText(page.locator('.notice'), 'refs/berth/rescue/with-work/');
  const refs = execFileSync(
    'git',
    ['-C', server.repository, 'for-each-ref', '--format=%(refname)', 'refs/berth/rescue'],
    {
      encoding: 'utf8',
    },
  );
  const ref = refs.split('\n').find((name) => name.startsWith('refs/berth/rescue/with-work/'));
  assert.equal(
    execFileSync('git', ['-C', server.repository, 'show', `${ref}:unfinished.txt`], { encoding: 'utf8' }),
    'work\n',
  );
});

test('what others do is seen at once', async (t) => {
  const page = await open(t);
  await page.getByTestId('sessions').waitFor({ state: 'attached' });
  const session = await server.session('elsewhere');
  await waitForText(inList(page, 'elsewhere'), 'Running');
  await server.api('POST', `/api/sessions/${session.id}/stop`);
  await waitForText(inList(page, 'elsewhere'), 'Stopped');
  await server.api('DELETE', `/api/sessions/${session.id}?force=true`);
  await inList(page, 'elsewhere').waitFor({ state: 'detached' });
});

test('the terminal follows the window, and whoever types last', async (t) => {
  await server.session('sizes');
  const one = await open(t, '#/sessions/sizes');
  await joined(one);
  const wide = await sizeInside(one);
  assert.equal(wide.split(' ')[0], String(await one.locator('.xterm-rows > div').count()));
  await one.setViewportSize({ width: 1100, height: 600 });
  await one.waitForFunction(
    (before) => document.querySelectorAll('.xterm-rows > div').length < before,
    Number(wide.split(' ')[0]),
  );
  const narrow = await sizeInside(one);
  assert.notEqual(narrow, wide);

  const two = await open(t, '#/sessions/sizes', { viewport: { width: 700, height: 500 } });
  await joined(two);
  const theirs = await sizeInside(two);
  assert.notEqual(theirs, narrow);
  await one.getByText('Another client made this terminal').waitFor();
  assert.equal(String(await one.locator('.xterm-rows > div').count()), theirs.split(' ')[0]);
  await one.getByRole('button', { name: 'Fit to this window' }).click();
  assert.equal(await sizeInside(one), narrow);
});

test('read only sends nothing', async (t) => {
  await server.session('watched');
  const page = await open(t, '#/sessions/watched');
  await joined(page);
  await page.getByRole('button', { name: 'Read only' }).click();
  await page.getByText('what you type is not sent').waitFor();
  await joined(page);
  await type(page, 'echo never\r');
  await page.getByRole('button', { name: 'Read only' }).click();
  await page.getByText('what you type is not sent').waitFor({ state: 'hidden' });
  await joined(page);
  await type(page, 'echo now-$((1+1))\r');
  const shown = await shows(page, /^now-2$/m);
  assert.ok(!shown.includes('never'), shown);
});

test('a flood is stopped with Control-C, and leaves a true screen', async (t) => {
  await server.session('flood');
  const page = await open(t, '#/sessions/flood');
  await joined(page);
  await type(page, 'yes "flooding the terminal with a line of text"\r');
  await shows(page, /^flooding the terminal/m);
  await page.keyboard.press('Control+c');
  await type(page, 'echo calm-$((3+4))\r');
  await shows(page, /^calm-7$/m);
});

test('history is there after a reload', async (t) => {
  await server.session('history');
  const page = await open(t, '#/sessions/history');
  await joined(page);
  await type(page, 'seq -f line-%g 1 300\r');
  await shows(page, /^line-300$/m);
  await page.reload();
  await joined(page);
  await shows(page, /^line-300$/m);
  await page.locator('.xterm-helper-textarea').focus();
  for (let pages = 0; pages < 40 && !/^line-1$/m.test(await screen(page)); pages += 1)
    await page.keyboard.press('Shift+PageUp');
  assert.match(await shows(page, /^line-1$/m), /^line-1\nline-2\nline-3$/m);
});

test('everything is reached by keyboard', async (t) => {
  await server.session('keys');
  const page = await open(t, '#/sessions/keys');
  await joined(page);
  await type(page, 'echo in');
  await shows(page, 'echo in');
  await page.keyboard.press('Control+.');
  assert.equal(await page.evaluate(() => document.activeElement?.id), 'session-name');
  const reached = [];
  for (let count = 0; count < 5; count += 1) {
    await page.keyboard.press('Tab');
    reached.push(await page.evaluate(() => document.activeElement?.textContent?.trim()));
  }
  assert.deepEqual(reached.slice(0, 4), ['Read only', 'Events', 'Stop', 'Delete…']);
  await page.getByRole('button', { name: 'Delete…' }).focus();
  await page.keyboard.press('Enter');
  const dialog = page.getByTestId('delete-dialog');
  await dialog.waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'hidden' });
  assert.equal(await page.evaluate(() => document.activeElement?.textContent?.trim()), 'Delete…');

  await page.goto(`${server.url}/#/new`);
  const browse = page.getByRole('button', { name: 'Browse…' });
  await browse.focus();
  await page.keyboard.press('Enter');
  await page.getByRole('button', { name: 'project git repository' }).waitFor();
  await page.keyboard.press('Home');
  await page.keyboard.press('End');
  await page.keyboard.press('Escape');
  await page.getByTestId('folder-browser').waitFor({ state: 'hidden' });
});

test('an unknown session is said, with a way on', async (t) => {
  const page = await open(t, '#/sessions/no-such-session');
  await page.getByRole('alert').filter({ hasText: 'no-such-session' }).waitFor();
  await page.getByRole('link', { name: 'All sessions', exact: true }).last().click();
  await page.waitForFunction(() => location.hash === '#/');
});

for (const colorScheme of ['light', 'dark']) {
  test(`readable for everyone, ${colorScheme}`, async (t) => {
    const name = `readable-${colorScheme}`;
    await server.session(name);
    const page = await open(t, '#/', { colorScheme });
    await inList(page, name).waitFor();
    await check(page, 'list');
    await page.goto(`${server.url}/#/new`);
    await page.getByRole('radio', { name: 'shell' }).waitFor();
    await check(page, 'form');
    await page.getByRole('button', { name: 'Browse…' }).click();
    await page.getByRole('button', { name: 'project git repository' }).waitFor();
    await check(page, 'folder browser');
    await page.keyboard.press('Escape');
    await page.goto(`${server.url}/#/sessions/${name}`);
    await joined(page);
    await waitForText(page.getByTestId('events'), 'Running');
    await check(page, 'session');
  });
}

async function check(page, place) {
  await page.evaluate(axe);
  // The terminal's rows are coloured by the program inside.
  const { violations } = await page.evaluate(() => window.axe.run({ exclude: ['.xterm'] }));
  const told = violations.map(
    ({ id, nodes }) => `${place}: ${id} at ${nodes.map(({ target }) => target.join(' ')).join(', ')}`,
  );
  assert.deepEqual(told, []);
}

test('fits a phone', async (t) => {
  await server.session('pocket');
  const page = await open(t, '#/', { viewport: { width: 360, height: 700 }, hasTouch: true, isMobile: true });
  const fits = async (place) => {
    const width = await page.evaluate(() => document.documentElement.scrollWidth);
    assert.ok(width <= 360, `${place} is ${width} wide`);
  };
  await inList(page, 'pocket').waitFor();
  await fits('the list');
  await inList(page, 'pocket').tap();
  await joined(page);
  await fits('the session');
  await type(page, 'echo small-$((1+2))\r');
  await shows(page, /^small-3$/m);
  await page.getByRole('button', { name: 'Events' }).tap();
  await waitForText(page.getByTestId('events'), 'Running');
  await fits('the events');
  await page.getByRole('link', { name: '‹ All sessions' }).tap();
  await page.getByRole('link', { name: 'New session' }).first().tap();
  await page.getByLabel('Prompt').waitFor();
  await fits('the form');
});

test("a touch keyboard's missing keys are there", async (t) => {
  await server.session('touch');
  const page = await open(t, '#/sessions/touch', {
    viewport: { width: 360, height: 700 },
    hasTouch: true,
    isMobile: true,
  });
  await joined(page);
  await type(page, 'sleep 1000\r');
  await shows(page, 'sleep 1000');
  await page.getByRole('button', { name: 'Control C' }).tap();
  await type(page, 'echo free-$((5+6))\r');
  await shows(page, /^free-11$/m);
});
