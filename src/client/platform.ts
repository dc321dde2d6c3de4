import { LayerdError } from '../protocol/errors.ts';
import type { Platform } from '../protocol/oci.ts';

/** Parses `os/arch[/variant]`. Throws `invalid` for anything else. */
export function parsePlatform(text: string): Platform {
  const [os = '', architecture = '', variant, ...rest] = text.split('/');
  if (os === '' || architecture === '' || variant === '' || rest.length > 0) {
    throw new LayerdError('invalid', `invalid platform '${text}': it has the form os/arch[/variant], as linux/amd64`);
  }
  return { os, architecture, ...(variant === undefined ? {} : { variant }) };
}

/** `os/arch[/variant]`; a platform that says no more than an artifact's is `unknown/unknown`. */
export function formatPlatform({ os, architecture, variant }: Platform): string {
  return [os, architecture, variant].filter((part) => part !== undefined && part !== '').join('/');
}
