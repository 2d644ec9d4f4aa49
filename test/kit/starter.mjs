// Starts processes for a test worker and tells what they print and how they end. All of them end with the worker.
import { spawn } from "node:child_process"

const running = new Map()
const tell = (told) => process.connected && process.send(told)

process.on("message", ({ args, closeOutputs, command, env, id }) => {
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
process.once("disconnect", () => {
  for (const child of running.values()) child.kill("SIGKILL")
})
