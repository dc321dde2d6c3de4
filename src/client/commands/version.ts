import { arch, platform } from 'node:process';
import type { VersionInfo } from '../../protocol/engine.ts';
import { API_VERSION } from '../engine.ts';
import { ConnectionError } from '../errors.ts';
import { DocumentFormat } from '../format/format.ts';
import { packageVersion } from '../package.ts';
import { Exit, type Run } from './command.ts';

interface ClientVersion {
  readonly Version: string;
  readonly ApiVersion: string;
  readonly DefaultAPIVersion: string;
  readonly NodeVersion: string;
  readonly Os: string;
  readonly Arch: string;
}

/** `layerctl version`: the client's part also when the daemon is not there. */
export const version: Run<{ readonly format?: string }> = async ({ client, out, signal }, _args, options) => {
  const format = options.format === undefined ? undefined : new DocumentFormat(options.format);
  let server: VersionInfo | undefined;
  let failure: ConnectionError | undefined;
  let spoken = API_VERSION;
  try {
    server = await client.version({ signal });
    spoken = await client.apiVersion({ signal });
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    failure = error;
  }
  const own: ClientVersion = {
    Version: packageVersion(),
    ApiVersion: spoken,
    DefaultAPIVersion: API_VERSION,
    NodeVersion: process.version,
    Os: platform,
    Arch: arch === 'x64' ? 'amd64' : arch,
  };
  if (format !== undefined) await out.line(format.render({ Client: own, Server: server ?? null }));
  else await out.lines([...clientLines(own), ...(server === undefined ? [] : serverLines(server))]);
  if (failure !== undefined) throw failure;
  return Exit.ok;
};

function clientLines(own: ClientVersion): string[] {
  const downgraded = own.ApiVersion === own.DefaultAPIVersion ? '' : ` (downgraded from ${own.DefaultAPIVersion})`;
  return [
    'Client: layerctl',
    ...fields(' ', [
      ['Version', own.Version],
      ['API version', own.ApiVersion + downgraded],
      ['Node version', own.NodeVersion],
      ['OS/Arch', `${own.Os}/${own.Arch}`],
    ]),
  ];
}

function serverLines(server: VersionInfo): string[] {
  const name = server.Platform.Name;
  return ['', `Server:${name === '' ? '' : ` ${name}`}`, ...server.Components.flatMap(componentLines)];
}

function componentLines({ Name, Version, Details = {} }: VersionInfo['Components'][number]): string[] {
  const { ApiVersion, MinAPIVersion, GoVersion, GitCommit, BuildTime, Os, Arch, KernelVersion } = Details;
  const api = MinAPIVersion === undefined ? ApiVersion : `${ApiVersion ?? ''} (minimum version ${MinAPIVersion})`;
  const shown: [string, string | undefined][] = [
    ['Version', Version],
    ['API version', ApiVersion === undefined ? undefined : api],
    [GoVersion?.startsWith('go') === true ? 'Go version' : 'Runtime', GoVersion],
    ['Git commit', GitCommit],
    ['Built', BuildTime],
    ['OS/Arch', Os === undefined ? undefined : `${Os}/${Arch ?? ''}`],
    ['Kernel', KernelVersion],
  ];
  return [` ${Name}:`, ...fields('  ', shown)];
}

/** Names and values in two columns; what is unknown is left out. */
function fields(indent: string, pairs: readonly (readonly [string, string | undefined])[]): string[] {
  return pairs
    .filter(([, value]) => value !== undefined && value !== '')
    .map(([name, value]) => `${indent}${`${name}:`.padEnd(20 - indent.length)}${value ?? ''}`);
}
