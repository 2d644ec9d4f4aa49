// Starts processes for a test worker and tells what they print and how they end. All of them end with the worker.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { rmSync } from "node:fs"

const running = new Map()
const directories = []
const tell = (told) => process.connected && process.send(told)

process.on("message", ({ args, closeOutputs, command, directory, env, id }) => {
  if (directory) {
    directories.push(directory)
    return
  }
  if (closeOutputs) {
    running.get(id)?.stdout.destroy()
    running.get(id)?.stderr.destroy()
    return
  }
  const child = spawn(command, args, { env })
  running.set(id, child)
  tell({ id, pid: child.pid })
  for (const output of ["stdout", "stderr"]) {
    child[output].setEncoding("utf8")
    child[output].on("data", (text) => tell({ id, output, text }))
  }
  child.on("close", (code, signal) => {
    running.delete(id)
    tell({ id, code, signal })
  })
})
process.once("disconnect", async () => {
  const ends = Array.from(running.values(), (child) => once(child, "close"))
  for (const child of running.values()) child.kill("SIGKILL")
  await Promise.all(ends)
  for (const directory of directories) rmSync(directory, { recursive: true, force: true })
})
