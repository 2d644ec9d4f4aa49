/** Files that hold secrets (`machine/secretFiles`), as effects. */
import { Data, Effect } from "effect"
import * as secretFiles from "../machine/secretFiles.js"

/** A file or directory that holds secrets is not usable. The message says which and what to do. */
export class SecretFileError extends Data.TaggedError("SecretFileError")<{ readonly message: string }> {}

const attempt = <A>(work: () => Promise<A>): Effect.Effect<A, SecretFileError> =>
  Effect.tryPromise({ try: work, catch: (error) => new SecretFileError({ message: (error as Error).message }) })

/** Makes the directory, for this user only. One that is there and open to others is tightened; a foreign one is refused. */
export const secretDirectory = (directory: string): Effect.Effect<void, SecretFileError> =>
  attempt(() => secretFiles.secretDirectory(directory))

/** Writes the file whole or not at all. Readable by this user only. */
export const writeSecretFile = (file: string, text: string): Effect.Effect<void, SecretFileError> =>
  Effect.uninterruptible(attempt(() => secretFiles.writeSecretFile(file, text)))

/**
 * The text of the file, or `undefined` when there is none. A symbolic link, another owner's file, or one that others may
 * read or write is refused.
 */
export const readSecretFile = (file: string): Effect.Effect<string | undefined, SecretFileError> =>
  attempt(() => secretFiles.readSecretFile(file))

/** Removes the file. Nothing happens when it is gone already. */
export const removeFile = (file: string): Effect.Effect<void, SecretFileError> =>
  attempt(() => secretFiles.removeFile(file))
