import type { ArgumentSpec, CommandSpec, OptionSpec } from './command.ts';

const FORMAT_DOCUMENT: OptionSpec = {
  flags: '-f, --format <FORMAT>',
  description: "'json', or a template by field, as '{{.Id}}'",
  completes: ['json'],
};
const FORMAT_LIST: OptionSpec = {
  flags: '--format <FORMAT>',
  description: "'table', 'table TEMPLATE', 'json', or a template for each row",
  completes: ['table', 'json'],
};
const NO_TRUNC: OptionSpec = { flags: '--no-trunc', description: 'Do not shorten IDs and texts' };
const QUIET_IDS: OptionSpec = { flags: '-q, --quiet', description: 'Show IDs alone' };
const INSECURE: OptionSpec = {
  flags: '--insecure',
  description: 'Accepted as docker has it; which registries may be insecure is the daemon’s to decide',
};
const LIST: ArgumentSpec = { name: 'MANIFEST_LIST', description: 'Name of the list' };
const DIGEST: ArgumentSpec = {
  name: 'DIGEST',
  description: 'Digest of the blob, or the start of one',
  variadic: true,
  completes: 'transfer',
};
const PRIORITY: OptionSpec = {
  flags: '--priority <NUMBER>',
  description: 'From -100 to 100: what waits goes after what has more. Default 0',
  completes: ['10', '-10'],
};
const PULL: ArgumentSpec = { name: 'ID', description: 'Its identifier', variadic: true, completes: 'pull' };
const BANDWIDTH =
  'Bytes a second: 20m, REGISTRY=5m, 2m@08:00-18:00; in place of all rules of before; none for no limit';
const SET: ArgumentSpec = { name: 'SET', description: 'Name of the image set', variadic: true, completes: 'set' };
const PLATFORMS = ['linux/amd64', 'linux/arm64', 'linux/arm/v7'];

const IMAGES = 'Images';
const REGISTRIES = 'Registries';
const DAEMON = 'Daemon';
const SETS = 'Image sets';
const CLIENT = 'This client';

