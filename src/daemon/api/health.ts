import type { Router } from 'express';
import { LayerdError } from '../../protocol/errors.ts';
import type { Finding, Health } from '../health/health.ts';
import { newRouter, serve, type Call } from './call.ts';
import { quote } from './parameters.ts';
import type { ApiParts } from './parts.ts';

/** What a load balancer takes for "not now", as it does Kubernetes's own 500. */
const UNWELL = 503;

/** `/livez` and `/readyz`, each with its checks below it, in the form that Kubernetes's own components answer in. */
export function healthRoutes({ health }: Pick<ApiParts, 'health'>): Router {
  const router = newRouter();
  for (const [name, checks] of Object.entries(health)) {
    router.get(
      `/${name}`,
      serve((call) => answerAll(call, name, checks)),
    );
    router.get(
      `/${name}/:check`,
      serve((call) => answerOne(call, name, checks)),
    );
  }
  return router;
}

/** Answers with all checks but those that are excluded: `ok`, or a line for each where one fails or it is asked for. */
async function answerAll(call: Call, name: string, checks: Health): Promise<void> {
  const { query } = call;
  const excluded = new Set(query.getAll('exclude'));
  const findings = await checks.find(new Set(checks.names).difference(excluded));
  const isWell = findings.every((finding) => finding.isWell);
  const lines = checks.names.map((check) => {
    const finding = findings.find((candidate) => candidate.name === check);
    return finding === undefined ? `[+]${check} excluded: ok` : lineOf(finding);
  });
  // As in Kubernetes no error: probes are configured for more than one version.
  const unknown = [...excluded.difference(new Set(checks.names))];
  if (unknown.length > 0) {
    lines.push(`warn: some health checks cannot be excluded: no matches for ${unknown.map(quote).join(',')}`);
  }
  if (isWell && !query.has('verbose')) answer(call, true, 'ok');
  else answer(call, isWell, `${[...lines, `${name} check ${isWell ? 'passed' : 'failed'}`].join('\n')}\n`);
}

async function answerOne(call: Call, name: string, checks: Health): Promise<void> {
  const check = String(call.request.params['check']);
  const [finding] = await checks.find(new Set([check]));
  if (finding === undefined) {
    throw new LayerdError(
      'not-found',
      `no check ${quote(check)} in /${name}; expected one of: ${checks.names.join(', ')}`,
    );
  }
  answer(call, finding.isWell, finding.isWell && !call.query.has('verbose') ? 'ok' : `${lineOf(finding)}\n`);
}

const lineOf = ({ name, isWell, note }: Finding): string =>
  `${isWell ? '[+]' : '[-]'}${name} ${isWell ? 'ok' : 'failed'}${note === undefined ? '' : `: ${note.replace(/\s+/g, ' ')}`}`;

function answer({ response }: Call, isWell: boolean, text: string): void {
  response.statusCode = isWell ? 200 : UNWELL;
  response.setHeader('Content-Type', 'text/plain; charset=utf-8');
  response.setHeader('Cache-Control', 'no-cache, no-store');
  response.setHeader('X-Content-Type-Options', 'nosniff');
  response.end(text);
}
