import type { Kind } from '../kind.ts';
import { SUBJECTS } from '../images.ts';
import { disturbed } from '../works.ts';

/** Tokens expire while an image is on the way. */
export const token: Kind = {
  name: 'token',
  needs: ['docker-registry', 'openssl'],
  draw(random) {
    const subject = random.whole(0, SUBJECTS - 1);
    const from = random.whole(1, 4);
    const times = random.pick([1, 1, 2, 8]);
    const cutAfter = random.pick([undefined, random.whole(0, 100_000)]);
    return {
      plan: { subject, from, times, cutAfter },
      async run(beds) {
        const bed = await beds.get('guarded', () => ({ registry: { tokenAuth: true } }));
        const { tokens } = bed;
        const challenge = `Bearer realm="${tokens?.realm ?? ''}",service="${tokens?.service ?? ''}",scope="repository:subject${subject}:pull",error="invalid_token"`;
        return disturbed({
          bed,
          work: 'pull',
          subject,
          async disturb(run) {
            bed.proxy.inject({
              path: /^\/v2\/subject/,
              from,
              times,
              answer: { status: 401, headers: { 'WWW-Authenticate': challenge }, body: '{"errors":[]}' },
            });
            if (cutAfter !== undefined) bed.proxy.inject({ path: /\/blobs\//, times: 1, cutAfter });
            await run();
            return bed.proxy.struck;
          },
        });
      },
    };
  },
};
