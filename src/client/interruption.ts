import { Exit, type ExitStatus } from './commands/command.ts';

/** Why a command's signal is aborted: the user, or whoever runs it, wants it to stop. */
export class Interruption extends Error {
  readonly exitStatus: ExitStatus;

  constructor(signal: 'SIGINT' | 'SIGTERM') {
    super(`stopped by ${signal}`);
    this.name = 'Interruption';
    this.exitStatus = signal === 'SIGINT' ? Exit.interrupted : Exit.terminated;
  }
}
