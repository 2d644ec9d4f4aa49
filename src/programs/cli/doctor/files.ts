/** Are the broker's files there for this user only? */
import { lstatSync, readdirSync, type Stats } from "node:fs"
import * as path from "node:path"
import type { Paths } from "../../../services/Paths.js"
import { type Check, ok, problem } from "./check.js"

const ours = process.getuid?.()

/** What is wrong with it, as a sentence; absent files are as they should be. */
const faultOf = (file: string): string | undefined => {
  let stat: Stats
  try {
    stat = lstatSync(file)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    return code === "ENOENT" ? undefined : `${file} cannot be looked at: ${message}.`
  }
  if (stat.isSymbolicLink()) return `${file} is a symbolic link; remove it.`
  if (ours === undefined) return undefined
  if (stat.uid !== ours) return `${file} belongs to user ${stat.uid}, not to you (${ours}); remove it.`
  if ((stat.mode & 0o077) === 0) return undefined
  const closed = stat.isDirectory() ? "700" : "600"
  return `${file} is open to others (mode ${(stat.mode & 0o777).toString(8)}); run chmod ${closed} on it.`
}

const under = (directory: string): ReadonlyArray<string> => {
  try {
    return readdirSync(directory).map((name) => path.join(directory, name))
  } catch {
    // It is not there, or `faultOf` says why it cannot be looked at.
    return []
  }
}

/** Directory, secrets, store and kept copies. */
export const checkFiles = (paths: Paths["Type"]): ReadonlyArray<Check> => {
  const beside = under(paths.directory)
  const stores = beside.filter((file) => path.basename(file).startsWith("store"))
  const files = [paths.directory, ...beside, ...stores.flatMap(under), paths.logDirectory, ...under(paths.logDirectory)]
  const faults = files.flatMap((file) => faultOf(file) ?? [])
  if (faults.length > 0) return faults.map((fault) => problem("files", fault))
  return [ok("files", `${paths.directory} and the ${files.length - 1} files around it are for this user only.`)]
}
