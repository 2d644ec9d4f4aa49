import { rm } from "node:fs/promises"
import { Effect } from "effect"

const isRemoved = (directory: string): Promise<boolean> =>
  rm(directory, { recursive: true, force: true }).then(
    () => true,
    () => false
  )

/** Removes a directory that a process may still write to, for a moment: whoever was killed, or was not waited for. */
export const removed = (directory: string): Effect.Effect<void> =>
  Effect.promise(async () => {
    const latest = Date.now() + 10_000
    while (!(await isRemoved(directory))) {
      if (Date.now() > latest) throw new Error(`${directory} cannot be removed`)
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  })
