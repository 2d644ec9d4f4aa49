/** Where an export goes: standard output, or a file for this user only that is whole or not there. */
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from "node:fs"
import { Effect, Option, Stream } from "effect"
import { Exit } from "./exit.js"

export interface Sink {
  /** Writes the line now. Throws when it cannot be written. */
  readonly line: (line: string) => void
  readonly stream: <E>(parts: Stream.Stream<Uint8Array, E>) => Effect.Effect<void, E | Exit>
}

/** Lets `work` write to the file, or to standard output where none is named. */
export const exportTo = <A, E>(
  file: Option.Option<string>,
  work: (sink: Sink) => Effect.Effect<A, E>
): Effect.Effect<A, E | Exit> =>
  Option.match(file, { onNone: () => work(standardOutput), onSome: (name) => toFile(name, work) })

const cannotWrite = (name: string) => (error: unknown) => {
  const { code, message } = error as NodeJS.ErrnoException
  const isThere = code === "EEXIST"
  return new Exit({
    code: 1,
    message: isThere ? `${name} is there already; name another file.` : `Writing ${name} failed: ${message}.`
  })
}

const sinkOf = (name: string, write: (bytes: Uint8Array) => void): Sink => ({
  line: (line) => write(Buffer.from(line)),
  stream: (parts) =>
    Stream.runForEach(parts, (part) => Effect.try({ try: () => write(part), catch: cannotWrite(name) }))
})

const writeAll = (fd: number, bytes: Uint8Array) => {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at)
}

/** Written as it comes, or the process would hold what its reader does not take. */
const standardOutput = sinkOf("standard output", (bytes) => {
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(process.stdout.fd, bytes, at)
    } catch (error) {
      // The reader of a pipe is slower.
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5)
    }
  }
})

const toFile = <A, E>(name: string, work: (sink: Sink) => Effect.Effect<A, E>): Effect.Effect<A, E | Exit> =>
  Effect.acquireUseRelease(
    Effect.try({ try: () => openSync(name, "wx", 0o600), catch: cannotWrite(name) }),
    (fd) =>
      Effect.tap(work(sinkOf(name, (bytes) => writeAll(fd, bytes))), () =>
        Effect.try({ try: () => fsyncSync(fd), catch: cannotWrite(name) })
      ),
    (fd, exit) =>
      Effect.sync(() => {
        closeSync(fd)
        if (exit._tag === "Failure") rmSync(name, { force: true })
      })
  )
