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

/** Architectures by operating system, in Go's names: what docker lets a manifest be annotated with, and the newer ones. */
const KNOWN: Readonly<Record<string, string>> = {
  darwin: '386 amd64 arm arm64',
  dragonfly: 'amd64',
  freebsd: '386 amd64 arm arm64 riscv64',
  linux: '386 amd64 arm arm64 loong64 mips64 mips64le ppc64le riscv64 s390x',
  netbsd: '386 amd64 arm arm64',
  openbsd: '386 amd64 arm arm64',
  plan9: '386 amd64',
  solaris: 'amd64',
  windows: '386 amd64 arm arm64',
};

/** Whether there are machines of the operating system and architecture. */
export function isKnownPlatform({ os, architecture }: Pick<Platform, 'os' | 'architecture'>): boolean {
  return Object.hasOwn(KNOWN, os) && (KNOWN[os] ?? '').split(' ').includes(architecture);
}
