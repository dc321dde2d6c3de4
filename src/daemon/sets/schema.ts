import { MAX_IMAGES } from './spec.ts';

/** A span of time as Go writes it. */
const DURATION = '^([0-9]+(\\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$';

/** The JSON Schema of a file of an image set, which editors check and complete it with. */
export function imageSetSchema(): object {
  const settings = (whose: string): Record<string, object> => ({
    platform: {
      description: `Platform ${whose}, such as linux/arm64. Default: the host's.`,
      type: 'string',
    },
    pullPolicy: {
      description: `When the registry is asked ${whose}: only while it is missing, or again and again. Default: IfNotPresent.`,
      enum: ['IfNotPresent', 'Always'],
    },
    interval: {
      description: 'With Always: how long after one check the next one is, such as 90s or 12h. Default: 1h.',
      type: 'string',
      pattern: DURATION,
    },
    schedule: {
      description: "With Always, in place of an interval: when it is checked, as cron's five fields in local time.",
      type: 'string',
    },
    jitter: {
      description:
        'With Always: each check is later by up to so much, at random. Default: a tenth of the time between two, up to 5m.',
      type: 'string',
      pattern: DURATION,
    },
    credentials: {
      description: 'Name of a file in credentials-dir, without .json.',
      type: 'string',
      pattern: '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$',
    },
  });
  const reference = {
    description: 'An image, such as redis:7 or registry.example.com/team/app@sha256:….',
    type: 'string',
    minLength: 1,
  };
  const alternatives = { not: { required: ['interval', 'schedule'] } };
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'layerd image set',
    description: 'Images that layerd pulls, keeps from removal, and keeps up to date. NAME.json is the set NAME.',
    type: 'object',
    required: ['images'],
    additionalProperties: false,
    ...alternatives,
    properties: {
      images: {
        type: 'array',
        maxItems: MAX_IMAGES,
        items: {
          oneOf: [
            reference,
            {
              type: 'object',
              required: ['reference'],
              additionalProperties: false,
              ...alternatives,
              properties: { reference, ...settings('of the image') },
            },
          ],
        },
      },
      ...settings('of all images that do not say themselves'),
    },
  };
}
