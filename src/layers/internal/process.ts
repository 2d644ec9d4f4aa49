import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"
import { Effect } from "effect"

/** Signal 0 reaches the process, or would with more rights. */
export const processExists = (pid: number): boolean => {
  if (!Number.isSafeInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== "ESRCH"
  }
}

/** Start time of a process where reading it is cheap: clock ticks since boot on Linux, `undefined` elsewhere. */
export const quickStartOf = (pid: number): string | undefined => {
  if (process.platform !== "linux") return undefined
  try {
    // The command name is in parentheses and may hold anything; field 22 counts behind the last one.
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
    // A zombie has ended: its parent has only not looked yet.
    return fields[0] === "Z" ? "ended" : fields[19]
  } catch {
    return undefined
  }
}

const run = (file: string, args: ReadonlyArray<string>): Effect.Effect<string | undefined> =>
  Effect.async((resume) => {
    const child = execFile(file, args, { timeout: 2_000, env: { LC_ALL: "C" } }, (error, stdout) =>
      resume(Effect.succeed(error === null && stdout.trim() !== "" ? stdout.trim() : undefined))
    )
    return Effect.sync(() => child.kill())
  })

/** Start time of a process in the words of its system; `undefined` when it is not there or the system does not tell. */
export const startOf = (pid: number): Effect.Effect<string | undefined> =>
  Effect.suspend(() => {
    switch (process.platform) {
      case "linux":
        return Effect.sync(() => quickStartOf(pid))
      case "darwin":
        return run("/bin/ps", ["-o", "lstart=", "-p", String(pid)])
      default:
        return Effect.succeed(undefined)
    }
  })

/** What tells this boot of the machine from the others; `undefined` where the system does not tell. */
export const bootId: Effect.Effect<string | undefined> = Effect.suspend(() => {
  switch (process.platform) {
    case "linux":
      return Effect.sync(() => {
        try {
          return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
        } catch {
          return undefined
        }
      })
    case "darwin":
      return run("/usr/sbin/sysctl", ["-n", "kern.bootsessionuuid"])
    default:
      return Effect.succeed(undefined)
  }
})
