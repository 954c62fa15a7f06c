// Chromium, and how tests look at what it shows.
import { existsSync } from 'node:fs';
import { chromium } from 'playwright-core';

const candidates = [
  process.env.BERTH_CHROMIUM,
  '/usr/bin/chromium',
  '/usr/bin/chromium-browser',
  '/usr/bin/google-chrome',
];

/** A headless browser. `extra` are further flags. */
export function launch(extra = []) {
  const executablePath = candidates.find((path) => path && existsSync(path));
  if (!executablePath) {
    throw new Error(
      'no Chromium: `apt-get install chromium` (Debian), or `npx playwright-core install chromium` and BERTH_CHROMIUM=<its path>',
    );
  }
  return chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      ...extra,
    ],
  });
}

/** What a terminal in a page shows now: its visible rows as text. */
export async function screen(page) {
  const rows = await page.locator('.xterm-rows > div').allTextContents();
  return rows.map((row) => row.replaceAll('\u00a0', ' ').trimEnd()).join('\n');
}

/** Waits until the terminal shows `wanted` (text or pattern); a failure tells what it showed instead. Answers the screen. */
export async function shows(page, wanted, limit = 15_000) {
  const source = wanted instanceof RegExp ? { pattern: wanted.source, flags: wanted.flags } : { text: wanted };
  try {
    await page.waitForFunction(
      ({ pattern, flags, text }) => {
        const shown = [...document.querySelectorAll('.xterm-rows > div')]
          .map((row) => (row.textContent ?? '').replaceAll('\u00a0', ' ').trimEnd())
          .join('\n');
        return text === undefined ? new RegExp(pattern, flags).test(shown) : shown.includes(text);
      },
      source,
      { timeout: limit },
    );
  } catch {
    throw new Error(`the terminal does not show ${wanted} but:\n${await screen(page)}`);
  }
  return screen(page);
}

/** Types into the terminal as a person does. */
export async function type(page, text) {
  await page.locator('.xterm-helper-textarea').focus();
  await page.keyboard.type(text);
}

/** The size of the terminal that the session's program sees, as `rows cols`. */
export async function sizeInside(page) {
  const mark = `size${Math.random().toString(36).slice(2, 8)}`;
  await type(page, `echo ${mark}:$(stty size):\r`);
  const shown = await shows(page, new RegExp(`^${mark}:\\d+ \\d+:$`, 'm'));
  return new RegExp(`^${mark}:(\\d+ \\d+):$`, 'm').exec(shown)[1];
}
