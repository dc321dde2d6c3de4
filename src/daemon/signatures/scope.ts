import { canonicalName, canonicalString, parseReference, type Reference } from '../../protocol/reference.ts';

/**
 * The scopes that an image of a registry is in, the most specific first (containers-policy.json(5), "docker:"): itself,
 * its repository, each namespace above, the registry, and wildcards for the domains that the registry's host is in.
 */
export function scopesOf(reference: Reference): string[] {
  const name = canonicalName(reference);
  const scopes = [canonicalString(pulledBy(reference)), name];
  for (let slash = name.lastIndexOf('/'); slash > 0; slash = name.lastIndexOf('/', slash - 1)) {
    scopes.push(name.slice(0, slash));
  }
  const host = reference.registry.replace(/:[0-9]+$/, '');
  for (let dot = host.indexOf('.'); dot >= 0; dot = host.indexOf('.', dot + 1)) scopes.push(`*${host.slice(dot)}`);
  return scopes;
}

/** The reference as a pull takes it: a digest decides alone, whatever tag stands beside it. */
export function pulledBy(reference: Reference): Reference {
  return reference.digest === undefined ? reference : { ...reference, tag: undefined };
}

/** Whether a scope can fit any image: a registry, a namespace, a repository or an image in full, or a wildcard. */
export function isScope(text: string): boolean {
  if (text.startsWith('*.')) return isInFull(text.replace('*', 'any')) && !/[/:]/.test(text);
  return isInFull(text) || isReference(text);
}

/** Whether it is a registry, or a namespace or repository there, by its whole name. */
export function isInFull(text: string): boolean {
  return isReference(text.includes('/') ? `${text}/any` : `${text}/any/image`);
}

function isReference(text: string): boolean {
  try {
    return canonicalString(parseReference(text)) === text;
  } catch {
    // It breaks the grammar of names, so nothing is called so.
    return false;
  }
}
