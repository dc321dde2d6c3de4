/** Bytes that file systems give to files at a time, nearly everywhere: ext4, XFS and btrfs have blocks of 4 KiB. */
const BLOCK = 4096;

/** Bytes that a file of so many bytes takes on the disk. */
export const onDisk = (bytes: number): number => Math.ceil(bytes / BLOCK) * BLOCK;

/** The same in a statement, of a column with the bytes of files. */
export const sqlOnDisk = (column: string): string => `((${column} + ${BLOCK - 1}) / ${BLOCK} * ${BLOCK})`;
