import { expect, test } from 'vitest';
import { fieldOf, withoutField } from './fields';

const values = { repo_path: '/home/you/project', name: 'fix-login', backend: 'docker', prompt: 'name the backend' };

test.each([
  ['repo_path: /home/you/project is not a git repository', 'repo_path'],
  ['/home/you/project is not a git repository', 'repo_path'],
  ['/etc is outside the allowed roots (setting `roots`): /home/you/project', 'repo_path'],
  ['repositories[0].path is outside the allowed roots', 'repo_path'],
  ['prompt: missing field', 'prompt'],
  ['missing field `prompt`', 'prompt'],
  ['name: 1-63 characters of a-z, 0-9 and -', 'name'],
  ['a session with the name fix-login exists', 'name'],
  ['backend: unknown backend "x"; loaded are local, docker', 'backend'],
  ['base_branch: there is no branch nope in /home/you/project', 'base_branch'],
  ['the engine does not answer', null],
])('%s', (message, field) => {
  expect(fieldOf(message, values)).toBe(field);
});

test('at its field, a message does without the name of the field', () => {
  expect(withoutField('name: is taken', 'name')).toBe('Is taken');
  expect(withoutField('/srv/x is not a git repository', 'repo_path')).toBe('/srv/x is not a git repository');
});