/** All commands: help, the parser and the completion of shells are made from this table. */
export const COMMANDS: readonly CommandSpec[] = [
  {
    paths: ['pull', 'image pull'],
    group: IMAGES,
    summary: 'Download an image from a registry',
    description:
      'Downloads an image from a registry. Layers that the daemon has, or is fetching for somebody else, are not ' +
      'fetched again. After Ctrl-C, a lost connection or a restart the same command goes on from what has arrived.',
    args: [
      { name: 'NAME[:TAG|@DIGEST]', description: 'Image, or with --all-tags repository, to pull', completes: 'image' },
    ],
    options: [
      { flags: '--all-platforms', description: 'Pull every platform of the image' },
      { flags: '-a, --all-tags', description: 'Pull every tag of the repository' },
      {
        flags: '-d, --detach',
        description: 'Print an identifier and leave; the pull goes on, over restarts of the daemon too',
      },
      {
        flags: '--platform <PLATFORM>',
        description: 'Pull for another platform than the daemon’s: os[/arch[/variant]]',
        completes: PLATFORMS,
      },
      PRIORITY,
      { flags: '-q, --quiet', description: 'Print nothing but the name of the image pulled' },
    ],
    examples: [
      ['layerctl pull redis:7', 'a tag of Docker Hub’s redis'],
      ['layerctl pull registry.example.com:5000/team/app@sha256:…', 'exactly that manifest'],
      ['layerctl pull --platform linux/arm64 debian:12', 'for another platform'],
      ['layerctl pull --priority 10 redis:7', 'before the others that wait'],
      ['layerctl pulls wait $(layerctl pull --detach redis:7)', 'detached, and waited for later'],
      ['layerctl pull --all-platforms debian:12', 'for all of them, to save or push the whole image'],
    ],
    load: async () => (await import('./pull.ts')).pull,
  },
  {
    paths: ['push', 'image push'],
    group: IMAGES,
    summary: 'Upload an image to its registry',
    description:
      'Uploads an image to the registry that its name names. Layers that are there are not sent again, and those that ' +
      'another repository of the same registry has are taken over from it. Of an image for several platforms that are ' +
      'not all here, the one that is here is pushed, and it is said so.',
    args: [{ name: 'NAME[:TAG]', description: 'Image, or with --all-tags repository, to push', completes: 'image' }],
    options: [
      { flags: '-a, --all-tags', description: 'Push every tag of the repository' },
      {
        flags: '--platform <PLATFORM>',
        description: 'Push only that platform, as an image of its own: os/arch[/variant]',
        completes: PLATFORMS,
      },
      PRIORITY,
      { flags: '-q, --quiet', description: 'Print nothing but the name of the image pushed' },
    ],
    examples: [
      ['layerctl push registry.example.com:5000/team/app:1', 'a tag'],
      ['layerctl push -a registry.example.com:5000/team/app', 'all tags there are'],
    ],
    load: async () => (await import('./push.ts')).push,
  },
  {
    paths: ['images', 'image ls', 'image list'],
    group: IMAGES,
    summary: 'List images',
    args: [
      {
        name: 'REPOSITORY[:TAG]',
        description: 'Only images of that name; may be a pattern',
        optional: true,
        completes: 'image',
      },
    ],
    options: [
      { flags: '-a, --all', description: 'Show all images, intermediate ones too' },
      { flags: '--digests', description: 'Show digests' },
      {
        flags: '-f, --filter <KEY=VALUE>',
        description: 'Show only what matches: before, dangling, label, reference, since, until',
        repeatable: true,
        completes: ['before=', 'dangling=true', 'dangling=false', 'label=', 'reference=', 'since=', 'until='],
      },
      FORMAT_LIST,
      NO_TRUNC,
      QUIET_IDS,
      { flags: '--tree', description: 'Show each image with its platforms' },
    ],
    examples: [
      ["layerctl images --filter reference='*/team/*'", 'images of one namespace'],
      ["layerctl images --format '{{.Repository}}:{{.Tag}}'", 'names alone'],
      ["layerctl images --format 'table {{.ID}}\\t{{.SharedSize}}\\t{{.UniqueSize}}'", 'what each shares with others'],
      ['layerctl images -f dangling=true', 'images without a tag, which layerctl prune removes'],
    ],
    load: async () => (await import('./images.ts')).images,
  },
  {
    paths: ['inspect', 'image inspect'],
    group: IMAGES,
    summary: 'Show all there is to know about images',
    description:
      'Shows images as JSON. With --layers shows for each layer its three identities (the diff ID of its content, the ' +
      'layer digest of the blob as transferred, the chain ID of the stack up to it), its sizes, its media type, and ' +
      'which other images share it. With --referrers asks the registry that has the image what refers to it.',
    args: [{ name: 'IMAGE', description: 'Name, digest, ID, or the start of one', variadic: true, completes: 'image' }],
    options: [
      FORMAT_DOCUMENT,
      {
        flags: '--platform <PLATFORM>',
        description: 'Show the image for that platform: os/arch[/variant]',
        completes: PLATFORMS,
      },
      { flags: '--layers', description: 'Show the layers, and which images share them' },
      { flags: '--referrers', description: 'Show what refers to the image in its registry: signatures, SBOMs' },
      { flags: '--artifact-type <TYPE>', description: 'With --referrers, show only artifacts of that type' },
      { flags: '--no-trunc', description: 'With --layers and --referrers, do not shorten digests' },
    ],
    examples: [
      ["layerctl inspect -f '{{.Os}}/{{.Architecture}}' redis:7", 'one line for scripts'],
      ["layerctl inspect -f '{{range .Config.Env}}{{println .}}{{end}}' redis:7", 'its environment'],
      ['layerctl inspect --layers redis:7', 'what it is made of and shares'],
      ["layerctl inspect --layers -f '{{range .}}{{println .chainId}}{{end}}' redis:7", 'chain IDs alone'],
      ['layerctl inspect --referrers registry.example.com/team/app:1', 'its signatures and SBOMs'],
    ],
    load: async () => (await import('./inspect.ts')).inspect,
  },
  {
    paths: ['history', 'image history'],
    group: IMAGES,
    summary: 'Show how an image was made',
    args: [{ name: 'IMAGE', description: 'Name, digest, ID, or the start of one', completes: 'image' }],
    options: [
      FORMAT_LIST,
      {
        flags: '-H, --human',
        description: 'Print sizes and times for people (default; --human=false: exact)',
        on: true,
      },
      NO_TRUNC,
      {
        flags: '--platform <PLATFORM>',
        description: 'Show the history for that platform: os/arch[/variant]',
        completes: PLATFORMS,
      },
      QUIET_IDS,
    ],
    examples: [
      ['layerctl history redis:7', 'the steps, newest first'],
      ["layerctl history --no-trunc --format '{{.CreatedBy}}' redis:7", 'the whole commands'],
    ],
    load: async () => (await import('./history.ts')).history,
  },
  {
    paths: ['tag', 'image tag'],
    group: IMAGES,
    summary: 'Give an image another name',
    description:
      'Gives an image another name, with the tag latest where none is given. If another image has that name, the name ' +
      'moves; the image that loses it stays, without a name if that was its last.',
    args: [
      { name: 'SOURCE', description: 'Name, digest, ID, or the start of one', completes: 'image' },
      { name: 'TARGET[:TAG]', description: 'The new name', completes: 'image' },
    ],
    options: [],
    examples: [
      ['layerctl tag redis:7 registry.example.com:5000/team/redis:7', 'name it as a registry of your own needs it'],
      ['layerctl tag 4a5f6b18f769 app:stable', 'by its ID'],
    ],
    load: async () => (await import('./tag.ts')).tag,
  },
  {
    paths: ['rmi', 'image rm', 'image remove'],
    group: IMAGES,
    summary: 'Remove images',
    description:
      'Takes names away from images. An image goes with its last name, and with it whatever no other image uses. An ' +
      'ID removes the image with its name; if it has several, --force is needed.',
    args: [{ name: 'IMAGE', description: 'Name, digest, ID, or the start of one', variadic: true, completes: 'image' }],
    options: [
      {
        flags: '-f, --force',
        description: 'Remove it even if several names or stopped containers use it, or an image set pins it',
      },
      { flags: '--no-prune', description: 'Keep untagged parents' },
      {
        flags: '--platform <PLATFORM>',
        description: 'Remove only that platform: os/arch[/variant]',
        repeatable: true,
        completes: PLATFORMS,
      },
    ],
    examples: [
      ['layerctl rmi redis:7 debian:12', 'two images; what they share goes with the second'],
      ['layerctl rmi -f 4a5f6b18f769', 'an image with all its names'],
    ],
    load: async () => (await import('./remove.ts')).remove,
  },
  {
    paths: ['prune', 'image prune'],
    group: IMAGES,
    summary: 'Remove images that nothing uses',
    description:
      'Removes dangling images, which have no tag, and what interrupted pulls have left; with --all every image that no ' +
      'container uses. What image sets pin stays, and what is being pulled, pushed, saved or loaded. Tells what was removed, and how much space ' +
      'that freed on the disk.',
    args: [],
    options: [
      { flags: '-a, --all', description: 'Remove all images that are not in use, not just dangling ones' },
      {
        flags: '--filter <KEY=VALUE>',
        description: 'Remove only what matches, and nothing of interrupted pulls: label, label!, until',
        repeatable: true,
        completes: ['label=', 'label!=', 'until='],
      },
      { flags: '-f, --force', description: 'Do not ask for confirmation; needed where there is no terminal' },
    ],
    examples: [
      ['layerctl prune', 'images that newer ones have taken the tag from'],
      ['layerctl prune -a -f --filter until=720h', 'in a cron job: what was built more than 30 days ago'],
      ["layerctl prune -a --filter 'label!=keep'", 'all but what is labelled'],
    ],
    load: async () => (await import('./prune.ts')).prune,
  },
  {
    paths: ['gc', 'image gc'],
    group: IMAGES,
    summary: 'Remove the images that were used least recently',
    description:
      'Removes images until as little of the disk is in use as the daemon’s low threshold or the options say, if the use is at ' +
      'the high threshold: first those without a tag, then those that were used least recently. To be used is to be pulled, ' +
      'loaded, tagged, pushed or saved. What is in use, was used a moment ago, is held, or could not be pulled again ' +
      'stays. Tells what was removed, and with --dry-run also why all else is kept.',
    args: [],
    options: [
      { flags: '-n, --dry-run', description: 'Show what would be removed and what would be kept, and remove nothing' },
      { flags: '-f, --force', description: 'Do not ask for confirmation; needed where there is no terminal' },
      FORMAT_LIST,
      {
        flags: '--free <SIZE>',
        description: 'Until so much of the disk is free, such as 20g, whatever the thresholds say',
      },
      { flags: '--high <PERCENT>', description: 'If so much of the disk is in use, or more' },
      { flags: '--local', description: 'Remove also loaded and imported images, which nobody can pull again' },
      { flags: '--low <PERCENT>', description: 'Until no more of the disk is in use' },
      { flags: '--max-age <DURATION>', description: 'Remove what was not used for longer, such as 720h, in any case' },
      { flags: '--min-age <DURATION>', description: 'Keep what was used within this time, such as 2m' },
      NO_TRUNC,
    ],
    examples: [
      ['layerctl gc --dry-run', 'what the daemon’s thresholds would have removed now'],
      ['layerctl gc --low 60', 'until at most 60 percent of the disk is in use'],
      ['layerctl gc --free 20g -f', 'in a script that needs space'],
      ['layerctl gc -n --max-age 720h', 'what nobody has used for 30 days'],
    ],
    load: async () => (await import('./gc.ts')).gc,
  },
  {
    paths: ['save', 'image save'],
    group: IMAGES,
    summary: 'Save images to an archive',
    description:
      'Writes images into one archive (tar), to standard output or a file, for docker, podman, skopeo or another layerd ' +
      'to load. Layers are written as they are stored, so all digests survive. A repository stands for all its tags.',
    args: [{ name: 'IMAGE', description: 'Name, digest, ID, or the start of one', variadic: true, completes: 'image' }],
    options: [
      { flags: '-o, --output <FILE>', description: 'Write to a file instead of standard output', completes: 'file' },
      {
        flags: '--platform <PLATFORM>',
        description: 'Save only that platform: os/arch[/variant]',
        repeatable: true,
        completes: PLATFORMS,
      },
    ],
    examples: [
      ['layerctl save -o redis.tar redis:7', 'into a file'],
      [
        'layerctl save redis:7 debian:12 | zstd > images.tar.zst',
        'two images, compressed; what they share is in it once',
      ],
      ['layerctl save redis:7 | ssh host layerctl load', 'to another host'],
    ],
    load: async () => (await import('./save.ts')).save,
  },
  {
    paths: ['load', 'image load'],
    group: IMAGES,
    summary: 'Load images from an archive',
    description:
      'Reads an archive as docker save, podman save, buildah and skopeo write it, or an OCI image layout in a tar, from ' +
      'standard input or a file; it may be compressed with gzip or zstd. All of its images are loaded, or none.',
    args: [],
    options: [
      { flags: '-i, --input <FILE>', description: 'Read from a file instead of standard input', completes: 'file' },
      {
        flags: '--platform <PLATFORM>',
        description: 'Load only that platform: os/arch[/variant]',
        repeatable: true,
        completes: PLATFORMS,
      },
      { flags: '-q, --quiet', description: 'Show no progress' },
    ],
    examples: [
      ['layerctl load -i redis.tar', 'from a file'],
      ['zstd -dc images.tar.zst | layerctl load', 'from a pipe; the daemon decompresses it, too'],
    ],
    load: async () => (await import('./load.ts')).load,
  },
  {
    paths: ['import', 'image import'],
    group: IMAGES,
    summary: 'Make an image of a tar of files',
    description:
      'Makes an image of one layer from a tar of a root file system, as debootstrap or docker export give it: a file, ' +
      'standard input (-), or an http(s) URL that the daemon downloads. It may be compressed with gzip or zstd.',
    args: [
      { name: 'FILE|URL|-', description: 'The tar', completes: 'file' },
      { name: 'NAME[:TAG]', description: 'The new name; without one the image is dangling', optional: true },
    ],
    options: [
      {
        flags: '-c, --change <INSTRUCTION>',
        description: 'Set a default as in a Dockerfile: \'CMD ["sh"]\'; also ENV, ENTRYPOINT, EXPOSE, LABEL, USER, …',
        repeatable: true,
        completes: [
          'CMD ',
          'ENTRYPOINT ',
          'ENV ',
          'EXPOSE ',
          'HEALTHCHECK ',
          'LABEL ',
          'ONBUILD ',
          'USER ',
          'VOLUME ',
          'WORKDIR ',
        ],
      },
      { flags: '-m, --message <TEXT>', description: 'Set the comment in the image’s history' },
      {
        flags: '--platform <PLATFORM>',
        description: 'Say what platform it is for, if not the daemon’s: os[/arch[/variant]]',
        completes: PLATFORMS,
      },
    ],
    examples: [
      ['layerctl import rootfs.tar.gz base:1', 'a file'],
      [
        'debootstrap bookworm root && tar -C root -c . | layerctl import -c \'CMD ["bash"]\' - debian:mine',
        'from a pipe',
      ],
      ['layerctl import https://example.com/rootfs.tar.zst base:2', 'by URL'],
    ],
    load: async () => (await import('./import.ts')).importImage,
  },
  {
    paths: ['login'],
    group: REGISTRIES,
    summary: 'Log in to a registry',
    description:
      'Tries the account at the registry, through the daemon, and keeps it as docker does: in the credential helper that ' +
      'config.json names, else in config.json itself. Where the registry gives an identity token, that is kept instead ' +
      'of the password. Without a SERVER it is Docker Hub. Without options it tries what is kept, then asks.',
    args: [{ name: 'SERVER', description: 'Registry, as HOST or HOST:PORT', optional: true }],
    options: [
      { flags: '-u, --username <NAME>', description: 'User name' },
      { flags: '-p, --password <PASSWORD>', description: 'Password or token; others on this host can see it' },
      { flags: '--password-stdin', description: 'Read the password or token from standard input' },
    ],
    examples: [
      ['layerctl login registry.example.com:5000', 'ask for user name and password'],
      ['layerctl login -u ann --password-stdin registry.example.com < token', 'from a script'],
    ],
    load: async () => (await import('./login.ts')).login,
  },
  {
    paths: ['logout'],
    group: REGISTRIES,
    summary: 'Log out from a registry',
    description: 'Forgets the account that is kept for the registry, Docker Hub’s without a SERVER.',
    args: [{ name: 'SERVER', description: 'Registry, as HOST or HOST:PORT', optional: true }],
    options: [],
    examples: [['layerctl logout registry.example.com:5000', 'forget that account']],
    load: async () => (await import('./logout.ts')).logout,
  },
  {
    paths: ['search'],
    group: REGISTRIES,
    summary: 'Search a registry for repositories',
    description:
      'Searches Docker Hub. A term that begins with a registry’s host and a slash searches that registry; one without a ' +
      'search of its own is searched for repositories that have the term in their path.',
    args: [{ name: 'TERM', description: 'What to look for, after a registry’s host and a slash there' }],
    options: [
      {
        flags: '-f, --filter <KEY=VALUE>',
        description: 'Show only what matches: is-official, stars',
        repeatable: true,
        completes: ['is-official=true', 'is-official=false', 'stars='],
      },
      FORMAT_LIST,
      { flags: '--limit <NUMBER>', description: 'Show so many at most: 1 to 100, 25 if not given' },
      { flags: '--no-trunc', description: 'Do not shorten descriptions' },
    ],
    examples: [
      ['layerctl search --filter is-official=true redis', 'official images of Docker Hub'],
      ['layerctl search registry.example.com:5000/', 'all repositories of a registry'],
      ["layerctl search --format '{{.Name}}' registry.example.com:5000/team/", 'names for scripts'],
    ],
    load: async () => (await import('./search.ts')).search,
  },
  {
    paths: ['copy', 'image copy'],
    group: REGISTRIES,
    summary: 'Copy an image from one registry to another',
    description:
      'Copies an image, with all of its platforms and attestations, through the daemon and byte for byte, so that all ' +
      'digests survive. Only what the target lacks is sent; within one registry nothing is. Nothing is stored on the way.',
    args: [
      { name: 'SOURCE[:TAG|@DIGEST]', description: 'Image in a registry', completes: 'image' },
      { name: 'TARGET[:TAG]', description: 'Its new name', completes: 'image' },
    ],
    options: [
      {
        flags: '--platform <PLATFORM>',
        description: 'Copy only that platform, as an image of its own: os/arch[/variant]',
        completes: PLATFORMS,
      },
      PRIORITY,
      { flags: '-q, --quiet', description: 'Print nothing but the name of the copy' },
    ],
    examples: [
      ['layerctl copy debian:12 registry.example.com:5000/mirror/debian:12', 'into a registry of your own'],
      ['layerctl copy registry.example.com/app:rc registry.example.com/app:1.0', 'give it another name there'],
    ],
    load: async () => (await import('./copy.ts')).copy,
  },
  {
    paths: ['manifest create'],
    group: REGISTRIES,
    summary: 'Begin a list of manifests, for several platforms under one name',
    description:
      'Begins a list of manifests that are in the registry of its name, each with the platform that its image states. ' +
      'It is kept in a file of this user until it is pushed.',
    args: [LIST, { name: 'MANIFEST', description: 'Image in a registry', variadic: true, completes: 'image' }],
    options: [{ flags: '-a, --amend', description: 'Add to a list that is begun already' }, INSECURE],
    examples: [
      ['layerctl manifest create team/app:1 team/app:1-amd64 team/app:1-arm64', 'a list of two'],
      ['layerctl manifest create -a team/app:1 team/app:1-s390x', 'a third one'],
    ],
    load: async () => (await import('./manifest-list.ts')).createList,
  },
  {
    paths: ['manifest annotate'],
    group: REGISTRIES,
    summary: 'Say for which platform a manifest of a begun list is',
    args: [LIST, { name: 'MANIFEST', description: 'Manifest in it, as it was named', completes: 'image' }],
    options: [
      {
        flags: '--arch <ARCH>',
        description: 'Architecture',
        completes: ['386', 'amd64', 'arm', 'arm64', 'ppc64le', 'riscv64', 's390x'],
      },
      { flags: '--os <OS>', description: 'Operating system', completes: ['linux', 'windows', 'darwin', 'freebsd'] },
      {
        flags: '--os-features <FEATURES>',
        description: 'Features of the operating system that it needs, parted by commas',
        repeatable: true,
      },
      { flags: '--os-version <VERSION>', description: 'Version of the operating system' },
      { flags: '--variant <VARIANT>', description: 'Variant of the architecture', completes: ['v5', 'v6', 'v7', 'v8'] },
    ],
    examples: [['layerctl manifest annotate --arch arm --variant v7 team/app:1 team/app:1-arm', 'which ARM it is for']],
    load: async () => (await import('./manifest-list.ts')).annotateManifest,
  },
  {
    paths: ['manifest inspect'],
    group: REGISTRIES,
    summary: 'Show a manifest or index as its registry serves it, or a list that is begun',
    description:
      'Asks the registry, through the daemon and with this user’s credentials; nothing is pulled. A list of that name ' +
      'that is begun and not pushed goes before.',
    args: [
      { name: 'NAME[:TAG|@DIGEST]', description: 'Image in a registry, or begun list', completes: 'image' },
      { name: 'MANIFEST', description: 'Of a begun list that manifest', optional: true, completes: 'image' },
    ],
    options: [
      INSECURE,
      { flags: '-v, --verbose', description: 'Show each manifest of an index, with descriptors and platforms' },
    ],
    examples: [
      ['layerctl manifest inspect debian:12', 'the index with its platforms'],
      ['layerctl manifest inspect -v debian:12', 'and the manifest of each'],
    ],
    load: async () => (await import('./manifest.ts')).inspectManifest,
  },
  {
    paths: ['manifest push'],
    group: REGISTRIES,
    summary: 'Push a list that is begun, and print its digest',
    description:
      'Puts the list into its repository. Manifests that other repositories of the registry have are taken over from ' +
      'there first.',
    args: [LIST],
    options: [INSECURE, { flags: '-p, --purge', description: 'Forget the begun list afterwards' }],
    examples: [['layerctl manifest push -p team/app:1', 'and forget it']],
    load: async () => (await import('./manifest-list.ts')).pushList,
  },
  {
    paths: ['manifest rm'],
    group: REGISTRIES,
    summary: 'Forget lists that are begun',
    args: [{ ...LIST, variadic: true }],
    options: [],
    examples: [['layerctl manifest rm team/app:1', 'one list']],
    load: async () => (await import('./manifest-list.ts')).removeLists,
  },
  {
    paths: ['events', 'system events'],
    group: DAEMON,
    summary: 'Show what happens, as it happens',
    description:
      'Streams events until stopped, or until --until. Times may be Unix seconds, RFC 3339, or a duration back from now. ' +
      'layerd numbers its events and keeps them: with --follow and --cursor-file none is missed while the daemon or layerctl ' +
      'is down.',
    args: [],
    options: [
      {
        flags: '--cursor-file <FILE>',
        description: 'Keep the place in a file, and go on from there the next time; --since is for the first time',
        completes: 'file',
      },
      {
        flags: '-f, --filter <KEY=VALUE>',
        description: 'Show only what matches: event, image, label, type',
        repeatable: true,
        completes: ['event=', 'image=', 'label=', 'type=image', 'type=layer', 'type=daemon'],
      },
      { flags: '--follow', description: 'Connect again when the daemon restarts or the connection breaks' },
      { flags: '--format <FORMAT>', description: "'json', or a template by field", completes: ['json'] },
      { flags: '--progress', description: 'Show how transfers get on, too; without --format, or with json' },
      { flags: '--since <TIME>', description: 'Begin with events from then on' },
      { flags: '--until <TIME>', description: 'End there' },
    ],
    examples: [
      ['layerctl events --filter type=image', 'what happens to images'],
      ['layerctl events --since 1h --until 0s', 'the last hour, and end'],
      ['layerctl events --follow --cursor-file place --format json', 'every event once, also over restarts'],
      ['layerctl events --follow --progress', 'transfers as well'],
      ["layerctl events --format '{{.Seq}} {{.Action}} {{.Actor.ID}}'", 'fields for scripts'],
    ],
    load: async () => (await import('./events.ts')).events,
  },
  {
    paths: ['sets', 'set ls', 'set list'],
    group: SETS,
    summary: 'List pinned image sets, and how they are',
    description:
      'Lists pinned image sets: lists of images that the daemon pulls, keeps from removal, and keeps up to date. IMAGES says ' +
      'how many are here; STATUS which conditions are true: Ready (all are here), Progressing (something is pulled), Degraded ' +
      '(something failed and is tried again); MESSAGE why.',
    args: [],
    options: [FORMAT_LIST, { flags: '-q, --quiet', description: 'Show names alone' }],
    examples: [
      ['layerctl sets', 'how all of them are'],
      ["layerctl sets --format '{{.Name}} {{.Status}} {{.Reason}}'", 'fields for scripts'],
    ],
    load: async () => (await import('./sets.ts')).sets,
  },
  {
    paths: ['set apply'],
    group: SETS,
    summary: 'Create an image set, or replace it',
    description:
      'Creates the image set that a JSON file describes, or replaces it. It is called after the file, unless a name is given. ' +
      'The daemon pulls what is missing and keeps all of it from removal from then on; --wait waits until it is here.',
    args: [{ name: 'SET', description: 'Name of the image set', optional: true, completes: 'set' }],
    options: [
      {
        flags: '-f, --file <FILE>',
        description: 'File with the set as JSON, or - for standard input',
        completes: 'file',
      },
      { flags: '--wait', description: 'Wait until all of its images are here' },
    ],
    examples: [
      ['layerctl set apply -f base.json', 'the set base'],
      ['echo \'{"images":["redis:7","debian:12"]}\' | layerctl set apply cache -f - --wait', 'until both are here'],
    ],
    load: async () => (await import('./sets.ts')).apply,
  },
  {
    paths: ['set inspect'],
    group: SETS,
    summary: 'Show all there is to know about image sets',
    args: [SET],
    options: [
      FORMAT_DOCUMENT,
      {
        flags: '--images',
        description: 'Show the images as a table: which are here, what failed, and what comes next',
      },
      { flags: '--no-trunc', description: 'With --images, do not shorten IDs' },
    ],
    examples: [
      ['layerctl set inspect --images base', 'its images'],
      [
        "layerctl set inspect -f '{{range .conditions}}{{println .type .status .reason}}{{end}}' base",
        'its conditions',
      ],
    ],
    load: async () => (await import('./sets.ts')).inspect,
  },
  {
    paths: ['set watch'],
    group: SETS,
    summary: 'Show image sets as they change, until stopped',
    args: [
      { name: 'SET', description: 'Only image sets of that name', optional: true, variadic: true, completes: 'set' },
    ],
    options: [FORMAT_DOCUMENT],
    examples: [['layerctl set watch base', 'one of them']],
    load: async () => (await import('./sets.ts')).watch,
  },
  {
    paths: ['set rm', 'set remove'],
    group: SETS,
    summary: 'Delete image sets; their images stay, and can be removed again',
    args: [SET],
    options: [],
    examples: [['layerctl set rm cache', 'unpins its images']],
    load: async () => (await import('./sets.ts')).remove,
  },
  {
    paths: ['transfers', 'transfer ls'],
    group: DAEMON,
    summary: 'Show what is downloaded and uploaded, for whom and how fast',
    description:
      'Shows each blob that is transferred, waits for it or is paused. On a terminal the view is live, and keys pause, resume, ' +
      'reorder and cancel the one that is selected; elsewhere, and with --format, it is a table of how things stand.',
    args: [],
    options: [FORMAT_LIST, NO_TRUNC],
    examples: [
      ['layerctl transfers', 'a live view: arrows select, p pauses and resumes, + and - reorder, c cancels, q quits'],
      ['layerctl transfers --format table', 'as it is now'],
      ["layerctl transfers --format '{{.Digest}} {{.Rate}} {{.Client}}'", 'fields for scripts'],
    ],
    load: async () => (await import('./transfers.ts')).transfers,
  },
  {
    paths: ['transfer pause'],
    group: DAEMON,
    summary: 'Pause transfers; their places go to the next, and what has arrived stays',
    args: [DIGEST],
    options: [],
    examples: [['layerctl transfer pause 5f70bf18a086', 'until it is resumed']],
    load: async () => (await import('./transfers.ts')).pause,
  },
  {
    paths: ['transfer resume'],
    group: DAEMON,
    summary: 'Let paused transfers go on',
    args: [DIGEST],
    options: [],
    examples: [['layerctl transfer resume 5f70bf18a086', 'from where it was']],
    load: async () => (await import('./transfers.ts')).resume,
  },
  {
    paths: ['transfer priority'],
    group: DAEMON,
    summary: 'Let transfers that wait go before others, or after them',
    args: [{ name: 'PRIORITY', description: 'From -100 to 100; 0 is usual' }, DIGEST],
    options: [],
    examples: [['layerctl transfer priority 10 5f70bf18a086', 'before what is usual']],
    load: async () => (await import('./transfers.ts')).prioritize,
  },
  {
    paths: ['transfer cancel'],
    group: DAEMON,
    summary: 'Cancel transfers, for all pulls and pushes that need them',
    args: [DIGEST],
    options: [],
    examples: [['layerctl transfer cancel 5f70bf18a086', 'the same pull goes on from there']],
    load: async () => (await import('./transfers.ts')).cancel,
  },
  {
    paths: ['pulls', 'pulls ls'],
    group: DAEMON,
    summary: 'Show the pulls, pushes and copies under way, and steer them',
    description:
      'Shows the pulls, pushes and copies under way, whoever asked for them. A detached pull (layerctl pull --detach) goes on ' +
      'though nobody waits for it; how it ended is kept for 24 hours.',
    args: [],
    options: [{ flags: '-a, --all', description: 'Show detached pulls that have ended, too' }, FORMAT_LIST],
    examples: [
      ['layerctl pulls', 'what is under way'],
      ["layerctl pulls --all --format '{{.ID}} {{.State}} {{.Error}}'", 'how detached pulls ended, for scripts'],
    ],
    load: async () => (await import('./pulls.ts')).pulls,
  },
  {
    paths: ['pulls inspect'],
    group: DAEMON,
    summary: 'Show pulls, pushes or copies, with their transfers, as JSON',
    args: [PULL],
    options: [FORMAT_DOCUMENT],
    examples: [["layerctl pulls inspect -f '{{.state}}' 4f2a", 'one field']],
    load: async () => (await import('./pulls.ts')).inspectPulls,
  },
  {
    paths: ['pulls wait'],
    group: DAEMON,
    summary: 'Wait for detached pulls to end, and print how: done, failed or cancelled',
    description: 'Exits with 0 when all are done, and with 1 when one is not.',
    args: [PULL],
    options: [],
    examples: [['layerctl pulls wait 4f2a0c9b7d11', 'until it has ended']],
    load: async () => (await import('./pulls.ts')).waitForPulls,
  },
  {
    paths: ['pulls priority'],
    group: DAEMON,
    summary: 'Let what pulls, pushes and copies wait for go before others, or after them',
    args: [{ name: 'PRIORITY', description: 'From -100 to 100; 0 is usual' }, PULL],
    options: [],
    examples: [['layerctl pulls priority 10 4f2a0c9b7d11', 'before what is usual']],
    load: async () => (await import('./pulls.ts')).prioritizePulls,
  },
  {
    paths: ['pulls cancel'],
    group: DAEMON,
    summary: 'Cancel pulls, pushes and copies; transfers that others want go on',
    args: [PULL],
    options: [],
    examples: [['layerctl pulls cancel 4f2a0c9b7d11', 'what has arrived is kept for the same pull']],
    load: async () => (await import('./pulls.ts')).cancelPulls,
  },
  {
    paths: ['limits', 'limits ls'],
    group: DAEMON,
    summary: 'Show how many blobs may be transferred at once, and how fast',
    description:
      'Shows the limits in force: how many blobs are downloaded and uploaded at once, in all and of a registry, and with which ' +
      'bandwidth.',
    args: [],
    options: [FORMAT_LIST],
    examples: [
      ['layerctl limits', 'all of them'],
      ['layerctl limits --format json', 'for scripts'],
    ],
    load: async () => (await import('./limits.ts')).limits,
  },
  {
    paths: ['limits set'],
    group: DAEMON,
    summary: 'Limit transfers otherwise, at once and for what is under way too',
    description:
      'Changes the limits that are named, and shows all. They hold until the daemon starts or reads its configuration again. ' +
      'Downloads beyond a lower limit wait for another turn and go on where they are; uploads keep their places until they end.',
    args: [],
    options: [
      { flags: '--download-bandwidth <RULE>', description: BANDWIDTH, repeatable: true, completes: ['none'] },
      { flags: '--max-concurrent-downloads <N>', description: 'Blobs that are downloaded at once' },
      {
        flags: '--max-concurrent-downloads-per-registry <RULE>',
        description: 'Of those, blobs from one registry: REGISTRY=N, or N for each; none takes a limit away',
        repeatable: true,
      },
      { flags: '--max-concurrent-uploads <N>', description: 'Blobs that are uploaded at once' },
      {
        flags: '--max-concurrent-uploads-per-registry <RULE>',
        description: 'Of those, blobs to one registry, in the same form',
        repeatable: true,
      },
      { flags: '--upload-bandwidth <RULE>', description: BANDWIDTH, repeatable: true, completes: ['none'] },
    ],
    examples: [
      ['layerctl limits set --max-concurrent-downloads 1', 'one at a time'],
      ['layerctl limits set --max-concurrent-downloads-per-registry registry.example.com=2', 'two from that registry'],
      ['layerctl limits set --download-bandwidth 20m --download-bandwidth 2m@08:00-18:00', 'less while people work'],
      ['layerctl limits set --download-bandwidth none', 'no limit'],
    ],
    load: async () => (await import('./limits.ts')).setLimits,
  },
  {
    paths: ['df', 'system df'],
    group: DAEMON,
    summary: 'Show what takes space on the disk',
    description:
      'Shows what images take, what interrupted pulls have left for a resume, and what is under way, in bytes of the disk. ' +
      'What several images share is counted once.',
    args: [],
    options: [
      FORMAT_LIST,
      { flags: '-v, --verbose', description: 'Show each image, with what it shares and what is its own' },
    ],
    examples: [
      ['layerctl df', 'how much there is, and how much prune -a would free'],
      ['layerctl df -v', 'which images take it'],
      ["layerctl df --format '{{.Type}} {{.Size}}'", 'fields for scripts'],
    ],
    load: async () => (await import('./df.ts')).df,
  },
  {
    paths: ['verify', 'system verify'],
    group: DAEMON,
    summary: 'Prove that what is stored is sound, and repair it',
    description:
      'Reads every blob and every layer again, of one image or of the whole store, and compares them with their digests. ' +
      'What is damaged counts as missing from then on. With --repair it is brought back: a layer out of its blob, a blob ' +
      'from the registry that it came from, and nothing but what is damaged. Exits with 1 if anything is left unsound.',
    args: [
      { name: 'IMAGE', description: 'Name, digest or ID; without it everything', optional: true, completes: 'image' },
    ],
    options: [
      { flags: '--format <FORMAT>', description: 'json: the report, without progress', completes: ['json'] },
      { flags: '-q, --quiet', description: 'Print nothing; the exit status tells' },
      {
        flags: '--repair',
        description: 'Bring back what is missing or damaged, and remove files that nothing knows of',
      },
    ],
    examples: [
      ['layerctl verify', 'is anything damaged, and which images does that concern?'],
      ['layerctl verify redis:7 --repair', 'make one image whole again'],
      ["layerctl verify --format json | jq '.findings[].images[]'", 'in a script'],
    ],
    load: async () => (await import('./verify.ts')).verify,
  },
  {
    paths: ['info', 'system info'],
    group: DAEMON,
    summary: 'Show the daemon, its store and its registries with their rate limits',
    args: [],
    options: [FORMAT_DOCUMENT],
    examples: [
      ['layerctl info', 'everything'],
      ["layerctl info -f '{{.DockerRootDir}}'", 'where the data is'],
      ["layerctl info -f '{{json .Registries}}'", 'pull limits for scripts'],
    ],
    load: async () => (await import('./info.ts')).info,
  },
  {
    paths: ['ping'],
    group: DAEMON,
    summary: 'Ask whether the daemon answers, and how fast',
    description: 'Exits with 0 when the daemon answers and with 1 when it does not, for health checks.',
    args: [],
    options: [{ flags: '-q, --quiet', description: 'Print nothing; the exit status tells' }],
    examples: [['until layerctl ping -q 2>/dev/null; do sleep 1; done', 'wait for the daemon']],
    load: async () => (await import('./ping.ts')).ping,
  },
  {
    paths: ['version'],
    group: DAEMON,
    summary: 'Show the versions of client and daemon',
    args: [],
    options: [FORMAT_DOCUMENT],
    examples: [["layerctl version -f '{{.Server.Version}}'", 'the daemon’s alone']],
    load: async () => (await import('./version.ts')).version,
  },
  {
    paths: ['completion'],
    group: CLIENT,
    summary: 'Print a completion script for a shell',
    description: 'Prints a script that completes commands, options, and the names of images the daemon has.',
    args: [{ name: 'SHELL', description: 'bash, zsh or fish', completes: ['bash', 'zsh', 'fish'] }],
    options: [],
    examples: [
      ['source <(layerctl completion bash)', 'in ~/.bashrc'],
      ['layerctl completion zsh > "${fpath[1]}/_layerctl"', 'for zsh'],
      ['layerctl completion fish > ~/.config/fish/completions/layerctl.fish', 'for fish'],
    ],
    load: async () => (await import('./completion.ts')).completion,
  },
];

