// Writes config/: the JSON Schema and the commented example, from the daemon's table of options.
import { writeFileSync } from 'node:fs';
import { format } from 'prettier';
import { commentedExample, configSchema } from '../src/daemon/config/schema.ts';

const folder = new URL('../config/', import.meta.url);
const schema = await format(JSON.stringify(configSchema()), { parser: 'json', printWidth: 120 });
writeFileSync(new URL('daemon.schema.json', folder), schema);
writeFileSync(new URL('daemon.jsonc', folder), commentedExample());
