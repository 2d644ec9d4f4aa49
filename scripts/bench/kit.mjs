// What the benchmarks share: a built broker on a core of its own, plugins on real sockets, readings of the broker's process.
import { spawn } from "node:child_process"
import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { Agent, request } from "node:http"
import { cpus, tmpdir } from "node:os"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { WebSocket } from "ws"

const entry = fileURLToPath(new URL("../../dist/programs/broker.js", import.meta.url))
const ticksPerSecond = 100

/**
 * Starts the broker and waits until it is ready. `stop` removes its directory. Its load is measured on a core of its own, the last
 * one, where the system can do that; its start is not: nobody starts one so.
 */
export const startBroker = async (
  settings = {},
  directory = mkdtempSync(join(tmpdir(), "runtime-broker-bench-")),
  isPinned = true
) => {
  const canPin = process.platform === "linux" && cpus().length > 1
  const pin = isPinned && canPin ? ["taskset", "-c", String(cpus().length - 1)] : []
  const [command, ...args] = [...pin, process.execPath, entry]
  const child = spawn(command, args, {
    env: { ...process.env, MASONS_BROKER_CONNECTOR: "loopback", MASONS_BROKER_USER_DATA: directory, ...settings },
    stdio: ["ignore", "pipe", "inherit"]
  })
  const line = await new Promise((resolve, reject) => {
    child.stdout.once("data", (data) => resolve(String(data).split("\n")[0]))
    child.once("exit", (code) => reject(new Error(`the broker ended with ${code}`)))
  })
  const ready = JSON.parse(line)
  const { bearerToken } = JSON.parse(readFileSync(ready.discoveryFile, "utf8"))
  const { operatorToken } = JSON.parse(readFileSync(ready.discoveryFile.replace("discovery", "operator"), "utf8"))
  return {
    ...ready,
    token: bearerToken,
    operatorToken,
    process: child,
    kill: async () => {
      child.removeAllListeners("exit")
      child.kill("SIGKILL")
      await new Promise((resolve) => child.once("exit", resolve))
    },
    stop: async () => {
      child.removeAllListeners("exit")
      child.kill("SIGTERM")
      await new Promise((resolve) => child.once("exit", resolve))
      rmSync(directory, { recursive: true, force: true })
    }
  }
}

/** Resident memory in MiB and CPU used so far in seconds. */
export const readProcess = (pid) => {
  const status = readFileSync(`/proc/${pid}/status`, "utf8")
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8")
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ")
  return {
    rss: Number(/VmRSS:\s+(\d+)/.exec(status)[1]) / 1024,
    cpu: (Number(fields[11]) + Number(fields[12])) / ticksPerSecond
  }
}

const agent = new Agent({ keepAlive: true, maxSockets: 64 })

/** One request on a kept connection. */
export const call = (broker, method, path, body, token = broker.token) =>
  new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body))
    const sent = request(
      broker.url + path,
      {
        agent,
        method,
        headers: { authorization: `Bearer ${token}`, ...(payload ? { "content-length": payload.length } : {}) }
      },
      (response) => {
        let text = ""
        response.setEncoding("utf8")
        response.on("data", (chunk) => {
          text += chunk
        })
        response.on("end", () => resolve({ status: response.statusCode, body: text === "" ? {} : JSON.parse(text) }))
      }
    )
    sent.on("error", reject)
    sent.end(payload)
  })

export const status = async (broker) =>
  (await call(broker, "GET", "/v1/operator/status", undefined, broker.operatorToken)).body

/** A plugin's stream that acknowledges every push and hands messages to `onMessage`. */
export const openStream = (broker, pid, onMessage) =>
  new Promise((resolve, reject) => {
    const stream = new WebSocket(`${broker.url.replace("http", "ws")}/v1/stream`, {
      headers: {
        authorization: `Bearer ${broker.token}`,
        "x-plugin-pid": String(pid),
        "x-masons-ipc-capabilities": "push_receipt_ack_v1"
      }
    })
    stream.on("open", () => resolve(stream))
    stream.on("error", reject)
    stream.on("message", (data) => {
      const frame = JSON.parse(data)
      if (frame.push_id) stream.send(`{"event":"push_ack","push_id":"${frame.push_id}"}`)
      if (frame.event === "message_received") onMessage(frame)
    })
  })

/** Runs `task(n)` for n = 0 … count − 1, so many at a time. */
export const inParallel = async (count, atATime, task) => {
  let next = 0
  await Promise.all(
    Array.from({ length: atATime }, async () => {
      while (next < count) await task(next++)
    })
  )
}

export const row = (name, values) =>
  console.log(
    `${name.padEnd(44)} ${Object.entries(values)
      .map(([key, value]) => `${key} ${value}`)
      .join("   ")}`
  )
