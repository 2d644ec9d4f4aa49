/** One broker per identity: held from before anything is opened until everything is closed. */
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

/** The lock cannot be taken for another reason. */
export class LockError extends Data.TaggedError("LockError")<{ readonly message: string }> {}

/** The lock is held while this service exists, unless somebody removes it. */
export class InstanceLock extends Context.Tag("broker/InstanceLock")<
  InstanceLock,
  {
    readonly lockFile: string
    /** Takes a lock that was removed again. True when that was so; fails as well when another broker was quicker. */
    readonly renew: Effect.Effect<boolean, AlreadyRunning | LockError>
  }
>() {}
