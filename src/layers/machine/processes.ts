/** What the operating system says of processes. Plain TypeScript, for launchers too. */
import { execFile } from "node:child_process"
import { readFileSync } from "node:fs"

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

/** The fields of `/proc/<pid>/stat` behind the command's name, which is in parentheses and may hold anything. */
const statFields = (pid: number): ReadonlyArray<string> | undefined => {
  if (process.platform !== "linux") return undefined
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  } catch {
    return undefined
  }
}

/** Start time of a process where reading it is cheap: clock ticks since boot on Linux, `undefined` elsewhere. */
export const quickStartOf = (pid: number): string | undefined => {
  const fields = statFields(pid)
  // A zombie has ended: its parent has only not looked yet.
  return fields?.[0] === "Z" ? "ended" : fields?.[19]
}

/** Start time of a process in the words of its system; `undefined` when it is not there or the system does not tell. */
export const startOf = async (pid: number): Promise<string | undefined> => {
  switch (process.platform) {
    case "linux":
      return quickStartOf(pid)
    case "darwin":
      return outputOf("/bin/ps", ["-o", "lstart=", "-p", String(pid)])
    default:
      return undefined
  }
}

/** False only when the process is surely gone: no such process, or one that started at another time. */
export const isAlive = (pid: number, start: string | undefined): boolean => {
  if (!processExists(pid)) return false
  const now = quickStartOf(pid)
  return now === undefined || (now !== "ended" && (start === undefined || now === start))
}

/** True when the process is surely halted by a signal or a debugger, and so cannot answer. */
export const isHalted = async (pid: number): Promise<boolean> => {
  const state =
    process.platform === "darwin"
      ? await outputOf("/bin/ps", ["-o", "state=", "-p", String(pid)])
      : statFields(pid)?.[0]
  return /^[Tt]/.test(state ?? "")
}

/** What tells this boot of the machine from the others; `undefined` where the system does not tell. */
export const bootId = async (): Promise<string | undefined> => {
  switch (process.platform) {
    case "linux":
      return quickBootId()
    case "darwin":
      return outputOf("/usr/sbin/sysctl", ["-n", "kern.bootsessionuuid"])
    default:
      return undefined
  }
}

const quickBootId = (): string | undefined => {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()
  } catch {
    return undefined
  }
}

const outputOf = (file: string, args: ReadonlyArray<string>): Promise<string | undefined> =>
  new Promise((resolve) =>
    execFile(file, args, { timeout: 2_000, env: { LC_ALL: "C" } }, (error, stdout) =>
      resolve(error === null && stdout.trim() !== "" ? stdout.trim() : undefined)
    )
  )
