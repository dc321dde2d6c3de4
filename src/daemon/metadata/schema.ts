/**
 * The metadata schema, as the migrations that lead to it. A migration that has shipped is never edited: a store written
 * by any release is brought forward by the ones that follow. Times are Unix milliseconds unless a column says otherwise.
 */
export const migrations: readonly string[] = [
  `
  -- Facts about this store: identity, boot ID of the last start.
  CREATE TABLE fact (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

  -- A blob that was verified and renamed into place. durable: its bytes were synced to the disk; after a power loss a
  -- blob that was not is verified again before it is trusted.
  CREATE TABLE blob (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, durable INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- An EROFS image of a layer, one per diff ID. size: bytes of the uncompressed tar; image_size: bytes of the EROFS file.
  CREATE TABLE layer (
    diff_id TEXT PRIMARY KEY, size INTEGER NOT NULL, image_size INTEGER NOT NULL,
    durable INTEGER NOT NULL DEFAULT 0, created_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- Which diff ID a layer blob decompresses to, learned by decompressing it.
  CREATE TABLE layer_blob (digest TEXT PRIMARY KEY, diff_id TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX layer_blob_by_diff_id ON layer_blob (diff_id);

  -- Where a blob was seen, so that it can be fetched again or mounted across repositories.
  CREATE TABLE blob_source (
    digest TEXT NOT NULL, repository TEXT NOT NULL, PRIMARY KEY (digest, repository)
  ) STRICT, WITHOUT ROWID;

  -- A manifest whose config and layers are all stored. kind: image, attestation or artifact. size: bytes its
  -- layers' EROFS images take on the disk; content_size: bytes of the manifest, the config and the layer blobs, each
  -- counted once. platform and labels are JSON out of the config, so that a list needs no file.
  CREATE TABLE manifest (
    digest TEXT PRIMARY KEY, media_type TEXT NOT NULL, bytes INTEGER NOT NULL, kind TEXT NOT NULL,
    config_digest TEXT NOT NULL, size INTEGER NOT NULL, content_size INTEGER NOT NULL,
    platform TEXT, labels TEXT, created TEXT, stored_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX manifest_by_config ON manifest (config_digest);

  -- The diff IDs and layer digests of a manifest, bottom first.
  CREATE TABLE manifest_layer (
    manifest TEXT NOT NULL REFERENCES manifest (digest) ON DELETE CASCADE, position INTEGER NOT NULL,
    digest TEXT NOT NULL, diff_id TEXT, chain_id TEXT, media_type TEXT NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (manifest, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX manifest_layer_by_digest ON manifest_layer (digest);
  CREATE INDEX manifest_layer_by_diff_id ON manifest_layer (diff_id);

  -- An image: what a name points to, an index or a manifest. image_id: the config digest of its manifest for this host.
  -- An image without a name is dangling, and stays until it is removed.
  CREATE TABLE image (
    target TEXT PRIMARY KEY, media_type TEXT NOT NULL, bytes INTEGER NOT NULL, image_id TEXT NOT NULL,
    manifest TEXT NOT NULL, stored_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_by_id ON image (image_id);

  -- The manifests that an image has stored, out of those its index lists (a plain manifest has itself).
  CREATE TABLE image_manifest (
    target TEXT NOT NULL REFERENCES image (target) ON DELETE CASCADE,
    manifest TEXT NOT NULL REFERENCES manifest (digest), PRIMARY KEY (target, manifest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_manifest_by_manifest ON image_manifest (manifest);

  -- Every blob that an image holds: indexes, manifests, configs and layers. What no row here and no lease names is garbage.
  CREATE TABLE image_blob (
    target TEXT NOT NULL REFERENCES image (target) ON DELETE CASCADE, digest TEXT NOT NULL,
    PRIMARY KEY (target, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_blob_by_digest ON image_blob (digest);

  -- Tags. repository is canonical, with its registry: docker.io/library/redis.
  CREATE TABLE tag (
    repository TEXT NOT NULL, tag TEXT NOT NULL, target TEXT NOT NULL REFERENCES image (target),
    tagged_at INTEGER NOT NULL, PRIMARY KEY (repository, tag)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX tag_by_target ON tag (target);

  -- The repositories in which an image is known by its digest (RepoDigests).
  CREATE TABLE repo_digest (
    repository TEXT NOT NULL, target TEXT NOT NULL REFERENCES image (target) ON DELETE CASCADE,
    PRIMARY KEY (repository, target)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX repo_digest_by_target ON repo_digest (target);

  -- What garbage collection must leave alone though no image holds it yet: the content of a pull under way, or of one
  -- that was interrupted and may be resumed until the lease expires.
  CREATE TABLE lease (id TEXT PRIMARY KEY, expires_at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE lease_content (
    lease TEXT NOT NULL REFERENCES lease (id) ON DELETE CASCADE, digest TEXT NOT NULL, PRIMARY KEY (lease, digest)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX lease_content_by_digest ON lease_content (digest);

  -- The log of events. time is Unix nanoseconds; attributes is JSON.
  CREATE TABLE event (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, type TEXT NOT NULL, action TEXT NOT NULL,
    actor TEXT NOT NULL, attributes TEXT NOT NULL
  ) STRICT;
  CREATE INDEX event_by_time ON event (time);
  `,
  `
  -- Bytes of the files in a layer, which the history of an image shows; NULL for layers that were stored before this column.
  ALTER TABLE layer ADD COLUMN file_bytes INTEGER;
  `,
  `
  -- The image that another was made on top of, step by step, by their image IDs. Either of them may be gone.
  CREATE TABLE parent (image_id TEXT PRIMARY KEY, parent TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX parent_by_parent ON parent (parent);
  `,
  `
  -- What the log of events takes in bytes, about: a row of an event has some beside its texts.
  CREATE TABLE event_size (bytes INTEGER NOT NULL) STRICT;
  INSERT INTO event_size SELECT COALESCE(SUM(octet_length(attributes) + octet_length(actor) + 64), 0) FROM event;
  CREATE TRIGGER event_added AFTER INSERT ON event BEGIN
    UPDATE event_size SET bytes = bytes + octet_length(NEW.attributes) + octet_length(NEW.actor) + 64;
  END;
  CREATE TRIGGER event_removed AFTER DELETE ON event BEGIN
    UPDATE event_size SET bytes = bytes - octet_length(OLD.attributes) - octet_length(OLD.actor) - 64;
  END;
  `,
  `
  -- What a verification found. damage: why the file is not to be trusted, NULL while it is; verified_at: when it was last
  -- found sound. image_digest: SHA-256 of the EROFS image as it was when it was synced to the disk.
  ALTER TABLE blob ADD COLUMN damage TEXT;
  ALTER TABLE blob ADD COLUMN verified_at INTEGER;
  ALTER TABLE layer ADD COLUMN damage TEXT;
  ALTER TABLE layer ADD COLUMN verified_at INTEGER;
  ALTER TABLE layer ADD COLUMN image_digest TEXT;
`,
  `
  -- Pulls that go on though nobody waits for them, and how they ended. state: running, done, failed or cancelled.
  -- authenticated: whether it was given credentials, which are never here. size, received: bytes at its end.
  CREATE TABLE detached_pull (
    id TEXT PRIMARY KEY, reference TEXT NOT NULL, platform TEXT, all_platforms INTEGER NOT NULL, priority INTEGER NOT NULL,
    client TEXT NOT NULL, since INTEGER NOT NULL, authenticated INTEGER NOT NULL, state TEXT NOT NULL, error TEXT,
    ended_at INTEGER, size INTEGER NOT NULL DEFAULT 0, received INTEGER NOT NULL DEFAULT 0
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX detached_pull_by_state ON detached_pull (state, ended_at);
  `,
  `
  -- The latest time up to each event. It only grows, also where the clock was set back, so that an index finds the first
  -- event of a time or later.
  ALTER TABLE event ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
  UPDATE event SET latest = until_here.latest
    FROM (SELECT seq, MAX(time) OVER (ORDER BY seq) AS latest FROM event) AS until_here WHERE until_here.seq = event.seq;
  DROP INDEX event_by_time;
  CREATE INDEX event_by_latest ON event (latest);
  `,
  `
  -- When an image was last pulled, loaded, tagged, pushed or saved. Of those from before this column it is not known, and
  -- nobody shall lose them for that.
  ALTER TABLE image ADD COLUMN used_at INTEGER NOT NULL DEFAULT 0;
  UPDATE image SET used_at = CAST(unixepoch('subsec') * 1000 AS INTEGER);
  `,
  `
  -- Image sets, as they were last asked for. spec is JSON, as it was given; file: where it comes from, NULL for the API.
  -- problem: why the file cannot be used as it is now; what an earlier one asked for stays. conditions is JSON.
  CREATE TABLE image_set (
    name TEXT PRIMARY KEY, spec TEXT NOT NULL, file TEXT, problem TEXT, generation INTEGER NOT NULL,
    observed_generation INTEGER NOT NULL, conditions TEXT NOT NULL, created_at INTEGER NOT NULL, updated_at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;

  -- The images of a set, and what has become of each. platform is empty for the host's; tag or digest is set. target and
  -- manifest: what of the store it is pinned to; remote: what its registry last said that the reference names.
  -- error is JSON. Times are Unix milliseconds.
  CREATE TABLE image_set_member (
    set_name TEXT NOT NULL REFERENCES image_set (name) ON DELETE CASCADE, reference TEXT NOT NULL, platform TEXT NOT NULL,
    repository TEXT NOT NULL, tag TEXT, digest TEXT, target TEXT, manifest TEXT, remote TEXT, checked_at INTEGER,
    next_at INTEGER, failures INTEGER NOT NULL DEFAULT 0, error TEXT, PRIMARY KEY (set_name, reference, platform)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX image_set_member_by_target ON image_set_member (target);
  CREATE INDEX image_set_member_by_manifest ON image_set_member (manifest);
  CREATE INDEX image_set_member_by_name ON image_set_member (repository, tag, digest);
  `,
];
