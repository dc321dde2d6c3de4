// Writes config/: the JSON Schema and the commented example, from the daemon's table of options, and the schema of image sets.
import { writeFileSync } from 'node:fs';
import { format } from 'prettier';
import { commentedExample, configSchema } from '../src/daemon/config/schema.ts';
import { imageSetSchema } from '../src/daemon/sets/schema.ts';

const folder = new URL('../config/', import.meta.url);
const schema = await format(JSON.stringify(configSchema()), { parser: 'json', printWidth: 120 });
writeFileSync(new URL('daemon.schema.json', folder), schema);
writeFileSync(new URL('daemon.jsonc', folder), commentedExample());
const setSchema = await format(JSON.stringify(imageSetSchema()), { parser: 'json', printWidth: 120 });
writeFileSync(new URL('image-set.schema.json', folder), setSchema);
