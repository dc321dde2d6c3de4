import { readFile, readdir, statfs } from 'node:fs/promises';
import os from 'node:os';
import type { VersionInfo } from '../../protocol/engine.ts';
import { NEWEST, OLDEST, versionText } from './versions.ts';

/** What the description of the daemon is made of; the functions give what it is now. */
export interface SystemSources {
  readonly version: string;
  readonly gitCommit: string;
  /** RFC 3339, or empty where it is not known. */
  readonly buildTime: string;
  /** Identifies the daemon's store. */
  readonly id: string;
  readonly dataRoot: string;
  readonly config: () => SystemConfig;
  readonly images: () => number;
  readonly eventSubscribers: () => number;
  /** Pairs about the store, shown after those about EROFS. */
  readonly storeStatus?: () => Promise<[string, string][]>;
  /** Full sentences that begin with `WARNING: `. */
  readonly warnings?: () => string[];
}

/** The configuration that clients are shown. */
export interface SystemConfig {
  readonly debug: boolean;
  readonly labels?: readonly string[];
  readonly insecureRegistries: readonly string[];
  readonly mirrors: readonly string[];
  readonly proxies: { readonly http?: string; readonly https?: string; readonly no?: string };
}

export type EngineInfo = Awaited<ReturnType<SystemInfo['info']>>;

/** The loopback networks, whose registries may always be spoken to insecurely. */
const LOOPBACK = ['::1/128', '127.0.0.0/8'];
const INDEX = 'docker.io';
const INDEX_SERVER = 'https://index.docker.io/v1/';

/** Names of file systems by the type that statfs gives, as dockerd names them. */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  0xef53: 'extfs',
  0x58465342: 'xfs',
  0x9123683e: 'btrfs',
  0x794c7630: 'overlayfs',
  0x01021994: 'tmpfs',
  0x2fc12fc1: 'zfs',
  0x6969: 'nfs',
  0xf2f52010: 'f2fs',
};

/** Node's names of architectures in Go's, which images and clients use. */
const ARCHITECTURES: Readonly<Record<string, string>> = { x64: 'amd64', ia32: '386', ppc64: 'ppc64le' };

/** The daemon and its host, as `GET /version` and `GET /info` describe them. */
export class SystemInfo {
  readonly #sources: SystemSources;

  constructor(sources: SystemSources) {
    this.#sources = sources;
  }

  version(): VersionInfo & { Experimental: boolean } {
    const { version, gitCommit, buildTime } = this.#sources;
    const engine = {
      ApiVersion: versionText(NEWEST),
      MinAPIVersion: versionText(OLDEST),
      GitCommit: gitCommit,
      // Clients print this as the language's version; it is Node's.
      GoVersion: `node ${process.versions.node}`,
      Os: 'linux',
      Arch: ARCHITECTURES[process.arch] ?? process.arch,
      KernelVersion: os.release(),
      BuildTime: buildTime,
    };
    return {
      Platform: { Name: 'layerd' },
      Components: [
        // Clients look for the component of this name to learn the versions of the API.
        { Name: 'Engine', Version: version, Details: { ...engine, Experimental: 'false' } },
        { Name: 'layerd', Version: version, Details: { GitCommit: gitCommit } },
        { Name: 'Node.js', Version: process.versions.node, Details: { V8: process.versions.v8 } },
        { Name: 'SQLite', Version: process.versions['sqlite'] ?? '' },
        { Name: 'EROFS', Version: os.release(), Details: { BlockSize: '4096', Reader: 'the kernel' } },
      ],
      Version: version,
      ...engine,
      Experimental: false,
    };
  }

