import { bulk, image, index, layer, type TestImage } from '../test/support/images.ts';

const KIB = 1024;

/** The image that is pulled before any fault, and has to outlive them all. */
export async function keptImage(): Promise<TestImage> {
  return image({ layers: [await layer([{ name: 'kept' }]), await bulk('kept', 96 * KIB)] });
}

/** How many {@link subjectImages} there are. */
export const SUBJECTS = 3;

/** Images that rounds are about. They have no layer in common with the one that is kept. */
export async function subjectImages(): Promise<TestImage[]> {
  const small = await layer([{ name: 'etc/' }, { name: 'etc/small', content: 'small' }]);
  return [
    image({ layers: [small, await bulk('first', 300 * KIB)] }),
    image({ format: 'oci', layers: [small, await bulk('second', 700 * KIB, 'zstd'), await bulk('third', 40 * KIB)] }),
    index([image({ layers: [await bulk('fourth', 1500 * KIB)] })]),
  ];
}