/** What the words before the subcommand stand for, in help. */
export const PARENTS: Readonly<Record<string, { readonly summary: string; readonly group: string }>> = {
  manifest: { summary: 'Commands on manifests: annotate, create, inspect, push, rm', group: REGISTRIES },
  image: {
    summary: 'Commands on images: copy, gc, ls, inspect, history, import, load, prune, pull, push, rm, save, tag',
    group: 'As docker groups them',
  },
  set: { summary: 'Commands on image sets: apply, inspect, ls, rm, watch', group: SETS },
  transfer: { summary: 'Commands on transfers: cancel, ls, pause, priority, resume', group: DAEMON },
  system: { summary: 'Commands on the daemon: df, events, info, verify', group: 'As docker groups them' },
};

/** Options before the command. */
export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  {
    flags: '-H, --host <HOST>',
    description: 'Daemon to talk to: unix://PATH, tcp://HOST:PORT, http(s)://HOST:PORT',
    completes: ['unix://', 'tcp://', 'http://', 'https://'],
  },
  { flags: '--config <DIR>', description: 'Directory with docker’s config.json (credentials)', completes: 'directory' },
  { flags: '--tls', description: 'Use TLS; implied by --tlsverify' },
  { flags: '--tlscacert <FILE>', description: 'Trust only certificates signed by this CA', completes: 'file' },
  { flags: '--tlscert <FILE>', description: 'Client certificate', completes: 'file' },
  { flags: '--tlskey <FILE>', description: 'Its key', completes: 'file' },
  { flags: '--tlsverify', description: 'Use TLS and verify the daemon’s certificate' },
  { flags: '-D, --debug', description: 'Show where an unexpected error came from' },
];