  async info() {
    const { version, id, dataRoot, config, images, eventSubscribers, storeStatus, warnings } = this.#sources;
    const { debug, labels = [], insecureRegistries, mirrors, proxies } = config();
    const [release, controllers, forwarding, fileSystem, fileSystems, descriptors] = await Promise.all([
      osRelease(),
      cgroupControllers(),
      text('/proc/sys/net/ipv4/ip_forward'),
      statfs(dataRoot),
      text('/proc/filesystems'),
      debug ? readdir('/proc/self/fd') : [],
    ]);
    const has = (controller: string): boolean => controllers.names.has(controller);
    return {
      ID: id,
      // Containers do not exist yet.
      Containers: 0,
      ContainersRunning: 0,
      ContainersPaused: 0,
      ContainersStopped: 0,
      Images: images(),
      Driver: 'erofs',
      DriverStatus: [
        ['Backing Filesystem', FILE_SYSTEMS[fileSystem.type] ?? `0x${fileSystem.type.toString(16)}`],
        ['EROFS Block Size', '4096'],
        ['EROFS in Kernel', /\terofs$/m.test(fileSystems) ? 'loaded' : 'not loaded'],
        ...((await storeStatus?.()) ?? []),
      ],
      Plugins: { Volume: [] as string[], Network: [] as string[], Authorization: [] as string[], Log: [] as string[] },
      MemoryLimit: has('memory'),
      SwapLimit: has('memory'),
      CpuCfsPeriod: has('cpu'),
      CpuCfsQuota: has('cpu'),
      CPUShares: has('cpu'),
      CPUSet: has('cpuset'),
      PidsLimit: has('pids'),
      OomKillDisable: has('memory') && controllers.version === '1',
      IPv4Forwarding: forwarding.trim() === '1',
      Debug: debug,
      NFd: descriptors.length,
      // Goroutines are Go's.
      NGoroutines: 0,
      SystemTime: new Date().toISOString(),
      LoggingDriver: '',
      CgroupDriver: 'none',
      CgroupVersion: controllers.version,
      NEventsListener: eventSubscribers(),
      KernelVersion: os.release(),
      OperatingSystem: release.get('PRETTY_NAME') ?? '',
      OSVersion: release.get('VERSION_ID') ?? '',
      OSType: 'linux',
      Architecture: os.machine(),
      NCPU: os.availableParallelism(),
      MemTotal: os.totalmem(),
      IndexServerAddress: INDEX_SERVER,
      RegistryConfig: registryConfig(insecureRegistries, mirrors),
      GenericResources: [] as unknown[],
      DockerRootDir: dataRoot,
      HttpProxy: maskCredentials(proxies.http ?? ''),
      HttpsProxy: maskCredentials(proxies.https ?? ''),
      NoProxy: proxies.no ?? '',
      Name: os.hostname(),
      Labels: [...labels],
      ExperimentalBuild: false,
      ServerVersion: version,
      Runtimes: {},
      DefaultRuntime: '',
      Swarm: {
        NodeID: '',
        NodeAddr: '',
        LocalNodeState: 'inactive',
        ControlAvailable: false,
        Error: '',
        RemoteManagers: null,
      },
      LiveRestoreEnabled: false,
      Isolation: '',
      InitBinary: '',
      ContainerdCommit: { ID: 'N/A' },
      RuncCommit: { ID: 'N/A' },
      InitCommit: { ID: 'N/A' },
      SecurityOptions: process.getuid?.() === 0 ? [] : ['name=rootless'],
      CDISpecDirs: [] as string[],
      Warnings: warnings?.() ?? [],
    };
  }
}

/** Which registries are spoken to how, in the form of dockerd. */
function registryConfig(insecure: readonly string[], mirrors: readonly string[]) {
  const isRange = (entry: string): boolean => entry.includes('/');
  const hubMirrors = mirrors.map((url) => (url.endsWith('/') ? url : `${url}/`));
  return {
    InsecureRegistryCIDRs: [...new Set([...LOOPBACK, ...insecure.filter(isRange)])],
    IndexConfigs: {
      [INDEX]: { Name: INDEX, Mirrors: hubMirrors, Secure: true, Official: true },
      ...Object.fromEntries(
        insecure
          .filter((entry) => !isRange(entry))
          .map((host) => [host, { Name: host, Mirrors: [] as string[], Secure: false, Official: false }]),
      ),
    },
    Mirrors: hubMirrors,
  };
}

/** A proxy's URL without the credentials in it: whoever may ask the daemon is not thereby given them. */
export function maskCredentials(url: string): string {
  // Not by a URL parser, which would refuse, and so show, what it does not understand.
  return url.replace(/^([a-z][a-z0-9+.-]*:\/\/)?[^/]*@/i, '$1xxxxx:xxxxx@');
}

async function cgroupControllers(): Promise<{ version: '1' | '2'; names: ReadonlySet<string> }> {
  const unified = await text('/sys/fs/cgroup/cgroup.controllers');
  if (unified !== '') return { version: '2', names: new Set(unified.trim().split(' ')) };
  // Columns: name, hierarchy, cgroups, enabled.
  const rows = (await text('/proc/cgroups')).split('\n').map((row) => row.split('\t'));
  return { version: '1', names: new Set(rows.filter((row) => row[3] === '1').map((row) => row[0] ?? '')) };
}

/** The fields of os-release(5). */
async function osRelease(): Promise<ReadonlyMap<string, string>> {
  const lines = ((await text('/etc/os-release')) || (await text('/usr/lib/os-release'))).split('\n');
  return new Map(
    lines.flatMap((line) => {
      const match = /^([A-Z_]+)=(["']?)(.*)\2$/.exec(line);
      return match === null ? [] : [[match[1] ?? '', match[3] ?? '']];
    }),
  );
}

/** The text of a file of the host that tells about it; empty where the host does not have it. */
async function text(path: string): Promise<string> {
  return readFile(path, 'utf8').catch(() => '');
}
