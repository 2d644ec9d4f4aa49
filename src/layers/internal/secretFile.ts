import { randomBytes } from "node:crypto"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { Data, Effect } from "effect"

/** A file or directory that holds secrets is not usable. The message says which and what to do. */
export class SecretFileError extends Data.TaggedError("SecretFileError")<{ readonly message: string }> {}

const failure = (doing: string, file: string) => (error: unknown) =>
  new SecretFileError({ message: `${doing} ${file} failed: ${(error as Error).message}.` })

const ours = process.getuid?.()

/** Makes the directory, for this user only. One that is there and open to others is tightened; a foreign one is refused. */
export const secretDirectory = (directory: string): Effect.Effect<void, SecretFileError> =>
  Effect.gen(function* () {
    const attempt = <A>(doing: string, f: () => Promise<A>) =>
      Effect.tryPromise({ try: f, catch: failure(doing, directory) })
    yield* attempt("Making the directory", () => fs.mkdir(directory, { recursive: true, mode: 0o700 }))
    const stat = yield* attempt("Reading the directory", () => fs.lstat(directory))
    if (!stat.isDirectory()) {
      return yield* new SecretFileError({
        message: `${directory} is ${stat.isSymbolicLink() ? "a symbolic link" : "not a directory"}; remove it.`
      })
    }
    if (ours === undefined) return
    if (stat.uid !== ours) {
      return yield* new SecretFileError({
        message: `${directory} belongs to user ${stat.uid}, not to the broker's user ${ours}; remove it or choose another base directory.`
      })
    }
    if ((stat.mode & 0o077) !== 0) {
      yield* attempt("Closing to others the directory", () => fs.chmod(directory, 0o700))
    }
  })

const flushDirectory = async (directory: string) => {
  if (process.platform === "win32") return
  const handle = await fs.open(directory, "r")
  await handle.sync().finally(() => handle.close())
}

/** Writes the file whole or not at all: temporary name, sync, rename. Readable by this user only. */
export const writeSecretFile = (file: string, text: string): Effect.Effect<void, SecretFileError> =>
  Effect.tryPromise({
    try: async () => {
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
    },
    catch: failure("Writing", file)
  }).pipe(Effect.uninterruptible)

/**
 * The text of the file, or `undefined` when there is none. A symbolic link, another owner's file, or one that others may
 * read or write is refused.
 */
export const readSecretFile = (file: string): Effect.Effect<string | undefined, SecretFileError> =>
  Effect.gen(function* () {
    const opened = yield* Effect.tryPromise({
      try: () =>
        fs.open(file, fs.constants.O_RDONLY | (fs.constants.O_NOFOLLOW ?? 0)).catch((error: NodeJS.ErrnoException) => {
          if (error.code === "ENOENT") return undefined
          throw error
        }),
      catch: (error) =>
        (error as NodeJS.ErrnoException).code === "ELOOP"
          ? new SecretFileError({ message: `${file} is a symbolic link; remove it.` })
          : failure("Opening", file)(error)
    })
    if (opened === undefined) return undefined
    return yield* Effect.gen(function* () {
      const stat = yield* Effect.tryPromise({ try: () => opened.stat(), catch: failure("Reading", file) })
      if (!stat.isFile()) return yield* new SecretFileError({ message: `${file} is not a file; remove it.` })
      if (ours !== undefined && stat.uid !== ours) {
        return yield* new SecretFileError({
          message: `${file} belongs to user ${stat.uid}, not to you (${ours}); remove it.`
        })
      }
      if (ours !== undefined && (stat.mode & 0o077) !== 0) {
        return yield* new SecretFileError({
          message: `${file} is open to others (mode ${(stat.mode & 0o777).toString(8)}); run chmod 600 on it or remove it.`
        })
      }
      return yield* Effect.tryPromise({ try: () => opened.readFile("utf8"), catch: failure("Reading", file) })
    }).pipe(Effect.ensuring(Effect.promise(() => opened.close())))
  })

/** Removes the file. Nothing happens when it is gone already. */
export const removeFile = (file: string): Effect.Effect<void, SecretFileError> =>
  Effect.tryPromise({ try: () => fs.rm(file, { force: true }), catch: failure("Removing", file) })
