/**
 * A lock file that names its holder: pid, process start and boot. It appears whole, by `link`. Plain TypeScript, for launchers
 * too.
 *
 * A lock whose holder is gone is replaced by whoever holds the right to replace this very lock: a second lock, named after its
 * content. So of any number of simultaneous takers one wins, however they interleave.
 */
import { createHash, randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { bootId, isAlive, startOf } from "./processes.js"
import { readSecretFile } from "./secretFiles.js"

export interface Holder {
  readonly version: 1
  readonly pid: number
  /** Start of that process and boot of the machine; `null` where the system does not tell. */
  readonly startedAs: string | null
  readonly bootId: string | null
  /** No two locks are the same text. */
  readonly mark: string
  /** The command that holds it, as it is typed behind `runtime-broker`; without one it is whoever the lock is made for. */
  readonly purpose?: string
}

/** What a lock asks about processes. */
export interface Processes {
  /** False only when the process is surely gone. */
  readonly isAlive: (pid: number, start: string | undefined) => boolean
  readonly startOf: (pid: number) => Promise<string | undefined>
}
export const thisMachine: Processes = { isAlive, startOf }

/** The holder a lock's text names; `undefined` when it is torn or something else. */
export const parseHolder = (text: string): Holder | undefined => {
  try {
    const { bootId, mark, pid, purpose, startedAs, version } = JSON.parse(text) ?? {}
    const isTextOrNull = (value: unknown) => value === null || typeof value === "string"
    const isWhole =
      version === 1 &&
      typeof pid === "number" &&
      typeof mark === "string" &&
      isTextOrNull(startedAs) &&
      isTextOrNull(bootId)
    if (!isWhole) return undefined
    return { version, pid, startedAs, bootId, mark, ...(typeof purpose === "string" ? { purpose } : {}) }
  } catch {
    return undefined
  }
}

/** The holder of the lock at `file`, if it is a whole one. */
export const readHolder = async (file: string): Promise<Holder | undefined> => {
  const text = await readSecretFile(file)
  return text === undefined ? undefined : parseHolder(text)
}

/** A process that runs, as a lock names it. */
export const holderOf = async (pid: number, mark: string, { startOf }: Processes = thisMachine): Promise<Holder> => ({
  version: 1,
  pid,
  startedAs: (await startOf(pid)) ?? null,
  bootId: (await bootId()) ?? null,
  mark
})

/** False when the holder is surely gone: no such process, another one with its pid, or another boot. */
export const isHolderAlive = async (
  { bootId: itsBoot, pid, startedAs }: Holder,
  processes: Processes = thisMachine
): Promise<boolean> => {
  const boot = (await bootId()) ?? null
  if (itsBoot !== null && boot !== null && itsBoot !== boot) return false
  if (!processes.isAlive(pid, startedAs ?? undefined)) return false
  const start = await processes.startOf(pid)
  return startedAs === null || start === undefined || start === startedAs
}

export interface FileLock {
  /** Who else holds the lock; `undefined`: this one does, from now on. */
  readonly acquire: () => Promise<Holder | undefined>
  /** Whether it still does: a lock can be removed. */
  readonly isHeld: () => Promise<boolean>
  /** Removes the files of takers that were killed. They do no harm. */
  readonly removeLeftovers: () => Promise<void>
  /** Gives the lock back, if it is held, and removes all that belongs to it. One that others replaced stays. */
  readonly release: () => Promise<void>
}

export interface LockOptions {
  readonly processes?: Processes
  /** Reads the locks of others, where they come in more forms than this one. */
  readonly parse?: (text: string) => Holder | undefined
  /** What the lock is to say of it. */
  readonly purpose?: string | undefined
}

/** The right of this process to take the lock; the directory is there. */
export const fileLock = async (
  lockFile: string,
  { parse = parseHolder, processes = thisMachine, purpose }: LockOptions = {}
): Promise<FileLock> => {
  const mark = randomBytes(6).toString("hex")
  const mine = `${lockFile}.${process.pid}.${mark}`
  const me = { ...(await holderOf(process.pid, mark, processes)), startedAt: new Date().toISOString(), purpose }
  const content = `${JSON.stringify(me)}\n`
  const remove = (file: string) => fs.rm(file, { force: true }).catch(() => undefined)

  /** Not whole where a disk was full, or where somebody wrote into the lock, which is the same file. */
  const writeMine = async () => {
    if ((await readLock(mine).catch(() => undefined)) === content) return
    await remove(mine)
    await fs.writeFile(mine, content, { flag: "wx", mode: 0o600 })
  }

  const take = async (lock: string): Promise<Holder | undefined> => {
    while (true) {
      if (await fs.link(mine, lock).then(() => true, unlessTaken)) return undefined
      const text = await readLock(lock)
      if (text === undefined) continue
      const holder = parse(text)
      if (holder !== undefined && (await isHolderAlive(holder, processes))) return holder
      const replacing = `${lock}.${createHash("sha256").update(text).digest("hex").slice(0, 12)}`
      if ((await take(replacing)) !== undefined) {
        await new Promise((resolve) => setTimeout(resolve, 5))
        continue
      }
      try {
        if ((await readLock(lock)) !== text) continue
        await fs.link(mine, `${mine}.new`)
        await fs.rename(`${mine}.new`, lock)
        return undefined
      } finally {
        // What is left behind of it is stale and taken over by the next taker.
        await remove(replacing)
      }
    }
  }

  const isHeld = async () => (await readLock(lockFile).catch(() => undefined)) === content

  return {
    acquire: async () => {
      await writeMine()
      return take(lockFile)
    },

    isHeld,

    removeLeftovers: async () => {
      const directory = path.dirname(lockFile)
      const prefix = `${path.basename(lockFile)}.`
      for (const name of await fs.readdir(directory).catch(() => [])) {
        const leftover = path.join(directory, name)
        if (!name.startsWith(prefix) || leftover === mine) continue
        const holder = (await readHolder(leftover).catch(() => undefined)) ?? writerOf(name.slice(prefix.length))
        if (holder !== undefined && !(await isHolderAlive(holder, processes))) await remove(leftover)
      }
    },

    release: async () => {
      if (await isHeld()) await remove(lockFile)
      await remove(mine)
    }
  }
}

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

/** Who wrote a file that is torn, by its name. */
const writerOf = (suffix: string): Holder | undefined => {
  const pid = Number(/^(\d+)\.[0-9a-f]{12}(\.|$)/.exec(suffix)?.[1])
  return pid > 0 ? { version: 1, pid, startedAs: null, bootId: null, mark: "" } : undefined
}
