/** Colours for a terminal (ECMA-48, select graphic rendition); none where they are not wanted. */
export class Style {
  readonly enabled: boolean;

  constructor(enabled: boolean) {
    this.enabled = enabled;
  }

  bold(text: string): string {
    return this.#wrap(text, 1, 22);
  }

  dim(text: string): string {
    return this.#wrap(text, 2, 22);
  }

  red(text: string): string {
    return this.#wrap(text, 31, 39);
  }

  green(text: string): string {
    return this.#wrap(text, 32, 39);
  }

  #wrap(text: string, on: number, off: number): string {
    return this.enabled && text !== '' ? `\u001b[${on}m${text}\u001b[${off}m` : text;
  }
}
