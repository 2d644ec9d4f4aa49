/** One broker or command per identity: held from before anything is opened until everything is closed. */
import type { Effect } from "effect"
import { Context, Data } from "effect"

/** Another broker of this identity runs. */
export class AlreadyRunning extends Data.TaggedError("AlreadyRunning")<{
  readonly pid: number
  readonly lockFile: string
}> {
  override get message() {
    return `A broker of this identity is already running as process ${this.pid} (${this.lockFile}).`
  }
}

/** A command of `runtime-broker` works on the files of this identity, and no broker runs meanwhile. */
export class ToolAtWork extends Data.TaggedError("ToolAtWork")<{
  readonly pid: number
  readonly lockFile: string
  /** As it is typed behind `runtime-broker`. */
  readonly purpose: string
}> {
  override get message() {
    return `\`runtime-broker ${this.purpose}\` is at work on the files of this identity as process ${this.pid} (${this.lockFile}); try again when it is done.`
  }
}

/** The lock cannot be taken for another reason. */
export class LockError extends Data.TaggedError("LockError")<{
  readonly message: string
  /** The system's, where it has one: ENOSPC, EROFS … */
  readonly code?: string | undefined
}> {}

/** The lock is held while this service exists, unless somebody removes it. */
export class InstanceLock extends Context.Tag("broker/InstanceLock")<
  InstanceLock,
  {
    readonly lockFile: string
    /** Takes a lock that was removed again. True when that was so; fails as well when somebody else was quicker. */
    readonly renew: Effect.Effect<boolean, AlreadyRunning | ToolAtWork | LockError>
  }
>() {}
