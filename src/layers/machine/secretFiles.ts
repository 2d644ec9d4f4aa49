/** Files that hold secrets: for this user only, whole or not at all. Plain TypeScript, for launchers too. */
import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"

/** A file or directory that holds secrets is not usable. The message says which and what to do. */
export class UnfitFile extends Error {}

const attempt = <A>(doing: string, file: string, work: () => Promise<A>): Promise<A> =>
  work().catch((error: Error) => {
    throw error instanceof UnfitFile ? error : new UnfitFile(`${doing} ${file} failed: ${error.message}.`)
  })

const ours = process.getuid?.()

/** Makes the directory, for this user only. One that is there and open to others is tightened; a foreign one is refused. */
export const secretDirectory = async (directory: string): Promise<void> => {
  await attempt("Making the directory", directory, () => fs.mkdir(directory, { recursive: true, mode: 0o700 }))
  const stat = await attempt("Reading the directory", directory, () => fs.lstat(directory))
  if (!stat.isDirectory()) {
    throw new UnfitFile(`${directory} is ${stat.isSymbolicLink() ? "a symbolic link" : "not a directory"}; remove it.`)
  }
  if (ours === undefined) return
  if (stat.uid !== ours) {
    throw new UnfitFile(
      `${directory} belongs to user ${stat.uid}, not to the broker's user ${ours}; remove it or choose another base directory.`
    )
  }
  if ((stat.mode & 0o077) !== 0) {
    await attempt("Taking others' access from the directory", directory, () => fs.chmod(directory, 0o700))
  }
}

const flushDirectory = async (directory: string) => {
  if (process.platform === "win32") return
  const handle = await fs.open(directory, "r")
  await handle.sync().finally(() => handle.close())
}

/** Writes the file whole or not at all: temporary name, sync, rename. Readable by this user only. */
export const writeSecretFile = (file: string, text: string): Promise<void> =>
  attempt("Writing", file, async () => {
    const temporary = `${file}.tmp.${process.pid}.${randomBytes(4).toString("hex")}`
    try {
      const handle = await fs.open(temporary, "wx", 0o600)
      try {
        await handle.writeFile(text)
        await handle.sync()
      } finally {
        await handle.close()
      }
      await fs.rename(temporary, file)
    } catch (error) {
      await fs.rm(temporary, { force: true }).catch(() => undefined)
      throw error
    }
    await flushDirectory(path.dirname(file))
  })

/**
 * The text of the file, or `undefined` when there is none. A symbolic link, another owner's file, or one that others may
 * read or write is refused.
 */
export const readSecretFile = async (file: string): Promise<string | undefined> => {
  const opened = await attempt("Opening", file, () =>
    fs.open(file, fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined
      throw error.code === "ELOOP" ? new UnfitFile(`${file} is a symbolic link; remove it.`) : error
    })
  )
  if (opened === undefined) return undefined
  try {
    const stat = await attempt("Reading", file, () => opened.stat())
    if (!stat.isFile()) throw new UnfitFile(`${file} is not a file; remove it.`)
    if (ours !== undefined && stat.uid !== ours) {
      throw new UnfitFile(`${file} belongs to user ${stat.uid}, not to you (${ours}); remove it.`)
    }
    if (ours !== undefined && (stat.mode & 0o077) !== 0) {
      throw new UnfitFile(
        `${file} is open to others (mode ${(stat.mode & 0o777).toString(8)}); run chmod 600 on it or remove it.`
      )
    }
    return await attempt("Reading", file, () => opened.readFile("utf8"))
  } finally {
    await opened.close()
  }
}

/** Removes the file. Nothing happens when it is gone already. */
export const removeFile = (file: string): Promise<void> => attempt("Removing", file, () => fs.rm(file, { force: true }))
