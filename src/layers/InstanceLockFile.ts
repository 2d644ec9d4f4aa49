/**
 * One broker per identity by a lock file that names its holder: pid, process start and boot. It appears whole, by `link`.
 *
 * A lock whose holder is gone is replaced by whoever holds the right to replace this very lock: a second lock, named after its
 * content. So of any number of simultaneous starters one wins, however they interleave.
 */
import { createHash, randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { Effect, Layer, Option, Schema } from "effect"
import { AlreadyRunning, InstanceLock, LockError } from "../services/InstanceLock.js"
import { Liveness } from "../services/Liveness.js"
import { Paths } from "../services/Paths.js"
import { bootId } from "./internal/process.js"
import { readSecretFile, secretDirectory, writeSecretFile } from "./internal/secretFile.js"

const Holder = Schema.Struct({
  version: Schema.Literal(1),
  pid: Schema.Number,
  /** Start of that process and boot of the machine; `null` where the system does not tell. */
  startedAs: Schema.NullOr(Schema.String),
  bootId: Schema.NullOr(Schema.String),
  /** No two locks are the same text. */
  mark: Schema.String
})
interface Holder extends Schema.Schema.Type<typeof Holder> {}
const parse = Schema.decodeUnknownOption(Schema.parseJson(Holder))

/** The holder of the lock at `file`, if it is a whole one. */
export const readHolder = (file: string) =>
  Effect.map(readSecretFile(file), (text) => (text === undefined ? Option.none<Holder>() : parse(text)))

export const layer: Layer.Layer<InstanceLock, AlreadyRunning | LockError, Paths | Liveness> = Layer.scoped(
  InstanceLock,
  Effect.gen(function* () {
    const { directory, lockFile } = yield* Paths
    const liveness = yield* Liveness
    const boot = (yield* bootId) ?? null
    const mark = randomBytes(6).toString("hex")
    const startedAs = (yield* liveness.startOf(process.pid)) ?? null
    const me: Holder = { version: 1, pid: process.pid, startedAs, bootId: boot, mark }
    const mine = `${lockFile}.${process.pid}.${mark}`

    const failed = ({ message }: { readonly message: string }) =>
      new LockError({ message: `The lock ${lockFile} cannot be taken: ${message}` })
    const file = <A>(f: () => Promise<A>) =>
      Effect.tryPromise({ try: f, catch: (error) => failed({ message: `${(error as Error).message}.` }) })

    const isAlive = (holder: Holder) =>
      Effect.gen(function* () {
        if (holder.bootId !== null && boot !== null && holder.bootId !== boot) return false
        if (!liveness.unsafeIsAlive(holder.pid, holder.startedAs ?? undefined)) return false
        const start = yield* liveness.startOf(holder.pid)
        return holder.startedAs === null || start === undefined || start === holder.startedAs
      })

    /** Makes this process the holder of the lock, or says who holds it. */
    const acquire = (lock: string): Effect.Effect<Holder | undefined, LockError> =>
      Effect.gen(function* () {
        while (true) {
          if (yield* file(() => fs.link(mine, lock).then(() => true, unlessTaken))) return undefined
          const text = yield* file(() => readLock(lock))
          if (text === undefined) continue
          const holder = Option.getOrUndefined(parse(text))
          if (holder !== undefined && (yield* isAlive(holder))) return holder
          const replacing = `${lock}.${createHash("sha256").update(text).digest("hex").slice(0, 12)}`
          if ((yield* acquire(replacing)) !== undefined) {
            yield* Effect.sleep("5 millis")
            continue
          }
          const replaced = yield* file(async () => {
            if ((await readLock(lock)) !== text) return false
            await fs.link(mine, `${mine}.new`)
            await fs.rename(`${mine}.new`, lock)
            return true
          }).pipe(Effect.ensuring(remove(replacing)))
          if (replaced) return undefined
        }
      })

    // What is left behind of these is stale and taken over by the next start.
    const remove = (name: string) => Effect.promise(() => fs.rm(name, { force: true }).catch(() => undefined))

    const holds = Effect.promise(async () => {
      const [lock, own] = await Promise.all([fs.stat(lockFile), fs.stat(mine)]).catch(() => [])
      return lock !== undefined && own !== undefined && lock.ino === own.ino && lock.dev === own.dev
    })

    /** Files of starters that were killed. */
    const removeLeftovers = Effect.gen(function* () {
      const prefix = `${path.basename(lockFile)}.`
      for (const name of yield* file(() => fs.readdir(directory))) {
        const leftover = path.join(directory, name)
        if (!name.startsWith(prefix) || leftover === mine) continue
        const read = Option.getOrUndefined(yield* Effect.orElseSucceed(readHolder(leftover), Option.none))
        const holder = read ?? writerOf(name.slice(prefix.length))
        if (holder !== undefined && !(yield* isAlive(holder))) yield* remove(leftover)
      }
      // Housekeeping: they do no harm.
    }).pipe(Effect.ignore)

    yield* Effect.mapError(secretDirectory(directory), failed)
    yield* Effect.acquireRelease(
      Effect.gen(function* () {
        yield* Effect.mapError(writeSecretFile(mine, `${JSON.stringify(me)}\n`), failed)
        const holder = yield* acquire(lockFile)
        if (holder !== undefined) return yield* new AlreadyRunning({ pid: holder.pid, lockFile })
      }).pipe(Effect.onError(() => remove(mine))),
      () =>
        Effect.zipRight(Effect.if(holds, { onTrue: () => remove(lockFile), onFalse: () => Effect.void }), remove(mine))
    )
    yield* removeLeftovers
    return { lockFile }
  })
)

/**
 * The text of a lock, or `undefined` when there is none. A symbolic link is refused: one that leads nowhere would be
 * there for those who make the lock and absent for those who read it.
 */
const readLock = (lock: string): Promise<string | undefined> =>
  fs
    .readFile(lock, { encoding: "utf8", flag: fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0) })
    .catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ELOOP") throw new Error("it is a symbolic link; remove it")
      if (error.code !== "ENOENT") throw error
      return undefined
    })

const unlessTaken = (error: NodeJS.ErrnoException): false => {
  if (error.code !== "EEXIST") throw error
  return false
}

/** Who wrote a file that is torn, by its name; the lock's own file has no process in its name, and stays. */
const writerOf = (suffix: string): Holder | undefined => {
  const pid = Number(/^(\d+)\.[0-9a-f]{12}\./.exec(suffix)?.[1])
  return pid > 0 ? { version: 1, pid, startedAs: null, bootId: null, mark: "" } : undefined
}
