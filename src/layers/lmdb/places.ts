/**
 * Where the store lies and what lies beside it while it is opened or replaced. A store gets its name, and is replaced, by
 * renaming, so that at any moment one whole store is there.
 */
import { closeSync, existsSync, fsyncSync, openSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs"
import * as path from "node:path"
import { processExists } from "../machine/processes.js"

/** Written before the store is opened, removed once it is known to be sound. */
export const openingMarker = (directory: string): string => `${directory}.opening`

/** A whole store that is to take the place of the present one, once the present one is gone. */
export const replacement = (directory: string): string => `${directory}.new`

const replaced = (directory: string) => `${directory}.old`

/** Where this process makes the store that is to lie in `directory`. */
export const unfinished = (directory: string): string => `${path.resolve(directory)}.unfinished-${process.pid}`

/** Removes what processes left that were killed while they made the store. */
export const removeUnfinished = (directory: string): void => {
  const [parent, prefix] = [path.dirname(directory), `${path.basename(directory)}.unfinished-`]
  for (const name of readdirSync(parent)) {
    if (!name.startsWith(prefix)) continue
    const pid = Number(name.slice(prefix.length))
    if (pid === process.pid || !processExists(pid)) rmSync(path.join(parent, name), { recursive: true, force: true })
  }
}
const damagedPrefix = (directory: string) => `${path.basename(directory)}.damaged-`

export const flushDirectory = (directory: string): void => {
  if (process.platform === "win32") return
  const fd = openSync(directory, "r")
  try {
    fsyncSync(fd)
  } finally {
    closeSync(fd)
  }
}

export const writeMarker = (directory: string): void => {
  const text = `${JSON.stringify({ pid: process.pid, at: new Date().toISOString() })}\n`
  writeFileSync(openingMarker(directory), text, { mode: 0o600, flush: true })
  flushDirectory(path.dirname(directory))
}

export const removeMarker = (directory: string): void => {
  rmSync(openingMarker(directory), { force: true })
  flushDirectory(path.dirname(directory))
}

/** Ends what a process began that was killed between two renames, and clears away what it left. */
export const settle = (directory: string): void => {
  const fresh = replacement(directory)
  const old = replaced(directory)
  if (!existsSync(directory)) {
    if (existsSync(fresh)) renameSync(fresh, directory)
    else if (existsSync(old)) renameSync(old, directory)
  }
  for (const left of [fresh, old]) rmSync(left, { recursive: true, force: true })
  for (const made of [directory, fresh]) removeUnfinished(made)
}

/** The replacement takes the store's place; the store so far goes. */
export const replaceStore = (directory: string): void => {
  moveIn(directory, replaced(directory))
  rmSync(replaced(directory), { recursive: true, force: true })
}

/** The replacement takes the store's place; the store so far is kept beside it. Returns where. */
export const keepDamaged = (directory: string, now: Date): string => {
  const time = now.toISOString().replace(/[-:]|\.\d+/g, "")
  let kept = path.join(path.dirname(directory), `${damagedPrefix(directory)}${time}`)
  for (let n = 2; existsSync(kept); n++) kept = `${kept.replace(/_\d+$/, "")}_${n}`
  moveIn(directory, kept)
  return kept
}

const moveIn = (directory: string, aside: string) => {
  renameSync(directory, aside)
  renameSync(replacement(directory), directory)
  flushDirectory(path.dirname(directory))
}

export const damagedCopies = (directory: string): ReadonlyArray<string> =>
  readdirSync(path.dirname(directory))
    .filter((name) => name.startsWith(damagedPrefix(directory)))
    .sort()
    .map((name) => path.join(path.dirname(directory), name))
