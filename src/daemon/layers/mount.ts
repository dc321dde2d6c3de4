import { execFile } from 'node:child_process';
import { mkdir, readFile, rmdir, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { release } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LayerdError, messageOf } from '../../protocol/errors.ts';
import { MAX_IMAGE_LAYERS } from '../../protocol/oci.ts';

/** Flags of mount(2). */
const MS_RDONLY = 1;

const run = promisify(execFile);

/** What this host can do for layers. */
export interface KernelSupport {
  readonly erofs: boolean;
  /** An EROFS image is mounted straight from its file (Linux 6.12), without a loop device. */
  readonly fileBacked: boolean;
  readonly loop: boolean;
  readonly overlay: boolean;
}

/** Looks at what the kernel has, or has a module for. */
export async function kernelSupport(): Promise<KernelSupport> {
  const [filesystems, modules, builtin, loop] = await Promise.all([
    readOrEmpty('/proc/filesystems'),
    readOrEmpty(`/lib/modules/${release()}/modules.dep`),
    readOrEmpty(`/lib/modules/${release()}/modules.builtin`),
    stat('/dev/loop-control').then(
      () => true,
      () => false,
    ),
  ]);
  const has = (filesystem: string): boolean =>
    new RegExp(`\\t${filesystem}$`, 'm').test(filesystems) ||
    modules.includes(`/${filesystem}.ko`) ||
    builtin.includes(`/${filesystem}.ko`);
  const [major = 0, minor = 0] = release()
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  const erofs = has('erofs');
  return {
    erofs,
    fileBacked: erofs && (major > 6 || (major === 6 && minor >= 12)) && loadMount() !== undefined,
    loop,
    overlay: has('overlay'),
  };
}

/**
 * Mounts a stack of EROFS images, bottom first, as one read-only tree at an existing directory. The images stay in use
 * until it is unmounted, and may be unlinked meanwhile. Needs root. `<target>.layers` must be free for the time of the call.
 */
export async function mountImage(layers: readonly string[], target: string): Promise<void> {
  if (layers.length === 0 || layers.length > MAX_IMAGE_LAYERS) {
    throw new LayerdError(
      'invalid',
      `cannot mount ${layers.length} layers at ${target}: 1 to ${MAX_IMAGE_LAYERS} can be stacked`,
    );
  }
  const folder = `${target}.layers`;
  await mkdir(folder, { recursive: true });
  // On a file system of its own the directories of the layers outlive their names, and go with one unmount.
  await mount(['-t', 'tmpfs', '-o', 'mode=700,size=1m', 'tmpfs', folder]);
  try {
    for (const [index, image] of layers.entries()) {
      const directory = join(folder, String(index));
      await mkdir(directory);
      await mountErofs(image, directory);
    }
    // overlayfs wants at least two lower directories; the empty one also keeps whiteouts of the lowest layer from showing.
    await mkdir(join(folder, 'empty'));
    // Short names, relative to the folder, because all options together have one page.
    const lower = [...Array.from(layers.keys()).reverse(), 'empty'].join(':');
    const options = `ro,redirect_dir=nofollow,metacopy=off,lowerdir=${lower}`;
    await mount(['-t', 'overlay', '-o', options, 'overlay', target], folder);
  } finally {
    // overlayfs holds what it stands on by itself.
    await unmount(folder);
    await rmdir(folder);
  }
}

/** Mounts one EROFS image read-only at an existing directory: from its file where the kernel can, else by a loop device. */
export async function mountErofs(image: string, directory: string): Promise<void> {
  const mountFile = loadMount();
  if (mountFile !== undefined && (await mountFile(image, directory))) return;
  await mount(['-t', 'erofs', '-o', 'ro,loop', image, directory]);
}

/** Takes a mount away; what still uses it keeps it until it is done. */
export async function unmount(directory: string): Promise<void> {
  try {
    await run('umount', ['--lazy', directory]);
  } catch (error) {
    throw new LayerdError('internal', `cannot unmount ${directory}: ${reasonOf(error)}`, { cause: error });
  }
}

async function mount(options: string[], cwd?: string): Promise<void> {
  try {
    // The new mount API takes no more than 255 bytes of an option; mount(2) takes a page.
    await run('mount', options, { cwd, env: { ...process.env, LIBMOUNT_FORCE_MOUNT2: 'always' } });
  } catch (error) {
    throw new LayerdError('unavailable', `cannot mount ${options.slice(-2).join(' at ')}: ${reasonOf(error)}`, {
      cause: error,
    });
  }
}

/** mount(8) makes a loop device of every file; only mount(2) mounts the file itself. Undefined without koffi. */
function loadMount(): ((image: string, directory: string) => Promise<boolean>) | undefined {
  type Call = (...args: [string, string, string, number, null, (error: unknown, result: number) => void]) => void;
  let call: Call;
  try {
    const koffi = createRequire(import.meta.url)('koffi') as {
      load(path: string | null): { func(prototype: string): { async: Call } };
    };
    call = koffi
      .load(null)
      .func(
        'int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)',
      ).async;
  } catch {
    return undefined;
  }
  return (image, directory) =>
    new Promise((resolve) =>
      call(image, directory, 'erofs', MS_RDONLY, null, (error, result) => resolve(error === null && result === 0)),
    );
}

const readOrEmpty = (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');

/** What mount(8) or umount(8) said. */
const reasonOf = (error: unknown): string => (error as { stderr?: string }).stderr?.trim() || messageOf(error);
