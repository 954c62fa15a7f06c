import type { ITheme } from '@xterm/xterm';

const light: ITheme = {
  background: '#fbfcfa',
  foreground: '#1b2423',
  cursor: '#0b5f6b',
  cursorAccent: '#fbfcfa',
  selectionBackground: '#bfe0e3',
  black: '#1b2423',
  red: '#b3261e',
  green: '#1d7a43',
  yellow: '#7a5a00',
  blue: '#1f5fbf',
  magenta: '#8a3ea8',
  cyan: '#0b6e7a',
  white: '#6a7572',
  brightBlack: '#6a7572',
  brightRed: '#c9372c',
  brightGreen: '#2a8a52',
  brightYellow: '#8f6b00',
  brightBlue: '#3273d6',
  brightMagenta: '#9d52bb',
  brightCyan: '#15808c',
  brightWhite: '#17201f',
};

const dark: ITheme = {
  background: '#0b1012',
  foreground: '#dfe6e5',
  cursor: '#5cc3cf',
  cursorAccent: '#0b1012',
  selectionBackground: '#1f4a52',
  black: '#1c2429',
  red: '#ff8a80',
  green: '#5fcf8a',
  yellow: '#e6bd54',
  blue: '#7fb2ff',
  magenta: '#d79bf0',
  cyan: '#5cc3cf',
  white: '#c9d3d2',
  brightBlack: '#7a8a8c',
  brightRed: '#ffb0a8',
  brightGreen: '#8be3ad',
  brightYellow: '#f3d588',
  brightBlue: '#a9ccff',
  brightMagenta: '#e7bff8',
  brightCyan: '#93dde5',
  brightWhite: '#ffffff',
};

/** The terminal's colours, chosen to be readable on its background in either scheme. */
export function terminalTheme(isDark: boolean): ITheme {
  return isDark ? dark : light;
}
