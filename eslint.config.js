import js from '@eslint/js';
import globals from 'globals';
import tseslint from 'typescript-eslint';

/**
 * The direction of dependencies inside the daemon: each folder and the folders it may import from, besides itself,
 * `protocol` (what crosses the socket), `events` (everything may emit) and `tracing` (everything may tell). `daemon.ts`,
 * `main.ts` and `engine/` wire them all.
 */
const directions = {
  api: ['sets', 'images', 'transfers', 'content', 'layers', 'registry', 'metadata', 'config', 'health'],
  sets: ['images', 'transfers', 'registry', 'metadata', 'config'],
  images: ['transfers', 'registry', 'content', 'layers', 'signatures', 'metadata'],
  transfers: ['metadata'],
  registry: ['metadata'],
  content: ['metadata'],
  layers: ['metadata'],
  signatures: [],
  events: ['metadata'],
  health: ['metadata'],
  config: [],
  metadata: [],
  metrics: [],
  tracing: ['config'],
  runtime: ['images', 'content', 'layers', 'metadata'],
};
const folders = Object.keys(directions);

const restricted = (files, patterns) => ({
  files,
  rules: { 'no-restricted-imports': ['error', { patterns }] },
});

export default tseslint.config(
  { ignores: ['dist', 'node_modules'] },
  js.configs.recommended,
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: {
      globals: globals.node,
      parserOptions: { projectService: { allowDefaultProject: ['eslint.config.js'] } },
    },
    rules: {
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      // A name bound only to leave it out of a rest object is how a field is dropped.
      '@typescript-eslint/no-unused-vars': [
        'error',
        { ignoreRestSiblings: true, ignoreUsingDeclarations: true, argsIgnorePattern: '^_' },
      ],
      // A query's row type is named by the caller, who knows the columns.
      '@typescript-eslint/no-unnecessary-type-parameters': 'off',
      eqeqeq: 'error',
      'no-console': 'error',
    },
  },
  restricted(
    ['src/protocol/**'],
    [
      {
        group: ['../*', '**/daemon/**', '**/client/**', 'node:fs', 'node:net', 'node:http'],
        message: 'protocol does no I/O and imports neither side.',
      },
    ],
  ),
  restricted(
    ['src/client/**'],
    [{ group: ['**/daemon/**'], message: 'The client knows the daemon only through protocol.' }],
  ),
  ...folders.map((folder) =>
    restricted(
      [`src/daemon/${folder}/**`],
      [
        {
          group: folders
            .filter((other) => ![folder, 'events', 'tracing', ...directions[folder]].includes(other))
            .flatMap((other) => [`../${other}/*`, `../../${other}/*`]),
          message: `${folder} may import only from: ${['protocol', 'events', 'tracing', ...directions[folder]].join(', ')}.`,
        },
        { group: ['**/client/**'], message: 'The daemon does not import the client.' },
      ],
    ),
  ),
  { files: ['test/**', 'bench/**', 'faults/**', 'scripts/**', 'src/client/main.ts'], rules: { 'no-console': 'off' } },
  {
    // node:test's describe and it return promises that the runner awaits by itself.
    files: ['test/**'],
    rules: {
      '@typescript-eslint/no-floating-promises': [
        'error',
        {
          allowForKnownSafeCalls: [
            { from: 'package', package: 'node:test', name: ['describe', 'it', 'test', 'suite'] },
          ],
        },
      ],
    },
  },
  { files: ['eslint.config.js'], ...tseslint.configs.disableTypeChecked },
);
